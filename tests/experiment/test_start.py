"""The whole job with a model that runs begin with: the seed, or one that was fetched."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from speechssl import seed
from speechssl.checkpoint import load_model
from speechssl.experiment import jobs, plan, stages
from speechssl.experiment import start as starts
from speechssl.experiment.plan import Budget, runs_of
from speechssl.experiment.results import Pair, in_words
from speechssl.experiment.start import Start, choose_start
from speechssl.interop.sources import open_model
from speechssl.scoring.wer import Comparison, Difference
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from tests.experiment.job import MICRO, Job, bytes_in
from tests.seed.seeds import put_seed

ALL = ["from-seed-pretrained", "from-seed", "pretrained", "from-scratch"]
STUDENT = "from-seed-self-trained"
"""Which is compared where it is better than its teacher: not after two updates."""


@pytest.fixture
def place(monkeypatch, tmp_path):
    return put_seed(monkeypatch, tmp_path / "package" / "seed", MICRO)


@pytest.fixture
def none(monkeypatch, tmp_path):
    monkeypatch.setattr(seed, "FOLDER", tmp_path / "package")


def new_job(record, tmp_path) -> Job:
    job = Job(record, tmp_path)
    job.add(*(f"r{i:02}" for i in range(30)))
    job.transcribe(*(f"r{i:02}" for i in range(20)))
    return job


# ---- what is chosen ------------------------------------------------------------------------------


@pytest.mark.usefixtures("none")
@pytest.mark.parametrize("init", [None, "scratch"])
@pytest.mark.parametrize(("size", "found"), [(None, "tiny"), ("small", "small")])
def test_without_a_seed_everything_is_as_before_and_not_a_word_is_said(init, size, found, capsys):
    assert choose_start(init, size) == (None, found)
    said = capsys.readouterr()
    assert said.out == said.err == ""


@pytest.mark.usefixtures("none")
def test_a_seed_that_is_asked_for_and_not_there_is_refused():
    with pytest.raises(FileNotFoundError, match="This installation of speechssl has no seed"):
        choose_start("seed", None)


@pytest.mark.usefixtures("place")
def test_the_seed_is_the_default_where_there_is_one(capsys):
    start, size = choose_start(None, None)
    assert (start.source, start.name, size) == ("seed", "seed", "tiny")
    assert choose_start("scratch", None) == (None, "tiny")
    assert not capsys.readouterr().err
    assert choose_start(None, "base") == (None, "base")
    assert "no seed of the size base: its models begin from scratch" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_the_seed_with_another_size_is_refused():
    with pytest.raises(ValueError, match="--size base: the seed that --init seed names is a model"):
        choose_start("seed", "base")


def test_a_damaged_seed_is_not_left_out_silently(place):
    (place / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"The seed in .* is damaged"):
        choose_start(None, None)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("facebook/wav2vec2-xls-r-300m", "wav2vec2-xls-r-300m"),
        ("runs/pretrain/best", "pretrain"),
        ("seed:small", "seed-small"),
        ("torchaudio:HUBERT_BASE", "torchaudio-HUBERT_BASE"),
        ("runs/scratch", "scratch-model"),
        ("/", "model"),
        ("..", "model"),
    ],
)
def test_the_names_of_runs_come_from_the_models(source, name, place):
    assert Start(source, load_model(place)).name == name


# ---- the plan ------------------------------------------------------------------------------------


def large(monkeypatch, place) -> Start:
    monkeypatch.setattr(starts, "LARGE", 1)
    return Start("facebook/x", load_model(place))


def test_the_stages_and_the_minutes_of_a_start(place, monkeypatch):
    small = Start("seed", load_model(place))
    names = [[run.name for run in stage] for stage in plan.stages(small)]
    assert names == [
        ["pretrain"],
        ["pretrain-from-seed"],
        ["pretrained", "from-scratch"],
        ["from-seed-pretrained", "from-seed"],
        ["from-seed-self-trained"],
    ]
    assert [[run.name for run in stage] for stage in plan.stages(None)] == names[:3:2]
    start = large(monkeypatch, place)
    assert [[run.name for run in stage] for stage in plan.stages(start)] == [
        ["from-x"],
        ["pretrain"],
        ["pretrained", "from-scratch"],
    ]


def test_every_choice_takes_the_same_minutes(place, monkeypatch):
    def spent(start) -> float:
        budget = Budget.of(100, start)
        minutes = 0.0
        for first, *_ in plan.stages(start):
            if first.self_trains:
                config = plan.student_config("tiny", budget, start).student
            else:
                config = plan.config_of(first, "tiny", budget, start)
            minutes += config.loop.budget_minutes
        return minutes

    small = Start("seed", load_model(place))
    assert spent(None) == pytest.approx(88)
    assert spent(small) == pytest.approx(88)
    assert spent(large(monkeypatch, place)) == pytest.approx(88)


def test_a_large_model_is_adapted_by_lora_on_a_cpu(place, monkeypatch):
    start = large(monkeypatch, place)
    assert start.by_lora
    config = plan.tuning_config("tiny", Budget.of(100, start), start)
    assert (config.learns, config.optim.lr, config.model) == ("lora", 1e-3, MICRO)
    assert config.loop.budget_minutes == 44
    assert "a few added weights of it (LoRA); its time and memory are measured" in start.describe()
    monkeypatch.setattr(starts, "find_spec", lambda _: None)
    with pytest.raises(
        ImportError, match=r"needs the package peft: pip install 'speechssl\[lora\]'"
    ):
        choose_start(str(place), None)


@pytest.fixture
def xls_r(tmp_path):
    """The folder of an XLS-R of random weights: its architecture, few layers of small width."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        codevector_dim=8,
        num_codevectors_per_group=4,
        proj_codevector_dim=8,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        conv_bias=True,
    )
    folder = tmp_path / "wav2vec2-xls-r-300m"
    transformers.Wav2Vec2ForPreTraining(config).save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    extractor.save_pretrained(folder)
    return folder


