"""speechssl.inference.eaf_files, and the formats of linguists from transcribe and align."""

import shutil
from pathlib import Path

import pytest

from speechssl.annotations import read, read_all
from speechssl.cli import main
from speechssl.decoding.align import Word
from speechssl.inference.eaf_files import EafFiles, OwnFile
from speechssl.inference.transcript import Transcript, to_segments
from speechssl.inference.writers import WRITERS
from tests.annotations.eafs import FULL, TWO, small
from tests.data.layouts.files import put

pytestmark = pytest.mark.extras

WORDS = (Word("hé", 0.5, 0.9, 0.9), Word("you", 1.0, 1.5004, 0.8), Word("there", 3.0, 3.5, 0.7))


def transcript(audio: str = "in/story.mp4", speaker: str = "") -> Transcript:
    return Transcript(audio, 4.0, to_segments(WORDS), 0.8, speaker=speaker)


def spans(path: Path, name: str) -> list[tuple[float, float, str]]:
    (tier,) = (tier for each in read_all(path) for tier in each.tiers if tier.name == name)
    return [(s.start_s, s.end_s, s.text) for s in tier.segments]


@pytest.mark.parametrize(
    ("form", "name", "tier"),
    [
        ("eaf", "x.eaf", "phrases"),
        ("textgrid", "x.TextGrid", "phrases"),
        ("audacity", "x.txt", "labels"),
        ("stm", "x.stm", "1"),
        ("ctm", "x.ctm", "1"),
        ("srt", "x.srt", "x"),
        ("vtt", "x.vtt", "x"),
    ],
)
def test_what_is_written_is_read_again(tmp_path, form, name, tier):
    (tmp_path / name).write_text(WRITERS[form](transcript()), encoding="utf-8")
    found = [row for row in spans(tmp_path / name, tier) if row[2]]
    assert [text for *_, text in found] == ["hé you", "there"]
    if form not in ("srt", "vtt"):  # which are shown for longer
        assert [(a, b) for a, b, _ in found] == [(0.5, 1.5), (3.0, 3.5)]


def test_rttm_and_flextext_have_the_speaker():
    assert WRITERS["rttm"](transcript(speaker="channel 1")).splitlines()[0] == (
        "SPEAKER story 1 0.500 1.000 <NA> <NA> channel_1 <NA> <NA>"
    )
    text = WRITERS["flextext"](transcript(speaker="channel 1"))
    assert 'begin-time-offset="500" end-time-offset="1500"' in text
    assert 'speaker="channel 1"' in text
    assert 'location="in/story.mp4"' in text


# ---- a person's own ------------------------------------------------------------------------------


def test_the_transcript_is_a_tier_of_the_file_of_its_recording(tmp_path):
    put(tmp_path, {"eafs/s.eaf": FULL, "eafs/deep/b.eaf": small(TWO), "eafs/x.txt": "no"})
    files = EafFiles(tmp_path / "eafs")
    made, note = files.make(transcript(), None)
    assert note == ""
    (tmp_path / "out.eaf").write_bytes(made)
    # the file's time is zero at 0.5 s of the video
    assert spans(tmp_path / "out.eaf", "speechssl") == [(0, 1, "hé you"), (2.5, 3, "there")]
    assert (tmp_path / "eafs" / "s.eaf").read_bytes() == FULL.encode()
    made, _ = EafFiles(tmp_path / "eafs" / "s.eaf", "hypotheses").make(
        transcript("story.wav"), None
    )
    (tmp_path / "out.eaf").write_bytes(made)
    assert spans(tmp_path / "out.eaf", "hypotheses")[1] == (2.75, 3.25, "there")  # 0.25 s
    made, note = files.make(transcript("b.flac"), None)  # by its name
    (tmp_path / "out.eaf").write_bytes(made)
    assert [tier.name for tier in read(tmp_path / "out.eaf").tiers] == ["A", "B", "speechssl"]
    made, note = files.make(transcript("else.wav"), tmp_path)
    assert note.startswith("No .eaf in ")
    assert note.endswith(" is of else.wav: its file is a new one.")
    (tmp_path / "out.eaf").write_bytes(made)
    assert [tier.name for tier in read(tmp_path / "out.eaf").tiers] == ["phrases", "phrases-words"]


