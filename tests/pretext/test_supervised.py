"""The task ctc: the sum over labeled utterances, what is left out, alphabets, its error rate."""

import itertools
import math

import jiwer
import pytest
import torch
import torch.nn.functional as F

from speechssl.data.dataset import Batch
from speechssl.decoding.greedy import greedy_decode
from speechssl.pretext.ctc import best_path, ctc_chance, edit_distance, sort_labels
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.supervised import CTCConfig, CTCTask
from speechssl.pretext.task import MaskConfig, Resources, combine
from tests.pretext.speech import MODELS, TOKENIZER, a_model, gradient, waves

LENGTHS = (9000, 4000, 7000, 2500)


@pytest.fixture(scope="module")
def model():
    return a_model("filterbank")


PLAIN = CTCConfig()


def a_task(config=PLAIN, num_heads=1):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        dim = MODELS["filterbank"].context.dim
        return CTCTask(config, dim, TOKENIZER, num_heads).eval()


def given(model, texts, rows=None, corpora=(), number=0, weights=()):
    wave, lengths = waves()
    rows = list(range(len(texts))) if rows is None else rows
    lengths = lengths[rows]
    wave = wave[rows, : int(lengths.max())]
    names = ("",) * len(rows)
    batch = Batch(number, names, tuple(texts), wave, wave, lengths, weights=weights)
    return Inputs(
        model,
        batch,
        device=torch.device("cpu"),
        seed=0,
        mask=MaskConfig(share=0.5),
        tokenizer=TOKENIZER,
        corpora=corpora,
    )


