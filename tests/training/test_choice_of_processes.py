"""How many processes share a training: what is refused, what is fastest, what is remembered."""

import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from speechssl.commands.options import number_of_processes
from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import PlannedBatches
from speechssl.device import Memory
from speechssl.training import processes
from speechssl.training.job import Speeds
from speechssl.training.planner import Plan
from speechssl.training.processes import Choice, Choices, Sharing, choose, train_shared
from speechssl.training.states import Progress
from speechssl.training.team import TeamError

# --- what is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "number"), [("auto", "auto"), ("1", 1), ("12", 12)])
def test_a_number_or_auto(text, number):
    assert number_of_processes(text) == number


@pytest.mark.parametrize("text", ["0", "-2", "2.0", "two", "", "257", "١"])
def test_anything_else_is_refused(text, capsys):
    from speechssl import cli

    with pytest.raises(SystemExit) as refused:
        cli.main(["pretrain", "--train", "x", "--out", "y", f"--processes={text}"])
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert "--processes: must be auto or a number from 1 to 256, got" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", ["pretrain", "finetune", "run", "demo", "selftrain"])
def test_every_command_that_trains_has_it(command, capsys):
    from speechssl import cli

    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert "--processes auto|N" in capsys.readouterr().out


def test_help_loads_no_torch():
    code = "import sys; sys.argv = ['speechssl', 'pretrain', '--help']; from speechssl import cli"
    code += "\ntry:\n    cli.main()\nexcept SystemExit:\n    assert 'torch' not in sys.modules"
    import subprocess

    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_under_torchrun_a_number_is_refused_and_auto_is_one(pretrain_config, monkeypatch):
    for name, value in [("WORLD_SIZE", "4"), ("RANK", "1"), ("MASTER_PORT", "29500")]:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with pytest.raises(ValueError, match="--processes 2: this is one of 4 processes that torchrun"):
        Sharing(2).check(pretrain_config)
    Sharing("auto").check(pretrain_config)
    Sharing(1).check(pretrain_config)
    assert processes._trials(pretrain_config, Sharing("auto"), 1, None) == []


def test_on_a_gpu_and_with_fsdp_a_number_is_refused(pretrain_config, monkeypatch):
    loop = replace(pretrain_config.loop, parallel="fsdp")
    with pytest.raises(ValueError, match=r"--processes 2: .*leave --parallel fsdp out"):
        Sharing(2).check(replace(pretrain_config, loop=loop))
    monkeypatch.setattr(processes, "pick_device", lambda _: torch.device("cuda", 0))
    with pytest.raises(ValueError, match=r"--processes 2: .*the device is cuda:0\. Leave"):
        Sharing(2).check(pretrain_config)
    assert processes._trials(pretrain_config, Sharing("auto"), 1, None) == []


# --- what is fastest ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "speeds", "chosen", "said"),
    [
        (
            2,
            {2: (150, 118)},
            2,
            "2 processes of 1 thread: 150 against 118 seconds of audio a second",
        ),
        (
            2,
            {2: (100, 118)},
            1,
            "1 process of 2 threads: 118 against 100 seconds of audio a second in 2 processes",
        ),
        (2, {2: (104.9, 100)}, 1, "1 process of 2 threads: 100 against 105"),
        (2, {2: (105.1, 100)}, 2, "2 processes of 1 thread: 105 against 100"),
        (8, {8: (300, 200), 4: (330, 200), 2: (250, 200)}, 4, "4 processes of 2 threads: 330"),
        # Other work came in the second measurement: what counts is what one process did meanwhile.
        (8, {8: (300, 200), 4: (160, 100)}, 4, "4 processes of 2 threads: 160 against 100"),
    ],
)
def test_the_fastest_is_chosen_and_one_where_little_is_gained(cores, speeds, chosen, said):
    choice = choose(cores, {num: Speeds(*pair) for num, pair in speeds.items()})
    assert choice.processes == chosen
    assert choice.sentence().startswith(said)


