"""Many recordings: what is done is not done again, and none that is broken stops the others."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.checkpoint import add_to_meta, load_model, save_model
from speechssl.cli import main
from speechssl.commands import options, subtitles
from speechssl.inference.done import RECORD, DoneRecord, digest_of, model_digest
from speechssl.inference.subtitles import PROFILES

pytestmark = pytest.mark.filterwarnings("always::speechssl.audio.AudioWarning")


@pytest.fixture
def model(tiny_models, tmp_path) -> Path:
    return shutil.copytree(tiny_models["ctc"], tmp_path / "model")


@pytest.fixture
def source(record, tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(3):
        record(f"in/{i}.wav", 0.4 + 0.1 * i)
    return tmp_path / "in"


@pytest.fixture
def again(model, source, tmp_path, capsys):
    """Transcribes with --skip-existing; the files that were written, and what was said."""
    out = tmp_path / "out"

    def run(*more: object, code: int = 0) -> tuple[list[str], str]:
        before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
        for path in before:
            os.utime(path, ns=(1, 1))
        capsys.readouterr()
        arguments = ["transcribe", model, source, "--out", out, "--skip-existing", *more]
        assert main([str(argument) for argument in arguments]) == code
        made = [p for p in out.rglob("*") if p.is_file() and p.stat().st_mtime_ns != 1]
        return sorted(p.name for p in made if p.name != RECORD), capsys.readouterr().err

    return run


ALL = ["0.txt", "1.txt", "2.txt"]


def test_the_second_time_nothing_is_done(again):
    assert again()[0] == ALL
    assert again() == ([], "speechssl: 3 of 3 recordings are transcribed already.\n")


def test_another_recording_is_done_again(again, source, record):
    again()
    stat = (source / "1.wav").stat()
    audio.write(source / "1.wav", audio.read(source / "1.wav")[::-1].copy(), 16000)
    os.utime(source / "1.wav", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # looks the same
    assert again() == (["1.txt"], "speechssl: 2 of 3 recordings are transcribed already.\n")
    record("in/3.wav", 0.5)
    assert again()[0] == ["3.txt"]
    os.utime(source / "2.wav")  # touched is not changed
    assert again()[0] == []


@pytest.mark.parametrize(
    "more",
    [("--beam", "2"), ("--precision", "bf16"), ("--lm", "LM"), ("--lm", "LM", "--bonus", "2")],
)
def test_other_options_are_other_work(more, again, tmp_path):
    text, lm = tmp_path / "text.txt", tmp_path / "lm.arpa"
    text.write_text("abc déf\nabc\ndéf abc\n" * 5, encoding="utf-8")
    assert main(["lm", str(text), "--out", str(lm)]) == 0
    more = [str(lm) if word == "LM" else word for word in more]
    again()
    assert again(*more)[0] == ALL
    assert again(*more)[0] == []
    if "--lm" in more:  # the file's content, not its name
        text.write_text("déf déf\n" * 9, encoding="utf-8")
        assert main(["lm", str(text), "--out", str(lm)]) == 0
        assert again(*more)[0] == ALL


def test_what_changes_no_transcript_is_the_same_work(again):
    again()
    assert again("--batch-s", "5", "--processes", "1")[0] == []


def test_each_format_has_its_own(again):
    again()
    assert again("--format", "srt")[0] == ["0.srt", "1.srt", "2.srt"]
    assert again("--format", "srt")[0] == []
    assert again("--format", "srt", "--subtitle-characters", "20")[0] == ["0.srt", "1.srt", "2.srt"]
    assert again()[0] == []


def test_another_model_is_other_work(again, model):
    again()
    checkpoint = load_model(model)
    weight = checkpoint.require_ctc()[0].head.linear.weight
    weight.data[-1, -1] += 1.0  # the last weight alone
    save_model(model, checkpoint)
    assert again()[0] == ALL
    add_to_meta(model, "steps", 5)  # says nothing of transcripts
    assert again()[0] == []


def test_a_transcript_that_is_gone_or_cut_off_is_made_again(again, tmp_path):
    again()
    (tmp_path / "out" / "1.txt").unlink()
    assert again()[0] == ["1.txt"]


def test_what_a_person_corrected_is_kept(again, tmp_path):
    again()
    corrected = tmp_path / "out" / "1.txt"
    corrected.write_text("what was said\n", encoding="utf-8")
    made, said = again("--beam", "2")
    assert made == ["0.txt", "2.txt"]
    assert "1 transcripts were changed by hand since they were made, and are kept" in said
    assert f"(the first: {corrected})" in said
    assert corrected.read_text() == "what was said\n"


def test_what_was_made_without_the_record_is_made_again_and_said(again, tmp_path, model, source):
    out = tmp_path / "out"
    assert main(["transcribe", str(model), str(source), "--out", str(out)]) == 0
    assert not (out / RECORD).exists()
    made, said = again()
    assert made == ALL
    assert "Of 3 transcripts that lie there it is not known what they were made of" in said
    # From then on also a run without the option keeps the record true.
    assert main(["transcribe", str(model), str(source), "--out", str(out), "--beam", "2"]) == 0
    made, said = again()
    assert (made, "by hand" in said) == (ALL, False)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe\n",
        b"[1]\n",
        b'{"output": 1, "work": 2, "content": 3}\n',
        b"[" * 100_000 + b"\n",
        b'{"output": "0.txt"',
    ],
    ids=range(7),
)
def test_a_damaged_record_costs_work_and_nothing_else(damage, again, tmp_path):
    again()
    record = tmp_path / "out" / RECORD
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(damage)
    assert again()[0] == ALL
    assert again()[0] == []
    record.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # killed while it was written
    assert again()[0] == ["2.txt"]
    assert again()[0] == []


def test_a_run_that_is_killed_goes_on_where_it_was(again, monkeypatch):
    real = DoneRecord.add
    calls = []

    def dies(self, output, work):
        calls.append(output)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(self, output, work)

    monkeypatch.setattr(DoneRecord, "add", dies)
    again(code=130)
    monkeypatch.setattr(DoneRecord, "add", real)
    assert again()[0] == ["1.txt", "2.txt"]  # the second was written and not recorded


def test_digests(tiny_models, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    assert digest_of(tmp_path / "a") == digest_of(b"x") != digest_of(b"y")
    with pytest.raises(OSError, match="is no file"):
        digest_of(tmp_path)
    a, b = (model_digest(load_model(tiny_models[name])) for name in ("ctc", "conv"))
    assert a != b
    assert a == model_digest(load_model(tiny_models["ctc"]))


def test_it_needs_a_folder(model, source, capsys):
    assert main(["transcribe", str(model), str(source), "--skip-existing"]) == 2
    assert "--skip-existing needs --out DIR" in capsys.readouterr().err


# ---- broken recordings --------------------------------------------------------------------------


def break_one(path: Path, kind: str) -> bool:
    """Put something broken in place of a recording; whether it is an error."""
    whole = path.read_bytes()
    header = whole[:44]
    contents = {
        "empty": b"",
        "text": b"I am not sound.",
        "zeros": bytes(500),
        "noise": np.random.default_rng(0).bytes(500),
        "no samples": header,
        "half a header": whole[:20],
        "no rate": whole[:24] + bytes(4) + whole[28:],
        "no channels": whole[:22] + bytes(2) + whole[24:],
        "70,000 channels": whole[:22] + b"\xff\xff" + whole[24:],
        "rate of 4 GHz": whole[:24] + b"\xff\xff\xff\xff" + whole[28:],
        "unknown coding": whole[:20] + b"\x99\x99" + whole[22:],
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    elif kind == "a dead link":
        path.unlink()
        path.symlink_to("nowhere.wav")
    elif kind == "NaN":
        import soundfile

        soundfile.write(path, np.full(800, np.nan, np.float32), 16000, subtype="FLOAT")
    return True


KINDS = (
    *("empty", "text", "zeros", "noise", "no samples", "half a header", "no rate", "no channels"),
    *("70,000 channels", "rate of 4 GHz", "unknown coding", "a folder", "a dead link", "NaN"),
)


def test_thousands_of_recordings_survive_any_broken_one(model, tmp_path, capsys, monkeypatch):
    """Each kind of damage is somewhere among them, and one file is gone when it is to be read."""
    from speechssl.inference import transcribe as module

    source = tmp_path / "many"
    source.mkdir()
    generator = np.random.default_rng(0)
    audio.write(source / "seed.wav", generator.uniform(-0.3, 0.3, 400).astype(np.float32), 16000)
    whole = (source / "seed.wav").read_bytes()
    (source / "seed.wav").unlink()
    num = 1000
    for i in range(num):
        (source / f"{i:05}.wav").write_bytes(whole)
    broken = {}
    for place, kind in enumerate(KINDS):
        path = source / f"{7 + 27 * place:05}.wav"
        break_one(path, kind)
        broken[path.name] = kind
    out = tmp_path / "texts"
    names = [str(path) for path in sorted(source.glob("*.wav"))]
    gone = source / "00300.wav"
    real = module.Transcriber.__call__

    def loses_one(self, clips):
        gone.unlink(missing_ok=True)  # found, and gone when it is read
        yield from real(self, clips)

    monkeypatch.setattr(module.Transcriber, "__call__", loses_one)
    listed = [n for n in names if Path(n).exists() and not Path(n).is_dir()]
    assert main(["transcribe", str(model), *listed, "--out", str(out), "--processes", "1"]) == 1
    said = capsys.readouterr().err
    made = {path.stem for path in out.glob("*.txt")}
    for name, kind in broken.items():
        if kind not in ("a folder", "a dead link"):
            assert (Path(name).stem in made) != (str(source / name) in said), kind
    assert str(gone) in said
    whole_ones = {f"{i:05}" for i in range(num)} - {Path(n).stem for n in broken} - {"00300"}
    assert whole_ones <= made
    assert f"{len(listed) - len(made)} of {len(listed)} recordings could not be read." in said
    assert "Traceback" not in said


def test_a_name_that_cannot_be_written_costs_one_transcript(model, record, tmp_path, capsys):
    long = "x" * 250 + ".wav"  # its transcript would have 255 bytes and more
    path = record("a.wav", 0.4)
    shutil.copy(path, tmp_path / long)
    out = tmp_path / "out"
    arguments = ["transcribe", str(model), str(tmp_path / long), str(path), "--out", str(out)]
    assert main([*arguments, "--format", "json"]) in (0, 1)
    (out / "b.txt").mkdir(parents=True)
    shutil.copy(path, tmp_path / "b.wav")
    arguments = ["transcribe", str(model), str(tmp_path / "b.wav"), str(path), "--out", str(out)]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert f"The transcript of {tmp_path / 'b.wav'} cannot be written" in said
    assert said.splitlines()[-1] == "speechssl: 1 of 2 transcripts could not be written."
    assert (out / "a.txt").is_file()


def test_a_full_disk_ends_the_command(model, source, tmp_path, capsys, monkeypatch):
    import errno

    from speechssl import files

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "replace", full)
    assert main(["transcribe", str(model), str(source), "--out", str(tmp_path / "out")]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_two_recordings_of_one_name_can_be_told_apart(model, record, tmp_path, capsys):
    (tmp_path / "monday").mkdir()
    (tmp_path / "tuesday").mkdir()
    paths = [str(record(name, 0.4)) for name in ("monday/a.wav", "tuesday/a.wav", "tuesday/a.flac")]
    assert main(["transcribe", str(model), *paths, "--out", str(tmp_path / "out")]) == 0
    made = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.txt")
    )
    assert made == ["monday/a.wav.txt", "tuesday/a.flac.txt", "tuesday/a.wav.txt"]
    said = capsys.readouterr().out.splitlines()
    assert sorted(line.split(": ")[1] for line in said) == sorted(paths)


# ---- channels ------------------------------------------------------------------------------------


@pytest.fixture
def call(tmp_path) -> Path:
    """Two people who speak in turns, each on a channel; and what each says alone."""
    generator = np.random.default_rng(3)
    left, right = generator.uniform(-0.4, 0.4, (2, 3 * 16000)).astype(np.float32)
    left[24000:], right[:24000] = 0, 0
    audio.write(tmp_path / "call.wav", np.stack([left, right], axis=1), 16000)
    audio.write(tmp_path / "left.wav", left, 16000)
    audio.write(tmp_path / "right.wav", right, 16000)
    return tmp_path / "call.wav"


def test_each_channel_has_its_transcript_on_one_clock(call, model, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["transcribe", str(model), str(call), "--format", "json"]
    assert main([*arguments, "--channels", "split", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""  # nothing is renamed
    for number, name in ((1, "left"), (2, "right")):
        found = json.loads((out / f"call.channel-{number}.json").read_text())
        assert (
            main(["transcribe", str(model), str(tmp_path / f"{name}.wav"), "--format", "json"]) == 0
        )
        alone = json.loads(capsys.readouterr().out)
        assert found.pop("speaker") == f"channel {number}"
        assert found.pop("audio") == str(call)
        alone.pop("audio")
        assert found == alone
    assert len(list(out.iterdir())) == 2


def test_the_first_channel_or_the_mix(call, model, tmp_path, capsys):
    said = {}
    for name, given in (
        ("first", ["--channels", "first"]),
        ("mix", ["--channels", "mix"]),
        ("default", []),
    ):
        assert main(["transcribe", str(model), str(call), *given]) == 0
        said[name] = capsys.readouterr().out
    assert main(["transcribe", str(model), str(tmp_path / "left.wav")]) == 0
    assert said["first"] == capsys.readouterr().out
    assert said["mix"] == said["default"] != said["first"]


def test_on_standard_output_it_is_said_which_channel(call, model, record, capsys):
    path = record("mono.wav", 0.4)
    arguments = ["transcribe", str(model), str(call), str(path), "--channels", "split"]
    assert main(arguments) == 0
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [f"{call} (channel 1)", f"{call} (channel 2)", str(path)]
    assert main([*arguments[:3], "--channels", "split", "--format", "srt"]) == 2
    assert "2 recordings cannot be in one srt" in capsys.readouterr().err


def test_what_cannot_be_split_is_said_once(model, record, tmp_path, capsys):
    bad, good = tmp_path / "bad.wav", record("a.wav", 0.4, channels=2)
    bad.write_text("I am not sound.")
    arguments = ["transcribe", str(model), str(bad), str(good), "--channels", "split"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("cannot be opened as sound") == 1
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_channels_from_standard_input(call, model, monkeypatch, capsys):
    import io
    import sys
    import types

    stdin = types.SimpleNamespace(buffer=io.BytesIO(call.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["transcribe", str(model), "-", "--channels", "split", "--format", "tsv"]) == 0
    names = {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[1:]}
    assert names == {"- (channel 1)", "- (channel 2)"}


def test_each_channel_is_work_of_its_own(call, again, source):
    shutil.copy(call, source / "call.wav")
    made = ["0.txt", "1.txt", "2.txt", "call.channel-1.txt", "call.channel-2.txt"]
    assert again("--channels", "split")[0] == made
    assert again("--channels", "split")[0] == []
    assert again()[0] == ["call.txt"]


# ---- subtitles ----------------------------------------------------------------------------------


def test_the_profiles_are_those_that_exist():
    assert tuple(PROFILES) == subtitles.PROFILES
    assert set(subtitles.SUBTITLES) <= set(options.FORMATS)


@pytest.mark.parametrize("fmt", ["srt", "vtt"])
def test_subtitles_keep_the_rules_that_are_given(fmt, model, record, capsys):
    path = str(record("a.wav", 9.0))
    arguments = ["transcribe", str(model), path, "--format", fmt]
    assert main([*arguments, "--subtitle-lines", "1", "--subtitle-characters", "12"]) == 0
    lines = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line and "-->" not in line and line != "WEBVTT" and not line.isdigit()
    ]
    assert lines
    assert max(map(len, lines)) <= 12


def test_rushed_subtitles_are_named(model, record, capsys):
    path = str(record("a.wav", 3.0))
    assert main(["transcribe", str(model), path, "--format", "srt", "--subtitle-speed", "1"]) == 0
    said = capsys.readouterr().err
    assert f"subtitles (the first: {path} at " in said
    assert "are shown for less time than they need" in said


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--format", "txt", "--subtitle-lines", "1"), "--subtitle-lines: only with --format srt"),
        (("--subtitle-profile", "children"), "--subtitle-profile: only with --format srt or vtt"),
        (
            ("--format", "srt", "--subtitle-lines", "0"),
            "subtitle lines must be from 1 to 10, got 0",
        ),
        (("--format", "vtt", "--subtitle-max-s", "0.6"), "subtitle min_s must not be above max_s"),
        (("--format", "srt", "--subtitle-speed", "nan"), "subtitle speed must be from 1"),
    ],
)
def test_settings_that_cannot_be_are_said_before_any_work(given, sentence, model, record, capsys):
    assert main(["transcribe", str(model), str(record("a.wav", 0.4)), *given]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err


def test_json_is_whole(model, source, tmp_path):
    out = tmp_path / "out"
    assert main(["transcribe", str(model), str(source), "--format", "json", "--out", str(out)]) == 0
    assert {json.loads(p.read_text())["audio"] for p in out.glob("*.json")} == {
        str(p) for p in source.glob("*.wav")
    }
