"""A task at several layers at once."""

from dataclasses import replace

import pytest
import torch

from speechssl.pretext.layers import build_at_layers
from speechssl.pretext.task import Resources, combine
from speechssl.pretext.tasks import TASKS, TaskConfigs
from tests.pretext.small import CONTRASTS_THE_BATCH, SMALL
from tests.pretext.speech import (
    GivenInputs,
    a_model,
    model_and_task,
    some_resources,
    waves,
)

UNITS = SMALL["masked_units"]


def at_layers(layers, config=UNITS):
    model, alone = model_and_task(config, "filterbank")
    torch.manual_seed(1)
    task = build_at_layers(
        replace(config, layers=layers), model, some_resources("filterbank")
    ).eval()
    wave, lengths = waves()
    task.fit(
        [
            GivenInputs(model, wave[i : i + 1, :n], lengths[i : i + 1])
            for i, n in enumerate(lengths.tolist())
        ],
        0,
    )
    return model, task, alone


def test_the_highest_layer_has_the_usual_names():
    model, task, alone = at_layers((1, -1))
    x = GivenInputs(model, *waves(), task=task)
    result, plain = task(x), alone(GivenInputs(model, *waves(), task=alone))
    assert set(result.terms) == {
        *plain.terms,
        *(f"{name}_layer_1" for name in plain.terms),
    }
    for name, term in plain.terms.items():
        assert torch.equal(result.terms[name].total, term.total)
        assert not torch.equal(result.terms[f"{name}_layer_1"].total, term.total)
    assert task.summarize(result.tallies).keys() == {
        f"{name}{end}" for name in alone.summarize(plain.tallies) for end in ("", "_layer_1")
    }


def test_all_layers_have_the_same_units():
    _, task, _ = at_layers((0, 1))
    assert task.layers == (1, 0)
    one, two = (each.state_dict() for each in task.tasks)
    fixed = [name for name, _ in task.main.named_buffers()]
    assert fixed
    assert all(torch.equal(one[name], two[name]) for name in fixed)
    assert not torch.equal(one["codebooks.0.codebook"], two["codebooks.0.codebook"])


def test_a_lower_layer_gives_the_layers_above_no_gradient():
    model, task, _ = at_layers((1,))
    x = GivenInputs(model, *waves(), task=task)
    combine(task(x).terms, task.counts(x)).backward()
    assert all(p.grad is not None for p in model.context.layers[0].parameters())
    assert all(p.grad is None for p in model.context.layers[1].parameters())


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_at_a_layer(name):
    config = SMALL[name]
    model, _ = model_and_task(config, "filterbank")
    task = build_at_layers(replace(config, layers=(1, -1)), model, some_resources("filterbank"))
    x = GivenInputs(model, *waves(), task=task)
    terms = task(x).terms
    assert len(terms) % 2 == 0
    combine(terms, task.counts(x)).backward()
    names = [s.metric for s in TaskConfigs((replace(config, layers=(1, -1)),)).signals]
    assert len(names) == len(set(names))
    assert f"{name}_layer_1" in names or name not in names
    assert SMALL.keys() >= CONTRASTS_THE_BATCH


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((3,), "masked_units.layers must be from 0 to 2, the number of layers, or -1"),
        ((2, -1), "-1 and 2 are the same layer"),
    ],
)
def test_layers_that_a_model_lacks(layers, said):
    with pytest.raises(ValueError, match=said):
        build_at_layers(replace(UNITS, layers=layers), a_model("filterbank"), Resources())


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((), "one or more, each once"),
        ((1, 1), "one or more, each once"),
        ((-2,), r"layers must be a list, each in \[-1, "),
    ],
)
def test_layers_are_named_once(layers, said):
    with pytest.raises(ValueError, match=said):
        replace(UNITS, layers=layers)
