"""wav2vec: the loss against plain loops over pairs, what the model may see, distractors, codes."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from speechssl import shapes
from speechssl.data.dataset import Batch
from speechssl.model.config import ConvEncoderConfig, ModelConfig, size
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.quantizer import VectorQuantizer
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext import wav2vec
from speechssl.pretext.future_pairs import future_pairs, overlap_free_step
from speechssl.pretext.info_nce import draw_negatives
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.task import MaskConfig, Resources, View
from speechssl.pretext.tasks import TaskConfigs, Tasks
from speechssl.pretext.wav2vec import Wav2VecConfig
from speechssl.rng import rng
from speechssl.training.verdict import judge
from tests.pretext.speech import MODELS

SMALL = Wav2VecConfig(num_steps=4, num_negatives=3)
CODES = replace(SMALL, targets="codes", groups=2, entries=6)
LEARNED = replace(CODES, entries=32)
LENGTHS = (6000, 3000, 1000)


def a_config(dims=(8,) * 5) -> ModelConfig:
    config = size("tiny-wav2vec")
    context = replace(config.context, dim=16, num_layers=3, local_layers=3)
    encoder = ConvEncoderConfig(dims, (10, 8, 4, 4, 4), (5, 4, 2, 2, 2))
    return replace(config, encoder=encoder, context=context)


def model_and_task(config=SMALL, model=None):
    torch.manual_seed(0)
    speech = accelerate(SpeechModel(model or a_config())).eval()
    return speech, config.build(speech, Resources()).eval()


def waves(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    wave = 0.2 * torch.randn(len(lengths), max(lengths), generator=generator)
    return shapes.zero_padding(wave, torch.tensor(lengths)), torch.tensor(lengths)


def inputs(model, wave, lengths, index=0) -> Inputs:
    batch = Batch(index, ("",), ("",), wave, wave, lengths)
    return Inputs(model, batch, device=torch.device("cpu"), seed=0, mask=MaskConfig())


def log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))


def pairs_by_hand(task, x):
    """(score of the target, scores of the negatives) of each pair, by loops over plain vectors."""
    config, output = task.config, x.encode(View("distorted", None))
    weight, bias = task.project.weight.detach().numpy(), task.project.bias.detach().numpy()
    for row, num in enumerate(x.frames.tolist()):
        z = output.latents[row, :num].detach()
        if task.quantizer is not None:
            z = task.quantizer(z).vectors.detach()
        z, c = z.numpy().astype(float), output.context[row, :num].detach().numpy().astype(float)
        width = z.shape[1]
        drawn = draw_negatives(
            np.ones((1, num), bool), config.num_negatives, x.rng_of("wav2vec negatives", row)
        )
        for target in range(num):
            for k in range(config.num_steps):
                at = target - task.first_step - k
                if at < 0:
                    continue
                own = slice(k * width, (k + 1) * width)
                h = (weight[own] @ c[at] + bias[own]) / math.sqrt(width)
                others = drawn[target]
                assert ((others >= 0) & (others < num) & (others != target)).all()
                yield z[target] @ h, [z[other] @ h for other in others]


# ---- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, CODES], ids=["latents", "codes"])
def test_the_binary_loss_is_equation_2(config):
    model, task = model_and_task(config)
    x = inputs(model, *waves())
    expected = num = right = 0
    for true, others in pairs_by_hand(task, x):
        mean = np.mean([log_sigmoid(-other) for other in others])
        expected -= log_sigmoid(true) + config.num_negatives * mean  # lambda is their number
        right += true > max(others) + 1e-9
        num += 1
    result = task(x)
    assert task.counts(x)["wav2vec_pairs"] == num > 50
    assert float(result.terms["wav2vec"].total.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(result.metrics["wav2vec/accuracy"]) == pytest.approx(right / num, abs=1e-6)


@pytest.mark.parametrize("config", [SMALL, CODES], ids=["latents", "codes"])
def test_infonce_is_the_log_softmax_of_the_target(config):
    model, task = model_and_task(replace(config, loss="infonce"))
    x = inputs(model, *waves())
    expected = -sum(log_softmax([t, *others])[0] for t, others in pairs_by_hand(task, x))
    assert float(task(x).terms["wav2vec"].total.detach()) == pytest.approx(
        float(expected), rel=1e-5
    )


@pytest.mark.parametrize(
    ("loss", "num", "line"),
    [
        ("infonce", 10, math.log(11)),
        ("infonce", 1, math.log(2)),
        ("binary", 1, 2 * math.log(2)),
        ("binary", 10, 3.35100),
    ],
)
def test_the_chance_line_is_the_best_of_models_that_ignore_their_input(loss, num, line):
    """Of one score for all frames, the best over a fine grid."""
    config = Wav2VecConfig(loss=loss, num_negatives=num)
    assert wav2vec.chance(config) == pytest.approx(line, abs=1e-4)
    values = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    logits = values[:, None].expand(-1, 1 + num)
    of_each = torch.stack(
        [
            wav2vec.info_nce(row[None]) if loss == "infonce" else wav2vec.binary_loss(row[None])
            for row in logits
        ]
    )
    assert float(of_each.min()) == pytest.approx(line, abs=1e-4)


def test_scores_of_zero_cost_log_2_each():
    model, task = model_and_task(SMALL)
    torch.nn.init.zeros_(task.project.weight)
    torch.nn.init.zeros_(task.project.bias)
    x = inputs(model, *waves())
    per_pair = task(x).terms["wav2vec"].total / task.counts(x)["wav2vec_pairs"]
    assert float(per_pair.detach()) == pytest.approx(4 * math.log(2), rel=1e-6)
    assert float(task(x).metrics["wav2vec/accuracy"]) == 0  # equal scores are wrong


# ---- what may be seen ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [lambda m: m, accelerate], ids=["plain", "fast"])
@pytest.mark.parametrize("name", ["tiny-wav2vec", "small one"])
@torch.no_grad()
def test_future_samples_change_no_prediction(form, name):
    config = a_config() if name == "small one" else size(name)
    torch.manual_seed(0)
    model = form(SpeechModel(config)).eval()
    task = Wav2VecConfig().build(model, Resources())
    wave, lengths = waves((16000,))
    before = model(wave, lengths)
    for sample in (3000, 9001, 15000):
        other = wave.clone()
        other[:, sample:] = 3 * torch.randn(16000 - sample) + 1
        after = model(other, lengths)
        num = (sample - 465) // 160 + 1  # frames whose samples are all before it
        for one, two in (
            (before.latents, after.latents),
            (before.context, after.context),
            (task.predictions(before.context[0])[None], task.predictions(after.context[0])[None]),
        ):
            torch.testing.assert_close(one[:, :num], two[:, :num], rtol=1e-4, atol=2e-5)
            assert not torch.allclose(one[:, num:], two[:, num:], rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_a_frame_depends_on_210_ms():
    """As in the paper: nine layers of kernel 3 over latents of 29 ms; but for running statistics,
    which are held here."""
    config = replace(size("tiny-wav2vec"), running_norm=False)
    encoder = replace(config.encoder, norm="layer")
    model = SpeechModel(replace(config, encoder=encoder)).eval()
    wave, lengths = waves((16000,))
    first = 160 * (50 - 18)  # the first sample of the latent 18 frames before
    for sample, depends in ((first - 1, False), (first + 3, True)):
        other = wave.clone()
        other[:, sample] += 0.5
        one, two = (model(w, lengths).context[0, 50] for w in (wave, other))
        assert torch.equal(one, two) is not depends
    milliseconds = (160 * 18 + 465) / 16
    assert milliseconds == pytest.approx(210, abs=2)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_sees_the_future_is_refused(kind):
    with pytest.raises(ValueError, match="wav2vec must not see future frames: give --model"):
        Tasks(TaskConfigs((SMALL,)), SpeechModel(MODELS[kind]), Resources())


# ---- which frames --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field", "first"),
    [("wav2vec", 465, 3), ("tiny-wav2vec", 465, 3), ("base", 400, 2), ("tiny", 640 + 400, 2)],
)
def test_a_target_shares_no_sample_with_its_context(name, field, first):
    config = size(name)
    assert overlap_free_step(config) == first
    assert first * config.hop_samples >= field > (first - 1) * config.hop_samples


@pytest.mark.parametrize("name", ["tiny-wav2vec", "tiny"])
@torch.no_grad()
def test_a_sample_changes_one_latent_or_the_other(name):
    """No sample is in the latents of two frames that are the first step apart; without their norms
    over time, of the encoder alone."""
    config = size(name)
    if name == "tiny":
        encoder = SpeechModel(config).encoder
        encode = lambda wave: encoder.energies(wave).unflatten(1, (-1, 4)).flatten(2)  # noqa: E731
    else:
        encoder = SpeechModel(
            replace(config, encoder=replace(config.encoder, norm="layer"))
        ).encoder
        encode = lambda wave: encoder(wave, torch.tensor([wave.shape[1]]))[0]  # noqa: E731
    wave, _ = waves((8000,))
    plain, step = encode(wave), overlap_free_step(config)
    touched = set()
    for sample in range(3000, 3000 + config.hop_samples, 7):
        other = wave.clone()
        other[:, sample] += 1.0
        frames = (encode(other) - plain).abs().amax((0, 2)).gt(1e-6).nonzero()[:, 0].tolist()
        assert max(frames) - min(frames) < step
        touched.add(max(frames) - min(frames))
    assert max(touched) == step - 1  # one frame less would not do


def test_the_first_step_can_be_chosen():
    assert model_and_task()[1].first_step == 3
    model, task = model_and_task(replace(SMALL, first_step=1))
    x = inputs(model, *waves())
    expected = sum(max(num - step, 0) for num in x.frames.tolist() for step in (1, 2, 3, 4))
    assert task.counts(x)["wav2vec_pairs"] == expected
    assert task.first_step == 1


@pytest.mark.parametrize("frames", [[9, 4, 1, 6], [1], [3, 3], [20]])
@pytest.mark.parametrize(("first", "steps"), [(1, 1), (3, 4), (2, 12)])
def test_pairs_against_loops(frames, first, steps):
    places, contexts = future_pairs(frames, first, steps)
    expected, start = {}, 0
    for num in frames:
        for target in range(num):
            if target >= first:
                expected[start + target] = [
                    start + target - first - k if target >= first + k else -1 for k in range(steps)
                ]
        start += num
    assert dict(zip(places.tolist(), contexts.tolist(), strict=True)) == expected


def test_distractors_are_of_the_utterance_and_never_the_target():
    """Every utterance's latents are one number here: what is drawn is seen in the scores."""
    model, task = model_and_task(replace(SMALL, num_negatives=50))
    x = inputs(model, *waves())
    num = int(x.frames.sum())
    targets = torch.repeat_interleave(torch.arange(3.0), x.frames)[:, None].expand(-1, 8)
    own = targets + torch.linspace(0, 0.1, num)[:, None]
    ones = torch.ones(num, 4, 8) / 8
    scores = task.logits(ones, own, x)
    assert ((scores - scores[:, :1]).abs() < 0.2).all()
    assert (scores[:, 1:] != scores[:, :1]).all()