@pytest.mark.extras
@pytest.mark.usefixtures("none")
def test_the_job_with_a_downloaded_model(xls_r, record, tmp_path, monkeypatch, capsys):
    """LoRA comes first, and its memory and time are said before anything else is done."""
    pytest.importorskip("peft")
    monkeypatch.setattr(starts, "LARGE", 1)
    job = new_job(record, tmp_path)
    job.run(init=str(xls_r))
    said = capsys.readouterr()
    order = ["few added weights of it (LoRA)", "Memory: about", "Speed:", "Pretraining on"]
    places = [said.err.index(words) for words in order]
    assert places == sorted(places)
    name = "from-wav2vec2-xls-r-300m"
    results = json.loads((job.out / "results.json").read_text())
    assert list(results["models"]) == [name, "pretrained", "from-scratch"]
    assert f"{name} against pretrained" in results["differences"]
    meta = load_model(job.out / name).meta
    assert (meta["learns"], meta["start"]) == ("lora", "fine_tuned")
    after, before = load_model(job.out / name).speech, open_model(str(xls_r)).speech
    own = before.state_dict()
    moved = {n for n, v in after.state_dict().items() if not torch.equal(v, own[n])}
    assert moved
    assert all(n.startswith("context.layers.") for n in moved)
    models = {run: job.model(run) for run in results["models"]}
    job.run(init=str(xls_r))
    assert {run: job.model(run) for run in models} == models


def test_memory_that_is_too_small_is_said_before_anything_else(
    place, record, tmp_path, monkeypatch
):
    """With the settings that would fit, and the command that takes them."""
    monkeypatch.setattr(starts, "LARGE", 1)

    def refuse(*_, **__):
        raise ValueError("A micro-batch of 10 s needs 9 GB. Give --batch_s 5.")

    monkeypatch.setattr(finetuning, "finetune", refuse)
    monkeypatch.setattr(pretraining, "pretrain", lambda *_, **__: pytest.fail("has begun"))
    with pytest.raises(ValueError, match=r"--batch_s 5\. `speechssl finetune --init "):
        new_job(record, tmp_path).run(init=str(place))


REAL = stages._at_the_same_time