def plain_loss(log_probs, ids):
    """-log of the sum over all paths of (T, V) that spell `ids`, by listing them."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        spelled = [symbol for symbol, _ in itertools.groupby(path) if symbol]
        if spelled == list(ids):
            total += math.exp(sum(float(row[s]) for row, s in zip(log_probs, path, strict=True)))
    return -math.log(total)


def test_the_sum_is_that_of_all_paths(model):
    """2500 samples are four frames of 40 ms; 'be' is two of its symbols."""
    task = a_task()
    x = given(model, ("be",), [3])
    (log_probs,) = task.heads[0](x.encode(task.view.__class__(mask=None)).context)
    ids = TOKENIZER.encode("be")
    log_probs = log_probs[: int(x.frames[0])]
    small = torch.cat(
        [log_probs[:, [0, *ids]], (1 - log_probs[:, [0, *ids]].exp().sum(1, True)).log()], 1
    )
    # symbols other than the blank and those two: one more, which no path that spells 'be' has
    assert float(task(x).terms["ctc"].total.detach()) == pytest.approx(
        plain_loss(small.detach()[:, :3], [1, 2]), rel=1e-4
    )


def test_utterances_without_text_add_nothing(model):
    task = a_task()
    mixed = task(given(model, ("bad cab", "", "face", ""))).terms["ctc"]
    alone = [task(given(model, (t,), [i])).terms["ctc"] for t, i in (("bad cab", 0), ("face", 2))]
    torch.testing.assert_close(mixed.total, alone[0].total + alone[1].total)
    assert task.counts(given(model, ("bad cab", "", "face", ""))) == {"ctc_symbols": 11}
    assert task.counts(given(model, ("", "", "", ""))) == {"ctc_symbols": 0}


def test_a_batch_without_text_has_a_gradient_of_zero(model):
    task = a_task()
    result = task(given(model, ("", "", "", "")))
    combine(result.terms, {"ctc_symbols": 0}).backward()
    grads = gradient(model, task)
    assert not any(g.any() for g in grads.values())
    assert {"heads.0.linear.weight", "heads.0.linear.bias"} <= grads.keys()
    assert "ctc/left_out" not in result.metrics


def test_micro_batches_add_up(model):
    task = a_task()
    texts = ("bad cab", "", "face", "be")
    counts = {"ctc_symbols": 13}
    combine(task(given(model, texts)).terms, counts).backward()
    whole = gradient(model, task)
    for rows in ([0, 1], [2, 3]):
        combine(task(given(model, [texts[i] for i in rows], rows)).terms, counts).backward()
    parts = gradient(model, task)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "length", "kind"),
    [
        ("be", 2, "used"),
        ("be", 1, "too_long"),
        ("bb", 2, "too_long"),  # a blank between equal symbols
        ("bb", 3, "used"),
        ("bx", 9, "unknown"),
        ("x" * 99, 9, "unknown"),
        ("", 9, "none"),
        ("  ", 9, "none"),
    ],
)
def test_what_can_be_learned(text, length, kind):
    found = sort_labels([text], [length], [0], TOKENIZER)
    assert (found.num_texts, found.too_long, found.unknown) == (
        int(kind != "none"),
        int(kind == "too_long"),
        int(kind == "unknown"),
    )
    assert found.rows == ({0: [0]} if kind == "used" else {})
    if kind == "used":
        ids = torch.tensor(found.ids[0])
        log_probs = torch.zeros(length, 1, TOKENIZER.vocab_size).log_softmax(2)
        loss = F.ctc_loss(log_probs, ids, torch.tensor([length]), torch.tensor([ids.shape[1]]))
        assert torch.isfinite(loss)  # nothing for zero_infinity to hide


def test_what_is_left_out_is_counted_and_changes_no_loss(model):
    task = a_task()
    texts = ("bad cab", "face " * 30, "fxce", "be")
    result = task(given(model, texts))
    rest = task(given(model, ("bad cab", "", "", "be")))
    torch.testing.assert_close(result.terms["ctc"].total, rest.terms["ctc"].total)
    assert task.counts(given(model, texts)) == {"ctc_symbols": 9}
    assert float(result.metrics["ctc/left_out"]) == 0.5
    found = task.summarize(result.gathered)
    assert found["ctc/too_long"] == found["ctc/unknown"] == 0.25
    assert found["ctc/left_out"] == 0.5


def test_more_rows_a_frame_fit_more_text(model):
    text = "abcdef" * 1
    x = given(model, (text,), [3])
    assert len(text) > int(x.frames[0])
    assert a_task().counts(x) == {"ctc_symbols": 0}
    assert a_task(CTCConfig(upsample=3)).counts(x) == {"ctc_symbols": 6}
    assert torch.isfinite(a_task(CTCConfig(upsample=3))(x).terms["ctc"].total)


# ---- alphabets ----------------------------------------------------------------------------------


def test_each_corpus_has_its_head(model):
    task = a_task(CTCConfig(alphabets="per_corpus"), num_heads=2)
    texts = ("bad", "cab", "face", "be")
    both = task(given(model, texts, corpora=(0, 1, 0, 1))).terms["ctc"].total
    one = a_task()
    totals = 0.0
    for number in (0, 1):
        one.heads[0].load_state_dict(task.heads[number].state_dict())
        own = [t if i % 2 == number else "" for i, t in enumerate(texts)]
        totals += float(one(given(model, own)).terms["ctc"].total.detach())
    assert float(both.detach()) == pytest.approx(totals, rel=1e-5)
    both.backward()
    grads = gradient(model, task)
    assert grads["heads.0.linear.weight"].any()
    assert grads["heads.1.linear.weight"].any()


def test_the_head_of_a_corpus_that_is_not_there_gets_no_gradient(model):
    task = a_task(CTCConfig(alphabets="per_corpus"), num_heads=2)
    task(given(model, ("bad", "cab"), [0, 1], corpora=(1, 1))).terms["ctc"].total.backward()
    grads = gradient(model, task)
    assert not grads["heads.0.linear.weight"].any()
    assert grads["heads.1.linear.weight"].any()


def test_one_alphabet_looks_at_no_corpus(model):
    task = a_task()
    first = task(given(model, ("bad", "cab"), [0, 1], corpora=(0, 5)))
    assert torch.equal(
        first.terms["ctc"].total, task(given(model, ("bad", "cab"), [0, 1])).terms["ctc"].total
    )


def test_an_unknown_corpus_is_said(model):
    task = a_task(CTCConfig(alphabets="per_corpus"), num_heads=2)
    with pytest.raises(ValueError, match=r"each of the 2 manifests .* is of manifest 3"):
        task.counts(given(model, ("bad",), [0], corpora=(2,)))


@pytest.mark.parametrize(("alphabets", "num"), [("one", 1), ("per_corpus", 3)])
def test_the_number_of_heads(model, alphabets, num):
    resources = Resources(tokenizer=TOKENIZER, num_corpora=3)
    task = CTCConfig(alphabets=alphabets).build(model, resources)
    assert len(task.heads) == num
    assert task.recogniser is task.heads[0]


# ---- its numbers --------------------------------------------------------------------------------


@torch.no_grad()
def test_validation_is_not_masked(model):
    """In training the masks of the run are those of the task; in validation there are none."""
    task = a_task()
    texts = ("bad cab", "", "face", "be")
    x = given(model, texts)
    clean = float(task(x).terms["ctc"].total.detach())
    assert clean == float(a_task(CTCConfig(mask=False))(given(model, texts)).terms["ctc"].total)
    masked = float(task.train()(given(model, texts)).terms["ctc"].total.detach())
    assert masked != clean


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("kitten", "sitting"),
        ("", "abc"),
        ("abc", ""),
        ("", ""),
        ("abc", "abc"),
        ("ab", "ba"),
        ("sunday", "saturday"),
        ("aaaa", "a"),
    ],
)
def test_edit_distance_is_jiwers(first, second):
    found = edit_distance(list(map(ord, first)), list(map(ord, second)))
    if first:
        out = jiwer.process_characters(first, second)
        assert found == out.substitutions + out.deletions + out.insertions
    else:
        assert found == len(second)


def test_the_best_path_is_that_of_greedy_decoding():
    log_probs = torch.randn(3, 20, 5, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    lengths = [20, 7, 1]
    plain = [h.ids for h in greedy_decode(log_probs, torch.tensor(lengths))]
    assert best_path(log_probs, lengths) == plain


def test_cer_and_chance_over_a_validation(model):
    task = a_task()
    with torch.no_grad():  # always writes 'b'
        task.heads[0].linear.weight.zero_()
        task.heads[0].linear.bias.copy_(torch.eye(TOKENIZER.vocab_size)[TOKENIZER.encode("b")[0]])
    texts = [("bad cab", "", "face", "be"), ("b", "xb")]
    parts = [task(given(model, t, number=i)).gathered for i, t in enumerate(texts)]
    found = task.summarize({n: torch.cat([p[n] for p in parts]) for n in parts[0]})
    # bad cab: 6 of 7 wrong, face: 4 of 4, be: 1 of 2, b: 0 of 1, xb: 1 of 2
    assert found["ctc/cer"] == pytest.approx(12 / 16)
    ids = [TOKENIZER.encode(t) for t in ("bad cab", "face", "be", "b")]
    assert found["ctc/chance"] == pytest.approx(ctc_chance(ids))
    assert found["ctc/unknown"] == pytest.approx(1 / 5)


def test_an_unknown_character_is_an_error_whatever_is_written(model):
    task = a_task()
    with torch.no_grad():  # always writes the unknown symbol
        task.heads[0].linear.weight.zero_()
        task.heads[0].linear.bias.copy_(torch.eye(TOKENIZER.vocab_size)[1])
    assert task.summarize(task(given(model, ("x",), [0])).gathered)["ctc/cer"] == 1.0


def test_a_validation_without_text_has_no_error_rate(model):
    task = a_task()
    assert task.summarize(task(given(model, ("", "", "", ""))).gathered) == {}


def test_it_learns_a_batch():
    model, task = a_model("filterbank"), a_task(CTCConfig(mask=False, upsample=2))
    texts = ("bad cab", "", "face", "be")
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=3e-2)
    losses = []
    for _ in range(25):
        total = task(given(model, texts)).terms["ctc"].total / 13
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("weights", [(1.0, 0.5, 0.25), (0.0, 2.0, 1.0), (0.3, 1.0, 0.0)])
@torch.no_grad()
def test_a_transcript_counts_by_its_weight(model, weights):
    task, texts = a_task(), ["ab", "", "ba"]
    whole = task(given(model, texts, weights=weights)).terms["ctc"]
    alone = [task(given(model, [texts[i]], rows=[i])).terms["ctc"].total for i in (0, 2)]
    assert float(whole.total) == pytest.approx(
        weights[0] * float(alone[0]) + weights[2] * float(alone[1]), rel=1e-4
    )


@torch.no_grad()
def test_weights_of_one_are_no_weights(model):
    task, texts = a_task(), ["ab", "", "ba"]
    weighted = task(given(model, texts, weights=(1.0, 1.0, 1.0))).terms["ctc"].total
    assert float(weighted) == pytest.approx(float(task(given(model, texts)).terms["ctc"].total))
