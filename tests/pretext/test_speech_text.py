"""The task speech_text: its loss against a plain one, who counts, what a validation measures."""

import math

import pytest
import torch

from speechssl.data.dataset import Batch
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.speech_text import MAX_SCALE, SpeechTextConfig, SpeechTextTask, key_of
from speechssl.pretext.task import MaskConfig, combine
from tests.pretext.speech import MODELS, TOKENIZER, a_model, waves

LENGTHS = (9000, 4000, 7000, 2500)
CONFIG = SpeechTextConfig(dim=8, text_dim=8, text_kernel=3)


@pytest.fixture(scope="module")
def model():
    return a_model("filterbank")


def a_task(config=CONFIG):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return SpeechTextTask(config, MODELS["filterbank"].context.dim, TOKENIZER).eval()


def given(model, texts, lengths=LENGTHS, seed=0):
    lengths = lengths[: len(texts)]
    wave, sizes = waves(lengths)
    batch = Batch(seed, ("",) * len(texts), tuple(texts), wave, wave, sizes)
    return Inputs(
        model,
        batch,
        device=torch.device("cpu"),
        seed=0,
        mask=MaskConfig(share=0.5),
        tokenizer=TOKENIZER,
    )


@pytest.mark.parametrize("texts", [("bad", "cab", "face", "be"), ("bad", "", "face", "bad")])
@torch.no_grad()
def test_the_loss_is_the_plain_one(model, texts):
    """Each utterance and text by itself; similarities of all pairs; both directions written out."""
    task = a_task()
    x = given(model, texts)
    found = task(x).terms["speech_text"]
    rows = [i for i, text in enumerate(texts) if text]
    speech, words = [], []
    for i in rows:
        alone = given(model, texts)
        output = alone.encode(task.view)
        frames = output.context[i, : int(output.lengths[i])]  # (T, D)
        hidden = torch.nn.functional.gelu(
            frames @ task.speech_pooling.hidden.weight.T + task.speech_pooling.hidden.bias
        )
        speech.append(task.speech_pooling.project(hidden.mean(0)))
        words.append(task.of_texts([texts[i]])[0])
    similarity = [
        [float(s @ w / (s.norm() * w.norm())) / CONFIG.temperature for w in words] for s in speech
    ]
    total = 0.0
    for a, i in enumerate(rows):
        same = [b for b, j in enumerate(rows) if texts[j] == texts[i]]
        for line in (similarity[a], [row[a] for row in similarity]):
            log_sum = math.log(sum(map(math.exp, line)))
            total += sum(log_sum - line[b] for b in same) / len(same) / 2
    assert float(found.total) == pytest.approx(total, rel=1e-4)
    assert found.count == "speech_text_pairs"
    assert task.counts(x) == {"speech_text_pairs": len(rows)}


@pytest.mark.parametrize(
    ("texts", "num"),
    [
        (("", "", "", ""), 0),
        (("bad", "", "", ""), 0),  # nothing to tell it from
        (("bad", "bad", "bad", ""), 0),
        (("bad", " bad ", "", "be"), 3),  # one text in two spellings, and another
        (("bad", "cab", "", ""), 2),
        (("  ", "cab", "be", ""), 2),
    ],
)
def test_who_counts(model, texts, num):
    task = a_task()
    x = given(model, texts)
    result = task(x)
    assert task.counts(x) == {"speech_text_pairs": num}
    if not num:
        assert float(result.terms["speech_text"].total.detach()) == 0
        assert not result.gathered


def test_utterances_without_text_change_nothing(model):
    task = a_task()
    with_rest = task(given(model, ("bad", "", "face", ""))).terms["speech_text"].total
    wave, lengths = waves()
    keep = [0, 2]
    batch = Batch(0, ("", ""), ("bad", "face"), wave[keep], wave[keep], lengths[keep])
    x = Inputs(
        model, batch, device=torch.device("cpu"), seed=0, mask=MaskConfig(), tokenizer=TOKENIZER
    )
    torch.testing.assert_close(task(x).terms["speech_text"].total, with_rest)


def test_a_batch_without_pairs_still_reaches_all_weights(model):
    """So that processes whose micro-batch has none agree on what has a gradient."""
    task = a_task()
    x = given(model, ("", "", "", ""))
    combine(task(x).terms, {"speech_text_pairs": 0}).backward()
    assert all(p.grad is not None and not p.grad.any() for p in task.parameters())
    model.zero_grad(set_to_none=True)