def test_threads_come_back_after_two_at_the_same_time(tmp_path):
    """Else the second pair would have a quarter of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        for _ in range(2):
            with REAL([sys.executable, "-c", "", "--init", "seed"], tmp_path / "run"):
                assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def a_pair(low: float, high: float) -> Pair:
    difference = Difference(-0.1, -0.2, 0.0, (low + high) / 2, low, high)
    return Pair("a", "b", Comparison(difference, difference, 9, "utterance"))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 0.3, "a against b: CER reduced by 20 % relative"),
        (-0.1, 0.3, "a against b, not clear: CER reduced by 10 % relative"),
        (-0.3, -0.1, "a against b: CER raised by 20 % relative (95 % interval 10 to 30 %"),
        (-0.3, 0.1, "a against b, not clear: CER raised by 10 % relative (95 % interval -10 to 30"),
    ],
)
def test_what_is_not_clear_is_said_so(low, high, said):
    assert in_words(a_pair(low, high), alone=False).startswith(said)


# ---- whole jobs of two updates -------------------------------------------------------------------


def test_the_job_with_the_seed_compares_all_four(place, record, tmp_path, capsys):
    job = new_job(record, tmp_path)
    job.run()
    said = capsys.readouterr()
    assert "Start: seed (" in said.err
    assert "Pretraining on 0 minutes without transcripts, from seed" in said.err
    results = json.loads((job.out / "results.json").read_text())
    assert list(results["models"]) == ALL
    assert list(results["differences"]) == [
        "from-seed-pretrained against from-scratch",
        "from-seed against from-scratch",
        "pretrained against from-scratch",
        "from-seed-pretrained against pretrained",
        "from-seed-pretrained against from-seed",
    ]
    assert all(name in said.out for name in (*ALL, *results["differences"]))
    assert "(fewest errors on the validation set)" in said.out
    metas = {name: load_model(job.out / name).meta for name in ALL}
    assert [metas[name]["init"] and metas[name]["init"]["start"] for name in ALL] == [
        "supervised_continued",
        "supervised",
        "self_supervised",
        None,
    ]
    assert metas["from-seed"]["init_folder"] == "seed"
    config = json.loads((job.out / "pretrain-from-seed" / "config.json").read_text())
    assert (config["teacher"], config["teacher_beside"]) == ("seed", True)
    before = {run.name: job.model(run.name) for run in runs_of(Start("seed", load_model(place)))}
    job.run()  # again: nothing is done anew
    assert {name: job.model(name) for name in before} == before
    assert "begun anew" not in capsys.readouterr().err
    # Another seed has come with the package: what began with the old one is set aside.
    put_another(place)
    job.run()
    said = capsys.readouterr().err
    begun = said.partition("earlier-1, and ")[2].partition(" begun anew")[0]
    after_the_seed = {"pretrain-from-seed", "from-seed-pretrained", "from-seed", STUDENT}
    assert set(begun.split(", ")) == after_the_seed
    now = {name: job.model(name) for name in before}
    assert {n for n in before if now[n] != before[n]} == after_the_seed


def put_another(place) -> None:
    from speechssl.seed.card import SeedCard, Source
    from speechssl.seed.pack import pack

    found = load_model(place)
    weight = found.speech.project.weight
    weight.data += 0.5
    card = SeedCard("CC0-1.0", (Source("A", "https://example.org", "CC0-1.0", 1.0, ("wo",)),))
    pack(found, card, place, best_layer=1)


def test_a_job_from_before_the_seed_goes_on_with_scratch(record, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(seed, "FOLDER", tmp_path / "none")
    job = new_job(record, tmp_path)
    job.run()
    models = job.models()
    assert "seed" not in capsys.readouterr().err
    put_seed(monkeypatch, tmp_path / "package" / "seed", MICRO)
    before = bytes_in(job.out)
    with pytest.raises(ValueError, match="another --budget-minutes, --size or --init, or of anoth"):
        job.run()
    assert bytes_in(job.out) == before
    job.run(init="scratch")
    assert job.models() == models
    results = json.loads((job.out / "results.json").read_text())
    assert list(results["models"]) == ["pretrained", "from-scratch"]
    assert "differences" not in results


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("init", "source"), [(None, "seed"), ("scratch", None)])
def test_demo_begins_with_the_seed_too(init, source, record, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(jobs, "compare_with_scratch", lambda **told: given.append(told) or 0)
    job = new_job(record, tmp_path)
    job.run(init="scratch")  # writes the manifests
    paths = {name: job.out / "data" / f"{name}.jsonl" for name in ("train", "dev", "test")}
    corpus = SimpleNamespace(**paths, unlabeled=paths["train"], note="", sha256="0" * 64)
    monkeypatch.setattr(jobs, "make_corpus", lambda *_, **__: corpus)
    assert jobs.demo(tmp_path / "demo", 9.0, 1, init) == 0
    start, budget = given[1]["start"], given[1]["budget"]
    assert (start and start.source, given[1]["size"]) == (source, "tiny")
    assert budget == Budget.of(9.0, start)
