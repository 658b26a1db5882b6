"""Learning without forgetting: the divergence from a frozen model's outputs, against numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from speechssl.pretext.ctc_distillation import (
    CTCDistillationConfig,
    CTCDistillationTask,
)
from speechssl.pretext.kept_outputs import in_16_bits, spread_out
from speechssl.pretext.task import Resources, View, combine
from speechssl.pretext.teacher import Recogniser
from tests.pretext.speech import (
    MODELS,
    TOKENIZER,
    GivenInputs,
    a_model,
    a_model_of,
    a_recogniser,
    gradient,
    waves,
)

ALL = CTCDistillationConfig(top=64)
"""Every symbol is kept."""


def a_task(config=ALL, kind="filterbank", student=0):
    """A student, its task, and the teacher."""
    teacher = a_recogniser(kind, config.upsample)
    model = a_model(kind, student)
    return model, CTCDistillationTask(config, model, teacher).eval(), teacher


def inputs(model, task, rows=None, **given):
    wave, lengths = waves()
    rows = list(range(len(lengths))) if rows is None else rows
    lengths = lengths[rows]
    return GivenInputs(model, wave[rows, : int(lengths.max())], lengths, task=task, **given)


def softmax(values, temperature=1.0):
    values = np.exp((values - values.max(-1, keepdims=True)) / temperature)
    return values / values.sum(-1, keepdims=True)


@torch.no_grad()
def rows_by_numpy(task, teacher, model, x):
    """Of each row that counts ``(loss, q (V,))``, in numpy from both models' logits."""
    config = task.config
    wave, lengths = x.wave(), x.lengths
    wanted = teacher.model.head.linear(teacher.model.speech(wave, lengths).context)
    mask = x.mask(task.view) if config.mask else None
    emitted = task.head.linear(model(wave, lengths, mask=mask).context)
    wanted, emitted = (v.numpy().astype(np.float64) for v in (wanted, emitted))
    found = []
    for row, num in enumerate(x.frames.tolist()):
        for frame in range(num):
            masked = bool(mask is not None and mask[row, frame])
            if {"all": False, "masked": not masked, "unmasked": masked}[config.frames]:
                continue
            for part in range(config.upsample):
                own = slice(part * TOKENIZER.vocab_size, (part + 1) * TOKENIZER.vocab_size)
                q = softmax(wanted[row, frame, own], config.temperature)
                p = softmax(emitted[row, frame, own], config.temperature)
                blank = softmax(wanted[row, frame, own])[0]
                weight = 1 - (1 - config.blank_weight) * blank
                found.append((weight * (q * np.log(q / p)).sum(), weight, q))
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 1.0, "blank_weight": 1.0},
        {"temperature": 4.0, "blank_weight": 0.0},
        {"frames": "masked"},
        {"frames": "unmasked"},
        {"mask": False},
        {"upsample": 2},
        {"upsample": 3, "frames": "masked", "temperature": 1.5},
    ],
)
def test_the_loss_is_that_of_the_formula(changes):
    model, task, teacher = a_task(replace(ALL, **changes))
    x = inputs(model, task)
    rows = rows_by_numpy(task, teacher, model, x)
    assert task.counts(x) == {"ctc_distillation_rows": len(rows)}
    result = task(x)
    total = float(result.terms["ctc_distillation"].total.detach())
    assert total == pytest.approx(sum(loss for loss, _, _ in rows), rel=2e-4)
    assert total > 0.01 * len(rows)


def test_the_chance_line_is_the_best_constant():
    model, task, teacher = a_task()
    x = inputs(model, task)
    rows = rows_by_numpy(task, teacher, model, x)
    weights, targets = np.array([w for _, w, _ in rows]), np.stack([q for _, _, q in rows])
    mean = (weights[:, None] * targets).sum(0) / weights.sum()

    def loss_of(constant):
        return (weights * (targets * np.log(targets / constant)).sum(1)).sum() / len(rows)

    found = task.summarize(task(x).tallies)
    assert found["ctc_distillation/chance"] == pytest.approx(loss_of(mean), rel=1e-3)
    generator = np.random.default_rng(0)
    others = (softmax(np.log(mean) + 0.3 * generator.standard_normal(len(mean))) for _ in range(20))
    assert all(loss_of(other) > loss_of(mean) for other in others)