@pytest.mark.parametrize(
    ("cores", "numbers"), [(1, []), (2, [2]), (6, [6, 3, 2]), (7, [7]), (16, [16, 8, 4])]
)
def test_numbers_that_divide_the_cores_are_tried(cores, numbers, pretrain_config, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert processes._trials(pretrain_config, Sharing("auto"), 1, None) == numbers


def test_what_keeps_micro_batches_whole_leaves_what_divides_their_number(
    pretrain_config, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    sharing = Sharing("auto", "the task contrastive needs whole ones")
    assert processes._trials(pretrain_config, sharing, 1, None) == []
    assert processes._trials(pretrain_config, sharing, 4, None) == [4, 2]


def test_only_what_fits_in_memory_is_tried(pretrain_config, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)

    def plan(free: float) -> Plan:
        """Half a GB for the weights, 3 GB for a micro-batch of 30 s."""
        memory = Memory(int(free), int(free))
        return Plan(10**6, 10**6, int(0.5e9), 0.1e9, 30.0, 15.0, True, memory)

    tried = [processes._trials(pretrain_config, Sharing("auto"), 1, plan(f)) for f in (2e10, 7e9)]
    assert tried == [[8, 4, 2], [2]]


# --- what is remembered ---------------------------------------------------------------------------

TWO = Choice(2, 1, 150.0, 1, 118.0)


def test_a_choice_is_kept_by_its_key(tmp_path):
    Choices(tmp_path / "deep" / "c.json", "a").write(TWO)
    Choices(tmp_path / "deep" / "c.json", "b").write(replace(TWO, processes=4))
    assert Choices(tmp_path / "deep" / "c.json", "a").read([2]) == TWO
    assert Choices(tmp_path / "deep" / "c.json", "c").read([2]) is None
    assert Choices(tmp_path / "deep" / "c.json", "b").read([2]) is None  # memory has become short


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": {"processes": 2}}', '{"a": 3}', "\udcff"])
def test_a_damaged_file_is_measured_anew(text, tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert Choices(path, "a").read([2]) is None
    Choices(path, "a").write(TWO)
    assert Choices(path, "a").read([2]) == TWO


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (None, tmp_path / "file" / "c.json"):
        Choices(path, "a").write(TWO)
        assert Choices(path, "a").read([2]) is None


class FakeJob:
    """A job that trains by noting in how many processes."""

    def __init__(self, run, waves_lengths=(2.0,) * 20, **loop):
        self.run, self.resume, self.update_s = run, True, 1.0
        self.fresh = Progress(micro_batches=1)
        self.loop = SimpleNamespace(**{"max_steps": 1000, "budget_minutes": None, **loop})
        self.dataset = PlannedBatches(None, BatchPlan(waves_lengths, batch_s=6.0, seed=0), seed=0)
        self.work = SimpleNamespace(modules=torch.nn.Linear(1, 1))
        self.trained: list[int] = []

    def train(self):
        self.trained.append(1)

    def restore(self):
        pass


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Two cores, on which two processes are faster; how often that was measured."""
    measured = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(processes, "_cache_file", lambda: tmp_path / "choices.json")

    class FakeTeam:
        def __init__(self, job):
            self.job = job

        @contextmanager
        def following(self, order):
            real, self.job.train = self.job.train, lambda: self.job.trained.append(order.world)
            yield
            self.job.train = real

    @contextmanager
    def team(job, num):
        del num
        yield FakeTeam(job)

    def compare(job, team, trials):
        del job, team
        measured.append(list(trials))
        return TWO

    monkeypatch.setattr(processes, "_team", team)
    monkeypatch.setattr(processes, "_compare", compare)
    return measured


def trained_in(job, config, asked="auto"):
    train_shared(job, config, Sharing(asked), None)
    return job.trained[-1]


def test_auto_measures_once_and_says_it_in_a_line(machine, pretrain_config, tmp_path, capsys):
    job = FakeJob(tmp_path / "run")
    line = "2 processes of 1 thread: 150 against 118 seconds of audio a second"
    assert trained_in(job, pretrain_config) == 2
    assert capsys.readouterr().err == f"{line}.\n"
    assert trained_in(job, pretrain_config) == 2
    assert capsys.readouterr().err == f"{line} (measured before).\n"
    assert machine == [[2]]
    longer = replace(pretrain_config, loop=replace(pretrain_config.loop, max_steps=7, seed=5))
    assert trained_in(job, longer) == 2
    assert machine == [[2]]
    trained_in(job, replace(pretrain_config, batch_s=12.0))
    trained_in(FakeJob(tmp_path / "run", (0.5,) * 50), pretrain_config)  # other utterances
    assert machine == [[2]] * 3


def test_a_number_that_was_asked_for_is_not_measured(machine, pretrain_config, tmp_path):
    job = FakeJob(tmp_path / "run")
    assert [trained_in(job, pretrain_config, asked) for asked in (1, 2, 3)] == [1, 2, 3]
    assert machine == []


@pytest.mark.parametrize("loop", [{"max_steps": 59}, {"budget_minutes": 0.9}])
def test_short_runs_are_not_measured(loop, machine, pretrain_config, tmp_path):
    assert trained_in(FakeJob(tmp_path / "run", **loop), pretrain_config) == 1
    assert machine == []


@pytest.mark.parametrize(("before", "now"), [(2, 2), (1, 1), (4, 1)])
def test_a_run_goes_on_in_as_many_processes(
    before, now, machine, pretrain_config, tmp_path, monkeypatch
):
    """So that not even the rounding changes; where there are not so many cores any more, in one."""
    progress = Progress(step=3, max_steps=1000, micro_batches=1, processes=before)
    monkeypatch.setattr(processes, "newest_progress", lambda _: progress)
    assert trained_in(FakeJob(tmp_path / "run"), pretrain_config) == now
    assert machine == []


def test_a_run_that_has_ended_starts_no_process(machine, pretrain_config, tmp_path, monkeypatch):
    progress = Progress(step=9, max_steps=9, micro_batches=1, processes=2)
    monkeypatch.setattr(processes, "newest_progress", lambda _: progress)
    assert trained_in(FakeJob(tmp_path / "run"), pretrain_config, 2) == 1
    assert machine == []


@pytest.mark.usefixtures("machine")
def test_where_processes_do_not_start_one_goes_on(pretrain_config, tmp_path, monkeypatch, capsys):
    def refused(*_):
        raise TeamError("no memory")

    monkeypatch.setattr(processes, "_compare", refused)
    assert trained_in(FakeJob(tmp_path / "run"), pretrain_config) == 1
    assert capsys.readouterr().err == "1 process: others could not help (no memory).\n"
    assert not (tmp_path / "choices.json").exists()


@pytest.mark.usefixtures("machine")
def test_where_those_that_helped_before_do_not_start_one_goes_on(
    pretrain_config, tmp_path, monkeypatch, capsys
):
    job = FakeJob(tmp_path / "run")
    assert trained_in(job, pretrain_config) == 2

    @contextmanager
    def refused(job, num):
        del job, num
        raise TeamError("no memory.")
        yield

    monkeypatch.setattr(processes, "_team", refused)
    assert trained_in(job, pretrain_config) == 1
    assert capsys.readouterr().err.endswith("1 process: others could not help (no memory).\n")


@pytest.mark.usefixtures("machine")
def test_measuring_leaves_the_weights_as_they_were(pretrain_config, tmp_path, monkeypatch):
    job = FakeJob(tmp_path / "run")
    weights = job.work.modules.weight.clone()

    def changes(job, team, trials):
        del team, trials
        job.work.modules.weight.data += 1
        return TWO

    monkeypatch.setattr(processes, "_compare", changes)
    trained_in(job, pretrain_config)
    assert torch.equal(job.work.modules.weight, weights)
    assert json.loads((tmp_path / "choices.json").read_text())
