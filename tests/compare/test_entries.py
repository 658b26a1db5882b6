"""Who takes part: sets of tasks, their weights and settings, causal models, models from scratch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from speechssl.checkpoint import Checkpoint, save_model
from speechssl.compare.config import CompareConfig, default_steps
from speechssl.compare.entries import check_settings_are_used, configs, find_entries
from speechssl.compare.work import with_labels_of
from speechssl.data.manifest import Utterance
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.task import Needs, PretextTask, TaskConfig
from speechssl.pretext.tasks import TASKS
from speechssl.training import finetune as finetuning
from tests.experiment.job import MICRO

pytestmark = pytest.mark.usefixtures("micro")


@dataclass(frozen=True)
class BlindConfig(TaskConfig):
    """A task that must not see the future."""

    name: ClassVar[str] = "blind"

    def build(self, _model, _resources):
        task = PretextTask()
        task.name, task.needs = "blind", Needs(causal=True)
        return task


@pytest.fixture
def blind(monkeypatch):
    monkeypatch.setitem(TASKS, "blind", BlindConfig)


def asked(*tasks, **settings) -> CompareConfig:
    return CompareConfig(**{"tasks": tasks, "minutes": 1.0, **settings})


def test_weights_are_those_of_the_entry_and_settings_reach_those_that_have_the_task():
    config = asked(
        "masked_units",
        "masked-units=2 + reconstruction=0.5",
        pretrain=("masked_units.num-units=5", "optim.lr=0.5", "reconstruction.weight=7"),
    )
    one, two, scratch = find_entries(config)
    assert [e.name for e in (one, two)] == ["masked_units", "masked_units=2+reconstruction=0.5"]
    assert two.slug == "masked_units=2+reconstruction=0.5"
    weights = [{t.name: t.weight for t in e.pretrain.tasks} for e in (one, two)]
    assert weights == [{"masked_units": 1.0}, {"masked_units": 2.0, "reconstruction": 7.0}]
    assert [e.pretrain.tasks["masked_units"].num_units for e in (one, two)] == [5, 5]
    assert [e.pretrain.optim.lr for e in (one, two)] == [0.5, 0.5]
    assert one.pretrain.loop.budget_minutes == 1.0
    assert one.pretrain.loop.num_workers == 0
    assert (one.baseline, two.baseline, scratch.baseline) == ("from scratch", "from scratch", "")
    assert scratch.name == "from scratch"
    assert scratch.pretrain is None


def test_updates_in_place_of_minutes():
    (entry, _) = find_entries(asked("masked_units", minutes=None, max_steps=7))
    assert (entry.pretrain.loop.max_steps, entry.pretrain.loop.budget_minutes) == (7, None)


def test_fine_tuning_is_the_same_for_all(monkeypatch):
    made = finetuning.preset("tiny")
    made = replace(made, loop=replace(made.loop, patience=3, budget_minutes=4.0))
    monkeypatch.setattr(finetuning, "preset", lambda _: made)
    _, tuning = configs(asked("masked_units", finetune=("upsample=2", "optim.lr=0.1")))
    assert (tuning.upsample, tuning.optim.lr) == (2, 0.1)
    assert (tuning.loop.patience, tuning.loop.budget_minutes) == (0, None)  # all have their updates


def test_phones_are_labels_too():
    (entry, _) = find_entries(asked("phones"))
    assert entry.uses_text
    own = Utterance("a", Path("a.wav"), 0.0, 1.0, 16000, None, "x", ipa="x")
    train = [[own, replace(own, id="b")], [replace(own, id="a")]]
    found = with_labels_of(train, {"1/b", "2/a"})
    assert [[(u.text, u.ipa) for u in part] for part in found] == [
        [(None, None), ("x", "x")],
        [("x", "x")],
    ]


def test_a_task_that_keeps_what_a_model_knows_is_refused():
    with pytest.raises(ValueError, match="ctc_distillation keeps what the model of --init"):
        find_entries(asked("masked_units", "masked_units+ctc-distillation"))


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("own", [True, False])
def test_a_task_that_must_not_see_the_future_gets_a_causal_model(own):
    entries = find_entries(asked("masked_units", "blind", causal_baseline=own))
    by_name = {e.name: e for e in entries}
    assert by_name["blind"].form.is_causal
    assert by_name["blind"].pretrain.model.is_causal
    assert by_name["blind"].notes == ["causal model"]
    assert not by_name["masked_units"].form.is_causal
    against = "from scratch, causal" if own else "from scratch"
    assert by_name["blind"].baseline == against
    assert by_name[against].form.is_causal is own
    assert len(entries) == 3 + own


@pytest.mark.usefixtures("blind")
def test_a_set_with_one_such_task_is_causal_as_a_whole():
    one, two, *scratch = find_entries(asked("blind+masked_units", "masked_units+blind=0.5"))
    assert one.form == two.form
    assert [e.name for e in scratch] == ["from scratch", "from scratch, causal"]


@pytest.mark.parametrize("own", [True, False])
def test_models_that_are_there_take_part_with_a_baseline_of_their_form(own, tmp_path):
    wide = replace(MICRO, context=replace(MICRO.context, dim=32))
    save_model(tmp_path / "same" / "best", Checkpoint(SpeechModel(MICRO)))
    save_model(tmp_path / "wide", Checkpoint(SpeechModel(wide)))
    config = CompareConfig(
        models=(str(tmp_path / "same" / "best"), str(tmp_path / "wide")), model_baseline=own
    )
    same, other, *scratch = find_entries(config)
    assert (same.name, other.name) == ("same", "wide")
    assert same.baseline == "from scratch"
    assert other.baseline == ("from scratch, as wide" if own else "from scratch")
    assert len(scratch) == 1 + own
    assert same.digest != other.digest
    assert same.pretrain is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": ("masked_unit",)}, "There is no task 'masked_unit'. Perhaps masked_units?"),
        ({"tasks": ("masked_units+wombat",)}, "There is no task 'wombat'"),
        ({"tasks": ("masked_units=x",)}, "the weight of masked_units must be a number"),
        ({"tasks": ("masked_units+masked_units",)}, "tasks must name each task once"),
        ({"tasks": ("masked_units", "masked-units")}, "must name each entry once"),
        ({"pretrain": ("optim.lrr=1",)}, "no setting 'optim.lrr'. Perhaps --optim.lr"),
        ({"pretrain": ("optim.lr",)}, "--pretrain optim.lr: give NAME=VALUE"),
        ({"finetune": ("upsampel=2",)}, "no setting 'upsampel'"),
        ({"finetune": ("upsample=0",)}, "upsample must be at least 1"),
        ({"recipe": "wombat"}, "There is no recipe wombat"),
    ],
)
def test_what_is_wrong_is_refused(settings, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        find_entries(asked(**{"tasks": ("masked_units",), **settings}))


def test_a_setting_of_a_task_that_nobody_has_is_refused():
    config = asked("masked_units", pretrain=("reconstruction.weight=1",))
    with pytest.raises(ValueError, match="no entry of --tasks has the task reconstruction"):
        check_settings_are_used(config)
    check_settings_are_used(asked("a", "b+reconstruction=2", pretrain=config.pretrain))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": ()}, "There is nothing to compare: name --tasks"),
        ({"minutes": 0.0}, "minutes must be above 0 or null, got 0.0"),
        ({"minutes": -1.0}, "minutes must be above 0"),
        ({"minutes": None}, "Give either --minutes .* or --max-steps"),
        ({"max_steps": 5}, "Give either --minutes .* or --max-steps"),
        ({"minutes": None, "max_steps": 0}, "max_steps must be at least 1"),
        ({"labels": ("0",)}, "--labels must be minutes above 0, or all, got '0'"),
        ({"labels": ("ten",)}, "--labels must be minutes above 0, or all, got 'ten'"),
        ({"labels": ("-3",)}, "--labels must be minutes above 0"),
        ({"labels": ("nan",)}, "--labels must be minutes above 0"),
        ({"labels": ()}, "labels must be one or more"),
        ({"labels": ("10", "10")}, "each once"),
        ({"scratch_labels": ("x",)}, "--scratch-labels must be minutes"),
        ({"seeds": ()}, "seeds must be one or more"),
        ({"seeds": (1, 1)}, "each once"),
        ({"seeds": (-1,)}, "seeds must be a list, each at least 0"),
        ({"conditions": ("windy",)}, "conditions must be a list, each one of clean"),
        ({"finetune_steps": (1, 2, 3)}, "one for each of the 2 --labels, got 3"),
        ({"processes": 0}, "processes must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        asked(**{"tasks": ("masked_units",), **settings})


def test_the_updates_of_fine_tuning_grow_with_the_labels():
    steps = [default_steps(m) for m in (0.1, 2, 10, 60, 10_000)]
    assert steps == [300, 550, 1000, 2000, 8000]


@pytest.mark.parametrize(
    ("size", "diversity"), [("tiny", 1.0), ("tiny-conv", 1.0), ("small", 1.0), ("base", 0.1)]
)
def test_a_small_size_has_contrastive_settings_for_small_batches(size, diversity):
    entry = find_entries(asked("contrastive", size=size))[0]
    assert entry.pretrain.tasks["contrastive"].diversity_weight == diversity