def test_of_several_files_the_one_beside_the_recording_is_meant(tmp_path):
    put(tmp_path, {"x/a.eaf": small(TWO), "y/a.eaf": small(TWO), "x/a.wav": b""})
    files = EafFiles(tmp_path)
    with pytest.raises(
        ValueError, match=r"a\.wav is named by 2 files of ELAN .*give one as --into"
    ):
        files.make(transcript("a.wav"), None)
    assert files.make(transcript(str(tmp_path / "x" / "a.wav")), None)[1] == ""


@pytest.mark.parametrize(
    ("own", "recording", "origin_s"),
    [
        ("a.eaf", "a.wav", 0.0),
        ("a.wav.annotations.eaf", "a.wav", 0.0),
        ("A.eaf", "sub/a.mp4", 0.0),
        ("b.eaf", "a.wav", None),
    ],
)
def test_a_file_is_of_the_recording_of_its_name(own, recording, origin_s):
    assert OwnFile(Path(own), ()).origin_of(Path(recording)) == origin_s


@pytest.mark.parametrize(
    ("files", "into", "error", "words"),
    [
        ({}, "gone", FileNotFoundError, "There is no file or folder"),
        ({"in/a.wav": b""}, "in", ValueError, "There is no .eaf in"),
        ({"a.eaf": b"no"}, "a.eaf", ValueError, "is no well-formed XML"),
    ],
)
def test_what_is_no_file_to_add_to(tmp_path, files, into, error, words):
    put(tmp_path, files)
    with pytest.raises(error, match=words):
        EafFiles(tmp_path / into)


# ---- the commands --------------------------------------------------------------------------------


def test_transcribe_writes_every_format(tiny_models, record, tmp_path, capsys):
    """One command each, of a recording of half a second and a model of random weights."""
    (tmp_path / "in").mkdir()
    recording = record("in/story.wav", 0.5)
    put(tmp_path, {"in/s.eaf": small(TWO, media="file:///gone/story.wav")})
    base = ["transcribe", str(tiny_models["ctc"]), str(recording), "--out", str(tmp_path / "out")]

    def made(*more: str) -> str:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert main([*base, *more]) == 0
        (path,) = (tmp_path / "out").iterdir()
        return path.name

    assert made("--format", "audacity") == "story.labels.txt"
    assert made("--format", "flextext", "--language", "mdw") == "story.flextext"
    assert 'lang="mdw"' in (tmp_path / "out" / "story.flextext").read_text(encoding="utf-8")
    assert made("--format", "eaf") == "story.eaf"
    places = read(tmp_path / "out" / "story.eaf").media[0].places
    assert places == ("../in/story.wav", str(recording))
    assert made("--format", "eaf", "--tiers", "saymore") == "story.wav.annotations.eaf"
    tiers = read(tmp_path / "out" / "story.wav.annotations.eaf").tiers
    assert [t.name for t in tiers] == ["Transcription", "Phrase Free Translation"]
    assert (
        made("--format", "eaf", "--into", str(tmp_path / "in"), "--tier-name", "m") == "story.eaf"
    )
    assert [t.name for t in read(tmp_path / "out" / "story.eaf").tiers] == ["A", "B", "m"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "srt", "--into", "x.eaf"], "--into: only with --format eaf, got srt"),
        (["--format", "eaf", "--tier-name", "x"], "--tier-name is the name of the tier"),
        (["--format", "eaf", "--into", "x.eaf"], "--into needs --out DIR"),
        (
            ["--format", "eaf", "--out", "o", "--into", "gone.eaf"],
            "There is no file or folder gone",
        ),
        (["--format", "eaf", "--language", "mdw"], "--language is of --format flextext"),
    ],
)
def test_options_without_a_use_are_refused(record, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    recording = record("a.wav", 0.5)
    assert main(["transcribe", "model", str(recording), *options]) == 2
    assert words in capsys.readouterr().err