@pytest.mark.parametrize("config", [SMALL, CODES, replace(SMALL, loss="infonce")])
@pytest.mark.parametrize("lengths", [(200,), (465,), (465 + 2 * 160,), (100, 300)])
def test_an_utterance_that_is_too_short_has_no_pair(config, lengths):
    """One to three frames where the first target is the fourth; the gradient is zero, not None."""
    model, task = model_and_task(config)
    x = inputs(model, *waves(lengths))
    result = task(x)
    assert task.counts(x)["wav2vec_pairs"] == 0
    assert float(result.terms["wav2vec"].total.detach()) == 0
    assert all(value.isfinite() for value in result.metrics.values())
    result.terms["wav2vec"].total.backward()
    assert task.project.weight.grad.abs().sum() == 0
    assert model.project.weight.grad.abs().sum() == 0


def test_one_pair():
    model, task = model_and_task(SMALL)
    x = inputs(model, *waves((465 + 3 * 160,)))
    assert x.frames.tolist() == [4]
    assert task.counts(x)["wav2vec_pairs"] == 1
    assert float(task(x).terms["wav2vec"].total.detach()) > 0


@pytest.mark.parametrize("config", [SMALL, CODES])
def test_what_lies_behind_the_end_changes_nothing(config, monkeypatch):
    """An utterance alone, and beside longer ones, with the same distractors."""
    monkeypatch.setattr(
        Inputs, "rng_of", lambda self, purpose, row: rng(0, purpose, int(self.lengths[row]))
    )
    model, task = model_and_task(config)
    wave, lengths = waves()
    whole = task(inputs(model, wave, lengths)).terms
    alone = [
        task(inputs(model, wave[i : i + 1, :n], lengths[i : i + 1])).terms
        for i, n in enumerate(lengths.tolist())
    ]
    for name, term in whole.items():
        summed = sum(float(one[name].total.detach()) for one in alone)
        assert float(term.total.detach()) == pytest.approx(summed, rel=1e-5), name