def test_a_student_that_is_the_teacher_loses_nothing():
    model, task, _ = a_task(replace(ALL, mask=False), student=5)
    result = task(inputs(model, task))
    assert float(result.terms["ctc_distillation"].total.detach()) < 1e-4
    assert task.summarize(result.tallies)["ctc_distillation/agreement"] == 1.0


def test_the_head_begins_as_the_teachers_and_learns_without_it():
    model, task, teacher = a_task()
    assert torch.equal(task.head.linear.weight, teacher.model.head.linear.weight)
    assert task.head.linear.weight is not teacher.model.head.linear.weight
    assert {name for name, _ in task.named_parameters()} == {
        "head.linear.weight",
        "head.linear.bias",
    }
    x = inputs(model, task)
    combine(task(x).terms, task.counts(x)).backward()
    assert all(g.abs().sum() > 0 for n, g in gradient(model, task).items() if "head" in n)
    assert all(p.grad is None for p in teacher.model.parameters())


def test_a_student_of_another_width_begins_with_a_fresh_head():
    model = a_model_of(
        replace(MODELS["filterbank"], context=replace(MODELS["filterbank"].context, dim=12))
    )
    task = CTCDistillationTask(ALL, model, a_recogniser("filterbank")).eval()
    assert task.head.linear.weight.shape == (TOKENIZER.vocab_size, 12)
    assert float(task(inputs(model, task)).terms["ctc_distillation"].total.detach()) > 0


def test_the_teacher_of_a_run_is_a_copy():
    teacher = a_recogniser("filterbank")
    again = Recogniser.frozen(teacher.model, teacher.tokenizer)
    assert again.model is not teacher.model
    assert not any(p.requires_grad for p in again.model.parameters())
    assert not again.model.training


@pytest.mark.parametrize("top", [1, 2, 4, 8])
def test_few_symbols_are_nearly_all(top):
    """What is kept adds up to 1, and the divergence from the whole output falls with `top`."""
    model, task, _ = a_task(replace(ALL, top=top))
    _, whole, _ = a_task()
    x = inputs(model, task)
    counted = task._counted(x)
    kept, blank = task._targets(x, counted)
    exact, same = whole._targets(inputs(model, whole), counted)
    torch.testing.assert_close(kept.sum(1), torch.ones(len(kept)))
    torch.testing.assert_close(blank, same)
    gap = float((exact * (exact / kept).log()).sum(1).mean())
    assert gap < {1: 0.3, 2: 0.15, 4: 0.05, 8: 0.002}[top]


def test_the_best_symbol_is_the_same_whatever_is_kept():
    model, task, _ = a_task(replace(ALL, top=1))
    _, whole, _ = a_task()
    x = inputs(model, task)
    counted = task._counted(x)
    own, exact = (t._targets(inputs(model, t), counted)[0] for t in (task, whole))
    assert torch.equal(own.argmax(1), exact.argmax(1))


@pytest.mark.parametrize(
    ("symbols", "shares", "wanted"),
    [
        ([[2, 0]], [[0.5, 0.25]], [0.25, 0.125, 0.5, 0.125]),
        ([[1]], [[1.0]], [0, 1, 0, 0]),
        ([[3, 2, 1, 0]], [[0.4, 0.3, 0.2, 0.1]], [0.1, 0.2, 0.3, 0.4]),
        ([[3, 2, 1, 0]], [[0.4, 0.3, 0.2, 0.0]], [0, 2 / 9, 3 / 9, 4 / 9]),
    ],
)
def test_what_is_left_lies_evenly_on_the_others(symbols, shares, wanted):
    found = spread_out(torch.tensor(symbols), torch.tensor(shares), 4)
    torch.testing.assert_close(found, torch.tensor([wanted], dtype=torch.float32))


