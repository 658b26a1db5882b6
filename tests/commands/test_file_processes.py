"""Two processes give what one gives, byte for byte: texts, files, sentences, exit codes."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from speechssl import audio
from speechssl.checkpoint import Checkpoint, load_model, save_model
from speechssl.cli import main
from speechssl.commands import progress
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.inference import groups
from speechssl.inference.transcribe import transcribe
from speechssl.text import CharTokenizer
from speechssl.workers import sharing

pytestmark = pytest.mark.filterwarnings("always::speechssl.audio.AudioWarning")


@pytest.fixture(autouse=True)
def _no_progress(monkeypatch):
    """Which depends on how busy the machine is."""
    monkeypatch.setattr(progress, "FIRST_S", float("inf"))


@pytest.fixture
def recordings(record, tmp_path) -> list[str]:
    """Of several lengths and formats, two of one name, a broken one, an empty one, one given twice,
    one cut off, one without samples, and a long one."""
    for name, seconds in (("a", 0.7), ("b", 2.3), ("c", 1.9), ("d", 0.4), ("e", 3.1), ("f", 1.2)):
        record(f"{name}.wav", seconds)
    (tmp_path / "sub").mkdir()
    record("sub/a.wav", 1.5, rate=8000, channels=2)
    record("long.flac", 33.0)
    (tmp_path / "broken.wav").write_bytes(b"RIFF this is no sound at all")
    (tmp_path / "empty.wav").write_bytes(b"")
    record("none.wav", 0.0)
    whole = record("cut.wav", 2.0).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    names = ["a", "b", "broken", "sub/a", "c", "long", "d", "empty", "e", "none", "cut", "a", "f"]
    suffix = {"long": "flac"}
    return [str(tmp_path / f"{name}.{suffix.get(name, 'wav')}") for name in names]


@pytest.fixture
def small_groups(monkeypatch):
    """Groups of two seconds, so that short recordings are several."""
    usual = groups._groups

    def small(clips, items, _group_s, *rest):
        return usual(clips, items, 2.0, *rest)

    monkeypatch.setattr(groups, "_groups", small)


@pytest.fixture
def with_worker(monkeypatch) -> Callable[[], int]:
    """This process waits in its first group until a worker has given a result; the number of
    results of workers."""
    usual_ask, usual_outcome = sharing.Worker.ask, sharing.outcome_of
    answers: list[object] = []
    there = threading.Event()

    def ask(self, what):
        answer = usual_ask(self, what)
        if isinstance(what, tuple):
            answers.append(answer)
            there.set()
        return answer

    def outcome(work, items):
        assert there.wait(120)
        return usual_outcome(work, items)

    monkeypatch.setattr(sharing.Worker, "ask", ask)

    def begin() -> int:
        monkeypatch.setattr(sharing, "outcome_of", outcome)
        return len(answers)

    return begin


@pytest.fixture
def same(capfd, tmp_path, with_worker):
    """``same("transcribe", ...)`` runs a command in one process and in two, and compares all: the
    exit code, stdout, stderr and files. OUT in its arguments is a fresh folder, in which are the
    files `before`. The first three, and the folder."""

    def check(
        *arguments: object, before: dict[str, str] | None = None
    ) -> tuple[int, str, str, Path]:
        found = []
        capfd.readouterr()  # what was said before
        for processes in (1, 2):
            place = tmp_path / "out"
            given = [str(a).replace("OUT", str(place)) for a in arguments]
            for name, text in (before or {}).items():
                place.mkdir(exist_ok=True)
                (place / name).write_text(text)
            if processes == 2:
                with_worker()
            code = main([*given, "--processes", str(processes)])
            said = capfd.readouterr()
            files = {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*.*")}
            found.append((code, said.out, said.err, files))
            if place.exists():
                place.rename(tmp_path / f"out-{processes}")
        for one, two in zip(*found, strict=True):
            assert one == two
        assert with_worker() > 0
        return *found[0][:3], tmp_path / "out-2"

    return check


@pytest.mark.distributed
@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("form", ["json", "srt"])
def test_transcribe(form, tiny_models, recordings, same):
    to_files = ("--out", "OUT") if form == "srt" else ()
    model = tiny_models["ctc"]
    code, out, err, place = same("transcribe", model, *recordings, "--format", form, *to_files)
    assert code == 1
    assert "3 of 13 recordings could not be read." in err
    assert "cut.wav is cut off" in err
    if form == "json":
        named = [json.loads(line)["audio"] for line in out.splitlines()]
        unread = ("broken.wav", "empty.wav", "none.wav")
        assert named == [name for name in recordings if not name.endswith(unread)]
        texts = {json.loads(line)["text"] for line in out.splitlines()}
        assert len(texts) > 6  # the model says something of its own to each
    else:
        assert (place / "long.srt").exists()


@pytest.mark.distributed
@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("options", [("--layer", "1"), ("--pool", "mean")])
@pytest.mark.parametrize("table", [False, True])
def test_extract(options, table, tiny_models, recordings, same):
    if table:
        pytest.importorskip("pyarrow")
    (Path(recordings[0]).parent / "out").mkdir()
    place = "OUT/all.parquet" if table else "OUT"
    model = tiny_models["conv"]
    code, out, err, folder = same("extract", model, *recordings, *options, "--out", place)
    assert code == 1
    assert "3 of 13 recordings could not be read." in err
    assert "cut.wav is cut off" in err
    assert len(out.splitlines()) == 10
    names = {path.name for path in folder.iterdir()}
    assert (names == {"all.parquet"}) if table else ("long.npy" in names), names


@pytest.fixture
def manifest(recordings, tmp_path) -> Path:
    made = []
    for number, path in enumerate(recordings):
        if not path.endswith(("broken.wav", "empty.wav", "none.wav", "cut.wav", "long.flac")):
            seconds = audio.probe(path).duration_s
            made.append(Utterance(f"u{number}", path, 0.0, seconds, 16000, f"s{number % 3}", "abc"))
    made.append(replace(made[1], id="part", start_s=0.5, duration_s=0.9))
    write_manifest(tmp_path / "test.jsonl", made)
    return tmp_path / "test.jsonl"


@pytest.mark.distributed
@pytest.mark.usefixtures("small_groups")
def test_evaluate(tiny_models, manifest, same, monkeypatch):
    monkeypatch.setattr("speechssl.inference.evaluate.time.monotonic", lambda: 1.0)
    code, out, _, place = same(
        "evaluate", tiny_models["ctc"], manifest, "--out", "OUT/scores.json", "--beam", "4"
    )
    assert code == 0
    assert "9 utterances" in out
    assert len(json.loads((place / "scores.json").read_text())["utterances"]) == 9


@pytest.mark.distributed
@pytest.mark.usefixtures("small_groups")
def test_a_recording_that_evaluate_cannot_read(tiny_models, manifest, same, tmp_path):
    (tmp_path / "c.wav").unlink()
    code, out, err, _ = same("evaluate", tiny_models["ctc"], manifest)
    assert (code, out) == (2, "")
    assert "c.wav" in err


@pytest.mark.distributed
@pytest.mark.usefixtures("small_groups")
def test_find(recordings, same, tmp_path, tiny_models):
    model = tmp_path / "model"
    save_model(model, with_text_encoder(load_model(tiny_models["speech"])))
    code, out, err, _ = same("find", model, *recordings, "--text", "abc", "--top", "12")
    assert code == 1
    assert "3 of 13 recordings could not be read." in err
    assert len(out.splitlines()) == 11  # the text, and what was found


def with_text_encoder(checkpoint: Checkpoint) -> Checkpoint:
    from speechssl.config.json import to_json
    from speechssl.pretext.speech_text import SpeechTextConfig, SpeechTextTask

    tokenizer = CharTokenizer.train(["abc"])
    config = SpeechTextConfig(dim=16, text_dim=16, text_kernel=3)
    torch.manual_seed(0)
    task = SpeechTextTask(config, checkpoint.speech.config.context.dim, tokenizer)
    return replace(
        checkpoint,
        tokenizer=tokenizer,
        heads={f"speech_text.{name}": value for name, value in task.state_dict().items()},
        meta={"heads": {"speech_text": {"config": to_json(config), "layer": -1}}},
    )


@pytest.mark.distributed
def test_prepare(recordings, same, monkeypatch, tmp_path):
    """All that is written, the cache too; where a part of it is there already."""
    monkeypatch.setattr("speechssl.data.prepare.cache._CHUNK", 2)
    source = tmp_path / "source"
    source.mkdir()
    for path in recordings[:-2]:
        Path(path).rename(source / "-".join(Path(path).relative_to(tmp_path).parts))
    assert main(["prepare", str(source), "--out", str(tmp_path / "known")]) == 0
    cache = (tmp_path / "known" / "probe_cache.jsonl").read_text().splitlines(keepends=True)
    before = {"probe_cache.jsonl": "".join(cache[:4])}
    code, _, _, folder = same("prepare", source, "--out", "OUT", before=before)
    assert code == 0
    assert "broken" in (folder / "dropped.jsonl").read_text()
    assert len((folder / "probe_cache.jsonl").read_text().splitlines()) == len(cache)


def test_one_short_recording_is_as_with_the_function(tiny_models, record, capsys, monkeypatch):
    monkeypatch.setattr(sharing, "Worker", None)  # none is started
    path = record("a.wav", 1.1)
    assert main(["transcribe", str(tiny_models["ctc"]), str(path)]) == 0
    said = capsys.readouterr()
    assert said.out == transcribe(load_model(tiny_models["ctc"]), path).text + "\n"
    assert said.err == ""


@pytest.mark.parametrize("command", ["transcribe", "evaluate", "extract", "find", "prepare"])
@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5", "257"])
def test_a_number_of_processes_that_is_none(command, number, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "a", "b", "--processes", number])
    assert stop.value.code == 2
    assert f"must be auto or a number from 1 to 256, got '{number}'" in capsys.readouterr().err