def test_distractors_are_a_function_of_seed_and_batch():
    model, task = model_and_task(SMALL)
    first, again, other = (
        float(task(inputs(model, *waves(), index=index)).terms["wav2vec"].total.detach())
        for index in (0, 0, 1)
    )
    assert first == again != other


def test_float32_under_bfloat16():
    model, task = model_and_task(CODES)
    x = inputs(model, *waves())
    plain = task(inputs(model, *waves())).terms
    with torch.autocast("cpu", torch.bfloat16):
        rough = task(x).terms
    for name, term in rough.items():
        assert term.total.dtype == torch.float32
        torch.testing.assert_close(term.total, plain[name].total, rtol=0.05, atol=1.0)


def test_leading_zeros_do_not_blow_up_the_gradient():
    """Where a recording begins with digital silence no norm divides by nothing."""
    torch.manual_seed(0)
    model = accelerate(SpeechModel(size("tiny-wav2vec"))).train()
    task = Wav2VecConfig().build(model, Resources())
    wave, lengths = waves((16000,))
    wave[:, :8000] = 0
    task(inputs(model, wave, lengths)).terms["wav2vec"].total.backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).norm() < 1e5


# ---- codes ---------------------------------------------------------------------------------------


def test_the_quantizer_against_the_formula():
    """Nearest entry of each group; ``mse(e, sg z) + 0.25 mse(z, sg e)``; the gradient goes straight
    through."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, groups=2, entries=5)
    torch.nn.init.normal_(quantizer.start)
    torch.nn.init.normal_(quantizer.moved, std=0.1)
    frames = torch.randn(30, 8, requires_grad=True)
    out = quantizer(frames)
    projected = torch.nn.functional.conv1d(frames[:, :, None], quantizer.project.weight, groups=2)[
        :, :, 0
    ]
    groups = projected.unflatten(1, (2, 4))
    mean, spread = groups.mean(2, keepdim=True), groups.var(2, correction=0, keepdim=True)
    z = (groups - mean) / (spread + 1e-5).sqrt()
    away = (z[:, :, None] - quantizer.codebook).norm(dim=3)  # (N, G, V)
    assert torch.equal(out.codes, away.argmin(2))
    chosen = quantizer.codebook[out.codes]
    assert torch.equal(out.vectors, chosen.flatten(1))
    torch.testing.assert_close(out.errors, 1.25 * (z - chosen).square().mean((1, 2)))
    gradients = torch.randn(30, 8)
    through = torch.autograd.grad(out.vectors, frames, gradients, retain_graph=True)[0]
    plain = torch.autograd.grad(z.flatten(1), frames, gradients, retain_graph=True)[0]
    torch.testing.assert_close(through, plain)
    (own,) = torch.autograd.grad(out.errors.sum(), quantizer.moved)
    difference = torch.zeros(5, 4).index_add_(0, out.codes.flatten(), (chosen - z).flatten(0, 1))
    torch.testing.assert_close(own, difference.detach() * 2 / 8, rtol=1e-4, atol=1e-5)
    assert torch.autograd.grad(out.vectors.sum(), quantizer.moved, allow_unused=True) == (None,)


def test_frames_are_held_to_their_codes_with_a_quarter():
    torch.manual_seed(0)
    losses = {}
    for commitment in (0.0, 0.25):
        torch.manual_seed(0)
        quantizer = VectorQuantizer(8, groups=2, entries=5, commitment=commitment)
        frames = torch.randn(7, 8, requires_grad=True)
        quantizer(frames).errors.sum().backward()
        losses[commitment] = frames.grad.abs().sum()
    assert losses[0.0] == 0
    assert losses[0.25] > 0


def test_entries_begin_as_frames_of_the_training_set():
    """The same in every run of a seed; found again in the state."""
    model, task = model_and_task(CODES)
    wave, lengths = waves()
    each = [inputs(model, wave[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(LENGTHS)]
    task.fit(each, 3)
    latents = torch.cat([model(x.batch.clean, x.batch.lengths).latents[0] for x in each])
    groups = task.quantizer._parts(latents).flatten(0, 1)
    away = (task.quantizer.codebook[:, None] - groups).abs().amax(2)  # (V, N G)
    assert float(away.amin(1).max().detach()) < 1e-5
    assert len(set(away.argmin(1).tolist())) == 6
    again = model_and_task(CODES)[1]
    again.fit(iter(each), 3)
    assert torch.equal(again.quantizer.start, task.quantizer.start)
    again.fit(iter(each), 4)
    assert not torch.equal(again.quantizer.start, task.quantizer.start)
    again.load_state_dict(task.state_dict())
    assert torch.equal(again.quantizer.codebook, task.quantizer.codebook)
    with pytest.raises(ValueError, match=r"200 codes need at least as many frames .* got 110"):
        model_and_task(replace(CODES, entries=200))[1].fit(each, 0)
    model_and_task(SMALL)[1].fit(iter(()), 0)  # nothing to fit


def test_no_frame_is_no_error():
    out = VectorQuantizer(8, groups=2, entries=5)(torch.zeros(0, 8))
    assert out.vectors.shape == (0, 8)
    assert out.codes.shape == (0, 2)
    assert out.errors.shape == (0,)


def test_codes_are_counted_over_valid_frames_and_their_perplexity_is_told():
    model, task = model_and_task(CODES)
    x = inputs(model, *waves())
    result = task(x)
    assert task.counts(x)["wav2vec_frames"] == int(x.frames.sum())
    for group in range(2):
        tally = result.tallies[f"wav2vec/group_{group}"]
        assert int(tally.sum()) == int(x.frames.sum())
        share = tally[tally > 0] / tally.sum()
        expected = float(torch.exp(-(share * share.log()).sum()))
        found = task.summarize(result.tallies)[f"wav2vec/perplexity_group_{group}"]
        assert found == pytest.approx(expected, rel=1e-5)
    assert task.codes(x).shape == (3, int(x.frames.max()), 2)
    assert task.num_codes == 6
    assert model_and_task(SMALL)[1].codes(x) is None


@pytest.mark.parametrize(("perplexity", "name"), [(1.2, "codebook collapse"), (90.0, "healthy")])
def test_a_collapsed_codebook_is_named_with_its_advice(perplexity, name):
    config = Wav2VecConfig(targets="codes")
    valid = {
        "valid/loss": 2.0,
        "valid/wav2vec": 2.0,
        "valid/wav2vec/chance": wav2vec.chance(config),
        "valid/wav2vec/perplexity_group_0": 80.0,
        "valid/wav2vec/perplexity_group_1": perplexity,
    }
    records = [{"step": step, "loss/total": 2.0, **valid} for step in range(10, 60, 10)]
    verdict = judge(records, {"tasks": {"wav2vec": {}}}, config.signals)
    assert verdict.name == name
    if name != "healthy":
        assert (
            "Group 1 of wav2vec's codebook uses 1.200 of its 320" in verdict.findings[0].evidence[0]
        )
        assert "--wav2vec.targets latents" in verdict.findings[0].advice


@pytest.mark.parametrize("loss", ["binary", "infonce"])
def test_a_loss_at_its_chance_line_is_named(loss):
    config = Wav2VecConfig(loss=loss)
    line = wav2vec.chance(config)
    records = [
        {"step": s, "loss/wav2vec": line, "valid/loss": line, "valid/wav2vec": line}
        | {"valid/wav2vec/chance": line}
        for s in range(10, 60, 10)
    ]
    verdict = judge(records, {"tasks": {"wav2vec": {}}}, config.signals)
    assert verdict.name == "at chance"
    assert "ignores its input" in verdict.findings[0].evidence[0]


def test_a_collapsed_codebook_is_no_way_to_a_low_loss():
    """All targets equal: the loss is at chance at best, whatever the context says."""
    model, task = model_and_task(replace(CODES, loss="infonce", entries=1))
    x = inputs(model, *waves())
    per_pair = task(x).terms["wav2vec"].total / task.counts(x)["wav2vec_pairs"]
    assert float(per_pair.detach()) == pytest.approx(math.log(4), rel=1e-5)


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, loss="infonce"), LEARNED])
def test_it_learns_what_can_be_predicted(config):
    """A chirp of two alternating tones: below chance in a few dozen updates."""
    torch.manual_seed(0)
    model = accelerate(SpeechModel(a_config((16,) * 5))).train()
    task = config.build(model, Resources())
    time = torch.arange(6400) / 16000
    wave = torch.sin(2 * torch.pi * torch.where(torch.arange(6400) // 800 % 2 > 0, 300, 900) * time)
    wave, lengths = wave[None] * 0.3, torch.tensor([6400])
    task.fit([inputs(model, wave, lengths)], 0)
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=3e-3)
    for step in range(60):
        x = inputs(model, wave, lengths, step)
        terms, counts = task(x).terms, task.counts(x)
        loss = sum(term.total * term.weight / counts[term.count] for term in terms.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    per_pair = float(terms["wav2vec"].total.detach()) / counts["wav2vec_pairs"]
    assert per_pair < 0.8 * wav2vec.chance(config)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"loss": "hinge"}, "wav2vec.loss must be one of binary, infonce, got 'hinge'"),
        ({"num_negatives": 0}, "wav2vec.num_negatives must be at least 1"),
        ({"num_steps": 0}, "wav2vec.num_steps must be at least 1"),
        ({"first_step": -1}, "wav2vec.first_step must"),
        ({"targets": "units"}, "wav2vec.targets must be one of latents, codes"),
        ({"weight": -1.0}, "wav2vec.weight must not be negative"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        Wav2VecConfig(**fields)


def test_groups_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match=r"wav2vec.groups must divide the encoder's width \(8\)"):
        model_and_task(replace(CODES, groups=3))


def test_signals_are_plain_data():
    assert [s.metric for s in Wav2VecConfig().signals] == ["wav2vec", "wav2vec/accuracy"]
    groups = [s.metric for s in Wav2VecConfig(targets="codes", groups=3).signals[2:]]
    assert groups == [f"wav2vec/perplexity_group_{g}" for g in range(3)]
    assert json.dumps([s.evidence for s in CODES.signals])