def test_probabilities_fit_into_16_bits():
    found = in_16_bits(torch.tensor([0.0, 1e-9, 0.5, 1.0]))
    assert found.tolist() == [0, 0, 32768, 65535]
    units = a_task()[1].offline_units(inputs(*a_task()[:2]))
    assert all(0 <= int(v.min()) <= int(v.max()) < 1 << 16 for v in units.values())
    assert set(units) == set(a_task()[1].describe_units())


def test_a_row_that_is_surely_blank_counts_little():
    """With a teacher that emits almost only blanks the loss is `blank_weight` of the plain one."""
    found = []
    for blank_weight in (1.0, 0.2):
        teacher = a_recogniser("filterbank")
        with torch.no_grad():
            teacher.model.head.linear.bias[0] = 30.0
        model = a_model("filterbank")
        task = CTCDistillationTask(replace(ALL, blank_weight=blank_weight), model, teacher)
        with torch.no_grad():
            task.head.linear.bias.zero_()
        found.append(float(task(inputs(model, task)).terms["ctc_distillation"].total.detach()))
    assert found[1] == pytest.approx(0.2 * found[0], rel=1e-3)


@pytest.mark.parametrize("rows", [[3], [1]])
def test_short_utterances(rows):
    """Four or six frames, of which none may be masked."""
    model, task, _ = a_task(replace(ALL, frames="masked"))
    none = torch.zeros(1, 10, dtype=torch.bool)
    x = inputs(model, task, rows)
    x._given = none[:, : x.num_frames]
    assert task.counts(x) == {"ctc_distillation_rows": 0}
    result = task(x)
    combine(result.terms, task.counts(x)).backward()
    assert not any(g.any() for g in gradient(model, task).values())
    assert task.summarize(result.tallies)["ctc_distillation/symbol_rows"] == 0


def test_unmasked_input_is_another_pass():
    assert a_task()[1].needs.views == (View(mask="run"),)
    assert a_task(replace(ALL, mask=False))[1].needs.views == (View(mask=None),)


def test_without_the_teacher_only_its_alphabet_is_known():
    """As where a run is shown: the same heads, and no units."""
    model = a_model("filterbank")
    task = ALL.build(model, Resources(recogniser=Recogniser(TOKENIZER)))
    assert task.offline_units(inputs(model, task)) == {}
    assert task.describe_units() == {}
    task.load_state_dict(a_task()[1].state_dict())
    assert task.alphabet.symbols == TOKENIZER.symbols


def test_other_weights_or_temperatures_are_other_units():
    states = [a_task(config)[1].state_of_units() for config in (ALL, replace(ALL, temperature=3.0))]
    assert not torch.equal(states[0]["temperature"], states[1]["temperature"])
    assert "teacher.head.linear.weight" in states[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ALL.build(a_model("filterbank"), Resources()), "give --init a model with a CTC"),
        (lambda: replace(ALL, mask=False, frames="masked"), "frames masked needs masks"),
        (lambda: replace(ALL, temperature=0.0), "temperature must be above 0"),
        (lambda: replace(ALL, blank_weight=1.5), "blank_weight must be in"),
        (lambda: replace(ALL, top=0), "top must be"),
        (
            lambda: CTCDistillationTask(
                ALL, a_model("filterbank"), a_recogniser("filterbank", upsample=2)
            ),
            "upsample must be 2",
        ),
        (
            lambda: CTCDistillationTask(ALL, a_model("filterbank"), a_recogniser("conv")),
            "its frames are 320 samples",
        ),
    ],
)
def test_what_cannot_be_is_said(make, said):
    with pytest.raises(ValueError, match=said):
        make()
