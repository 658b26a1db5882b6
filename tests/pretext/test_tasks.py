"""What every pretext task must do, whichever it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speechssl.model.speech_model import SpeechModel
from speechssl.pretext import contrastive
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig, MaskedUnitsTask
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.task import (
    LossTerm,
    PretextTask,
    Resources,
    TaskLoss,
    View,
    combine,
)
from speechssl.pretext.tasks import TASKS, TaskConfigs, Tasks
from tests.pretext.small import CONTRASTS_THE_BATCH, SMALL
from tests.pretext.speech import (
    MODELS,
    GivenInputs,
    gradient,
    model_and_task,
    negatives_by_utterance,
    waves,
)


@pytest.fixture(autouse=True)
def _negatives_of_each_utterance(monkeypatch):
    monkeypatch.setattr(contrastive, "draw_negatives", negatives_by_utterance)


def test_every_task_is_tested():
    assert SMALL.keys() == TASKS.keys()


def test_every_task_is_in_the_table_of_tasks():
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert set(rows) == set(TASKS)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", [name for name in TASKS if name not in CONTRASTS_THE_BATCH])
@pytest.mark.parametrize("parts", [[[0, 1], [2, 3]], [[3], [1], [0, 2]], [[0], [1], [2], [3]]])
def test_micro_batches_have_the_gradient_of_one_batch(kind, name, parts):
    model, task = model_and_task(SMALL[name], kind)
    wave, lengths = waves()
    whole_inputs = GivenInputs(model, wave, lengths, task=task)
    counts = task.counts(whole_inputs)
    combine(task(whole_inputs).terms, counts).backward()
    whole = gradient(model, task)
    summed = dict.fromkeys(counts, 0)
    for rows in parts:
        samples = int(lengths[rows].max())
        x = GivenInputs(model, wave[rows, :samples], lengths[rows], task=task)
        summed = {key: summed[key] + count for key, count in task.counts(x).items()}
        combine(task(x).terms, counts).backward()
    split = gradient(model, task)
    assert summed == counts
    assert whole.keys() == split.keys()
    assert len(whole) > 20
    total = torch.cat([g.flatten() for g in whole.values()])
    gap = torch.cat([(whole[key] - split[key]).flatten() for key in whole])
    assert float(gap.norm()) < 1e-6 * float(total.norm())


@pytest.mark.parametrize("name", TASKS)
def test_an_untrained_model_learns(name):
    model, task = model_and_task(SMALL[name], "filterbank")
    model.train()
    task.train()
    wave, lengths = waves()
    wave = wave * (torch.arange(9000) // 1000 % 2)  # bursts, which can be predicted
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=3e-3)
    losses = []
    torch.manual_seed(0)
    for _ in range(30):
        x = GivenInputs(model, wave, lengths, task=task)
        loss = combine(task(x).terms, task.counts(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.92 * np.mean(losses[:5])


@pytest.mark.parametrize("name", TASKS)
def test_the_loss_is_float32_under_autocast(name):
    model, task = model_and_task(SMALL[name])
    x = GivenInputs(model, *waves(), task=task)
    with torch.autocast("cpu", torch.bfloat16):
        result = task(x)
    assert all(term.total.dtype == torch.float32 for term in result.terms.values())
    assert all(term.total.isfinite() for term in result.terms.values())


@pytest.mark.parametrize("name", TASKS)
def test_names_begin_with_the_task_and_signals_are_measured(name):
    """Whatever a signal names is logged: in training, in validation or by the diagnosis."""
    model, task = model_and_task(SMALL[name])
    tasks = Tasks.__new__(Tasks)
    tasks.by_name = {name: task}
    x = GivenInputs(model, *waves(), distorted=0.5 * waves()[0], task=task)
    result = tasks.loss(x)
    valid = {*result.terms, *result.metrics, *tasks.summarize(result.tallies | result.gathered)}
    valid |= tasks.diagnose(x).keys()
    for signal in SMALL[name].signals:
        assert signal.task == name
        assert signal.metric in valid
        assert not signal.chance or signal.chance in valid
        assert not signal.training or signal.training.removeprefix("loss/") in result.terms


@pytest.mark.parametrize("name", TASKS)
def test_a_weight_scales_every_term(name):
    penalties = {"diversity_weight": 0.1, "feature_penalty": 10.0} if name == "contrastive" else {}
    config = replace(SMALL[name], **penalties)
    model = model_and_task(config)[0]
    terms = [
        task(GivenInputs(model, *waves(), task=task)).terms
        for task in (model_and_task(replace(config, weight=weight))[1] for weight in (1.0, 3.0))
    ]
    assert all(terms[1][key].weight == pytest.approx(3 * terms[0][key].weight) for key in terms[0])
    assert all(term.weight for term in terms[0].values())


# --- tasks together -------------------------------------------------------------------------------


def test_tasks_are_chosen_by_name_and_weight():
    tasks = TaskConfigs((MaskedUnitsConfig(num_units=7), ReconstructionConfig()))
    chosen = tasks.chosen(["masked-units=0.5", "contrastive"])
    assert [config.name for config in chosen] == ["masked_units", "contrastive"]
    assert chosen["masked_units"] == MaskedUnitsConfig(num_units=7, weight=0.5)
    assert chosen["contrastive"] == ContrastiveConfig()
    own = ContrastiveConfig(diversity_weight=3.0)
    given = tasks.chosen(["contrastive=2", "masked_units"], {"contrastive": own})
    assert given["contrastive"] == ContrastiveConfig(diversity_weight=3.0, weight=2.0)
    assert given["masked_units"] == MaskedUnitsConfig(num_units=7)  # as it is there
    assert "reconstruction" not in chosen
    assert tasks.without("masked_units").configs == (ReconstructionConfig(),)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["masked_unit"], "no task 'masked_unit'. Perhaps masked_units"),
        (["contrastive=much"], "weight of contrastive must be a number, got 'much'"),
        (["contrastive=-1"], "contrastive.weight must not be negative"),
        (["contrastive", "contrastive"], "name each task once"),
        (
            ["contrastive=0", "reconstruction=0"],
            "contrastive.weight and reconstruction.weight are 0",
        ),
    ],
)
def test_what_cannot_be_chosen_is_said(wanted, said):
    with pytest.raises(ValueError, match=said):
        TaskConfigs((MaskedUnitsConfig(),)).chosen(wanted)


def test_no_task_is_refused():
    with pytest.raises(ValueError, match="at least one of contrastive, masked_units"):
        TaskConfigs(())


class Constant(PretextTask):
    """A loss of given names, counts and values."""

    def __init__(self, name, terms, count, metrics=()):
        super().__init__()
        self.name, self._terms, self._count, self._metrics = name, terms, count, metrics

    def counts(self, x):
        del x
        return {"masked": self._count}

    def forward(self, x):
        del x
        one = torch.ones(())
        metrics = dict.fromkeys(self._metrics, one)
        return TaskLoss({term: LossTerm(one, "masked", 1.0) for term in self._terms}, metrics)


def together(*tasks):
    made = Tasks.__new__(Tasks)
    made.by_name = {task.name: task for task in tasks}
    return made


def test_names_of_tasks_do_not_collide():
    x = GivenInputs(model_and_task(SMALL["contrastive"])[0], *waves())
    both = together(Constant("a", ["a", "a_b"], 3), Constant("c", ["c"], 3, ["c/x"]))
    assert set(both.loss(x).terms) == {"a", "a_b", "c"}
    assert both.counts(x) == {"masked": 3}
    with pytest.raises(ValueError, match="'b' must begin with 'a'"):
        together(Constant("a", ["b"], 1)).loss(x)
    with pytest.raises(ValueError, match="'c/x' must begin with 'a'"):
        together(Constant("a", ["a"], 1, ["c/x"])).loss(x)
    with pytest.raises(ValueError, match="counts 2 masked frames and another task 3"):
        together(Constant("a", ["a"], 3), Constant("c", ["c"], 2)).counts(x)


def test_a_view_is_computed_once_for_all_tasks(monkeypatch):
    model, first = model_and_task(SMALL["contrastive"])
    _, second = model_and_task(SMALL["reconstruction"])
    passes = []
    real = model.forward
    monkeypatch.setattr(model, "forward", lambda *a, **k: passes.append(k) or real(*a, **k))
    together(first, second).loss(GivenInputs(model, *waves()))
    assert len(passes) == 1


def test_a_task_that_must_not_see_the_future_wants_a_causal_model(monkeypatch):
    needs = replace(MaskedUnitsTask.needs, causal=True)
    monkeypatch.setattr(MaskedUnitsTask, "needs", needs)
    configs = TaskConfigs((SMALL["masked_units"],))
    config = MODELS["filterbank"]
    with pytest.raises(ValueError, match=r"masked_units must not see future frames: give --model"):
        Tasks(configs, SpeechModel(config), Resources())
    context = replace(config.context, causal=True)
    causal = replace(config, context=context, running_norm=True)
    assert Tasks(configs, SpeechModel(causal), Resources()).needs.causal


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", TASKS)
def test_padding_behind_the_longest_wave_changes_nothing(name, kind):
    """As where batches are padded to one of few lengths: loss, counts and gradient."""
    model, task = model_and_task(SMALL[name], kind)
    wave, lengths = waves()
    found = []
    for more in (0, 1100, 5000):
        x = GivenInputs(model, F.pad(wave, (0, more)), lengths, task=task)
        assert x.encode(View("clean", None)).context.shape[1] == x.num_frames
        counts = task.counts(x)
        loss = combine(task(x).terms, counts)
        loss.backward()
        gradients = torch.cat([g.flatten() for g in gradient(model, task).values()])
        found.append((counts, float(loss.detach()), gradients))
    for counts, loss, gradients in found[1:]:
        assert counts == found[0][0]
        assert loss == pytest.approx(found[0][1], rel=2e-6)
        assert float((gradients - found[0][2]).norm()) < 3e-6 * float(found[0][2].norm())