def test_one_frame_is_enough(model):
    task = a_task()
    x = given(model, ("bad", "cab"), lengths=(400, 400))
    assert x.frames.tolist() == [1, 1]
    assert torch.isfinite(task(x).terms["speech_text"].total)


@torch.no_grad()
def test_the_factor_is_held_below_100(model):
    task = a_task(SpeechTextConfig(dim=8, text_dim=8, temperature=0.07))
    assert float(task.log_scale.exp()) == pytest.approx(1 / 0.07, rel=1e-6)
    task.log_scale.fill_(10.0)
    task.before_update(0, 1, model)
    assert float(task.log_scale.exp()) == pytest.approx(MAX_SCALE, rel=1e-5)
    task.log_scale.fill_(1.0)
    task.before_update(0, 1, model)
    assert float(task.log_scale) == 1.0


def test_a_validation_measures_recall_over_all_its_batches(model):
    """Two batches with the same two texts are four utterances and two texts to choose from."""
    task = a_task()
    parts = [
        task(given(model, texts, seed=i)).gathered
        for i, texts in enumerate([("bad", "cab"), ("cab", "bad", "face")])
    ]
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    assert whole["speech_text/speech"].shape == (5, 8)
    found = task.summarize(whole)
    speech, texts = whole["speech_text/speech"], ["bad", "cab", "cab", "bad", "face"]
    words = ["bad", "cab", "face"]
    scores = speech @ task.of_texts(words).T
    right = [words[int(row.argmax())] == text for row, text in zip(scores, texts, strict=True)]
    assert found["speech_text/find_text_at_1"] == pytest.approx(sum(right) / 5)
    assert found["speech_text/find_text_at_1_chance"] == pytest.approx(1 / 3)
    assert found["speech_text/find_speech_at_1_chance"] == pytest.approx(
        (2 / 5 + 2 / 5 + 1 / 5) / 3
    )
    assert found["speech_text/find_speech_at_10"] == 1.0
    assert found["speech_text/chance"] == pytest.approx((2 * math.log(2) + 3 * math.log(3)) / 5)


def test_training_gathers_nothing(model):
    task = a_task().train()
    assert not task(given(model, ("bad", "cab"))).gathered


def test_it_learns_to_tell_utterances_apart():
    model = a_model("filterbank")
    task = a_task()
    texts = ("bad", "cab", "face", "be")
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=2e-2)
    losses = []
    for _ in range(15):
        total = task(given(model, texts)).terms["speech_text"].total / 4
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[0] > 1.0  # chance is log 4 = 1.39
    assert losses[-1] < 0.5
    speech = task(given(model, texts)).gathered["speech_text/speech"]
    assert (speech @ task.of_texts(list(texts)).T).argmax(1).tolist() == [0, 1, 2, 3]


def test_the_mask_is_a_choice(model):
    """In training; a validation is as a search will be."""
    masked = a_task(SpeechTextConfig(dim=8, text_dim=8, text_kernel=3, mask=True))
    assert masked.needs.views != a_task().needs.views
    texts = ("bad", "cab", "face", "be")
    with torch.no_grad():
        plain = a_task()(given(model, texts)).terms["speech_text"].total
        assert masked(given(model, texts)).terms["speech_text"].total == plain
        assert masked.train()(given(model, texts)).terms["speech_text"].total != plain


def test_bfloat16_gives_float32_vectors(model):
    """Both encoders compute in float32 whatever the autocast: the cosines are all there is."""
    task = a_task()
    output = given(model, ("bad", "cab", "face", "be")).encode(task.view)
    exact = task.of_speech(output.context, output.lengths)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(task.of_speech(output.context, output.lengths), exact)
        assert task.of_texts(["bad"]).dtype == torch.float32
        rounded = task.of_speech(output.context.bfloat16(), output.lengths)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"text_kernel": 4}, "text_kernel must be odd, got 4"),
        ({"temperature": 0.0}, "speech_text.temperature"),
        ({"dim": 0}, "speech_text.dim"),
        ({"weight": -1.0}, "speech_text.weight"),
    ],
)
def test_bad_settings(settings, match):
    with pytest.raises(ValueError, match=match):
        SpeechTextConfig(**settings)


def test_keys_are_the_same_everywhere_and_fit_int64():
    assert key_of("wó twεrε") == key_of("wó twεrε") != key_of("wó twεrε ")
    assert 0 <= key_of("x") < 2**63
