"""A known text and its recording: times, what is missing of one, files, the command."""

import json
import re

import numpy as np
import pytest
import soundfile

from speechssl import audio, files
from speechssl.checkpoint import Checkpoint, load_model
from speechssl.cli import main
from speechssl.inference.align import AlignedText, Aligner
from speechssl.inference.aligned_writers import ALIGNED_WRITERS
from speechssl.inference.known_text import known_text, read_known_text
from speechssl.inference.recordings import as_clip
from tests.inference.speller import say, speak, speller

LINES = [
    "the quick brown fox",
    "jumps over a lazy dog",
    "while seven wizards",
    "mix up the green potion",
]


@pytest.fixture
def checkpoint(tiny_models) -> Checkpoint:
    return speller(tiny_models["ctc"])


def aligned(checkpoint: Checkpoint, source, lines: list[str], **options) -> AlignedText:
    aligner = Aligner(checkpoint, precision="fp32", **options)
    return aligner(as_clip(source), known_text(lines, aligner.tokenizer))


def word_starts(lines: list[str], pause_s: float = 0.5) -> list[float]:
    """Where the words of :func:`say` begin, in seconds."""
    found, here = [], pause_s
    for line in lines:
        place = 0
        for word in line.split():
            place = line.index(word, place)
            found.append(here + 0.04 * place + 0.02)
        here += 0.04 * len(line) + pause_s
    return found


@pytest.mark.parametrize("max_chunk_s", [30.0, 2.0, 0.7])
def test_times_are_those_of_the_words(checkpoint, max_chunk_s):
    found = aligned(checkpoint, say(*LINES), LINES, max_chunk_s=max_chunk_s)
    assert found.unaligned == found.extra == ()
    assert [w.text for w in found.words] == " ".join(LINES).split()
    assert [w.start_s for w in found.words] == pytest.approx(word_starts(LINES), abs=1e-6)
    for word in found.words:
        assert word.end_s == pytest.approx(word.start_s + 0.04 * len(word.text) - 0.02, abs=1e-6)
        assert word.confidence == pytest.approx(0.9, rel=0.01)


@pytest.mark.parametrize("rate", [8000, 48000])
def test_times_are_those_of_the_file(checkpoint, tmp_path, rate):
    wave = say(*LINES)
    places = np.arange(round(len(wave) * rate / 16000)) * 16000 / rate
    held = wave[np.minimum(places.round().astype(int), len(wave) - 1)]
    soundfile.write(tmp_path / "a.wav", held, rate, subtype="FLOAT")
    found = aligned(checkpoint, tmp_path / "a.wav", LINES)
    assert found.num_aligned == len(found.words)
    assert [w.start_s for w in found.words] == pytest.approx(word_starts(LINES), abs=0.021)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_text_that_is_not_said_is_unaligned_where_it_should_be(checkpoint, place):
    lines = [*LINES[:place], "nobody said this at all", *LINES[place:]]
    found = aligned(checkpoint, say(*LINES), lines)
    (run,) = found.unaligned
    before = sum(len(line.split()) for line in LINES[:place])
    assert (run.text, run.line, run.first_word, run.num_words) == (
        lines[place],
        place + 1,
        before,
        5,
    )
    times = word_starts(LINES)
    timed = [w for w in found.words if w is not None]
    assert [w.start_s for w in timed] == pytest.approx(times, abs=1e-6)
    assert run.before_s == pytest.approx(times[before], abs=1e-6)
    assert run.after_s == pytest.approx(timed[before - 1].end_s if place else 0.0)
    assert found.extra == ()


@pytest.mark.parametrize("place", [0, 1, 3, 4])
def test_speech_without_text_is_named(checkpoint, place):
    said = [*LINES[:place], "nobody wrote this at all", *LINES[place:]]
    found = aligned(checkpoint, say(*said), LINES)
    (extra,) = found.extra
    before = sum(len(line.split()) for line in LINES[:place])
    times = word_starts(said)
    assert extra.before_word == before
    assert extra.start_s == pytest.approx(times[before], abs=0.05)
    assert extra.end_s == pytest.approx(times[before + 4] + 3 * 0.04 - 0.02, abs=0.05)
    assert [w.start_s for w in found.words] == pytest.approx(
        times[:before] + times[before + 5 :], abs=1e-6
    )


def test_a_text_ten_times_as_long_as_the_recording(checkpoint):
    lines = [f"{a * 3}o{a}e of {a}i{a}{a} {a * 4}" for a in "bcdfghjklmnpqrstvwxz"]
    found = aligned(checkpoint, say(*lines[7:9]), lines)
    assert [n for n, w in enumerate(found.words) if w is not None] == list(range(28, 36))
    assert [run.num_words for run in found.unaligned] == [28, 44]
    assert [w.start_s for w in found.words[28:36]] == pytest.approx(
        word_starts(lines[7:9]), abs=1e-6
    )


def test_a_text_of_more_letters_than_frames(checkpoint):
    lines = [*["quartz vex fjord"] * 40, "abide", *["quartz vex fjord"] * 40]
    found = aligned(checkpoint, speak("abide", 0.1), lines)
    assert [n for n, w in enumerate(found.words) if w is not None] == [120]


def test_letters_that_the_model_lacks_keep_the_times_of_the_others(checkpoint):
    found = aligned(checkpoint, say(*LINES), [LINES[0], "jumps ßåer a lazy dög", *LINES[2:]])
    assert found.known.unknown == {"å": 1, "ß": 1, "ö": 1}
    assert found.num_aligned == len(found.words)
    assert [w.start_s for w in found.words] == pytest.approx(word_starts(LINES), abs=0.021)
    assert found.words[5].text == "ßåer"


def test_phrases_end_where_lines_do(checkpoint):
    lines = ["The quick", "brown fox!", "", "— Jumps (over) a lazy dog …"]
    found = aligned(checkpoint, say(*LINES[:2], pause_s=0.1), lines)
    assert [s.text for s in found.transcript.segments] == [line for line in lines if line]
    assert found.transcript.text == " ".join(line for line in lines if line)


def test_letters_of_a_long_word_become_the_word(checkpoint):
    word = "rindfleischetikettierungsaufgabe"
    found = aligned(checkpoint, say(f"das {word} ist"), [f"Das {word.capitalize()}, ist."])
    assert len(found.words) == 2 + len(word)
    assert [w.text for w in found.transcript.words] == ["Das", f"{word.capitalize()},", "ist."]
    times = word_starts([f"das {word} ist"])
    assert [w.start_s for w in found.transcript.words] == pytest.approx(times, abs=1e-6)


def test_digital_silence_is_not_given_to_the_model(checkpoint):
    wave = np.concatenate([np.zeros(48_000, np.float32), say(*LINES)])
    found = aligned(checkpoint, wave, LINES, max_chunk_s=1.0)
    assert [w.start_s - 3 for w in found.words] == pytest.approx(word_starts(LINES), abs=1e-6)
    with pytest.raises(
        ValueError, match="The text is not that of wave: 0 of its 17 words and 100%"
    ):
        aligned(checkpoint, np.zeros(48_000, np.float32), LINES)


@pytest.mark.parametrize(
    "lines",
    [
        ["zwölf boxkämpfer jagen viktor", "quer übern großen sylter deich"],
        ["xxxx yyyy zzzz qqqq"] * 5,
        ["x"],
    ],
)
def test_the_text_of_another_recording(checkpoint, lines):
    with pytest.raises(ValueError, match=r"The text is not that of wave: \d+ of its \d+ words and"):
        aligned(checkpoint, say(*LINES), lines)


@pytest.mark.parametrize("name", ["ctc", "conv"])
def test_real_encoders_and_recordings_of_any_length(tiny_models, record, name):
    checkpoint = load_model(tiny_models[name])
    aligner = Aligner(checkpoint, precision="fp32", max_chunk_s=2.0)
    frames = aligner.frames(as_clip(record("a.wav", 9.3)), {3, 4})
    times = [frames.time_s(n) for n in range(frames.emissions.num_frames)]
    steps = np.diff(times)
    assert times[0] == 0
    assert 9.2 < times[-1] < 9.3
    assert (steps > 0.019).all()  # the conv encoder has a frame less than a window has hops
    assert steps.max() < (0.021 if name == "ctc" else 0.041)
    start_s, end_s = frames.span_s(len(times) - 1, len(times), 9.3)
    assert (start_s, end_s) == (times[-1], pytest.approx(min(times[-1] + 0.02, 9.3)))


def test_a_model_without_a_head(tiny_models):
    with pytest.raises(ValueError, match="has no transcription head"):
        Aligner(load_model(tiny_models["speech"]))


# --- output


@pytest.fixture
def found(checkpoint, tmp_path) -> AlignedText:
    audio.write(
        tmp_path / "my talk.wav", say(*LINES[:2], "nobody wrote this at all", LINES[3]), 16000
    )
    return aligned(checkpoint, tmp_path / "my talk.wav", LINES)


def test_json(found):
    data = json.loads(ALIGNED_WRITERS["json"](found))
    assert data["num_words"] == 17
    assert [s["text"] for s in data["segments"]] == [*LINES[:2], LINES[3]]
    (run,), (extra,) = data["unaligned"], data["extra"]
    assert run == {
        "text": LINES[2],
        "line": 3,
        "first_word": 9,
        "num_words": 3,
        "after_s": data["segments"][1]["end_s"],
        "before_s": data["segments"][2]["start_s"],
    }
    assert extra["before_word"] == 12
    assert run["after_s"] < extra["start_s"] < extra["end_s"] < run["before_s"]


def test_tsv_has_the_whole_text_in_its_order(found):
    header, *rows = [row.split("\t") for row in ALIGNED_WRITERS["tsv"](found).splitlines()]
    assert header == ["audio", "start_s", "end_s", "confidence", "text"]
    assert [row[4] for row in rows] == LINES
    assert [bool(row[1]) for row in rows] == [True, True, False, True]
    assert len({len(row) for row in rows}) == 1


def test_textgrid_fills_the_time(found):
    text = ALIGNED_WRITERS["textgrid"](found)
    names = re.findall(r'name = "(.*)"', text)
    assert names == ["phrases", "words", "unaligned", "extra"]
    assert len(text.split("item [")) == 6
    for tier in text.split("item [")[2:]:
        times = [float(t) for t in re.findall(r"xm(?:in|ax) = (\S+)", tier)]
        starts, ends = times[2::2], times[3::2]
        assert (starts[0], ends[-1]) == tuple(times[:2])
        assert starts[1:] == ends[:-1]
        assert all(a < b for a, b in zip(starts, ends, strict=True))
        assert f"intervals: size = {len(starts)}\n" in tier
    assert text.count(f'text = "{LINES[2]}"') == 1
    assert text.count('text = "extra"') == 1


def test_ctm(found):
    rows = [row.split(" ") for row in ALIGNED_WRITERS["ctm"](found).splitlines()]
    assert {(row[0], row[1], len(row)) for row in rows} == {("my_talk", "1", 6)}
    assert [row[4] for row in rows] == " ".join([*LINES[:2], LINES[3]]).split()
    assert rows[0][2:] == ["0.520", "0.100", "the", rows[0][5]]


@pytest.mark.parametrize("form", ["srt", "vtt", "json", "tsv", "ctm", "textgrid"])
def test_what_is_written_can_be_aligned_again(found, form, tmp_path):
    path = tmp_path / f"a.{form}"
    path.write_text(ALIGNED_WRITERS[form](found), encoding="utf-8")
    lines = LINES if form == "tsv" else [*LINES[:2], LINES[3]]
    if form == "ctm":
        lines = [" ".join(lines)]
    assert read_known_text(path) == lines


# --- the command


@pytest.fixture
def talk(checkpoint, tmp_path, monkeypatch) -> list[str]:
    """The arguments of the command for a recording and its text."""
    monkeypatch.setattr("speechssl.interop.sources.open_model", lambda *_: checkpoint)
    audio.write(tmp_path / "talk.wav", say(*LINES), 16000)
    (tmp_path / "talk.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return ["align", "model", str(tmp_path / "talk.wav"), str(tmp_path / "talk.txt")]


def test_the_command(talk, tmp_path, capsys):
    assert main(talk) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["text"] == " ".join(LINES)
    assert err == ""
    assert main([*talk, "--format", "ctm", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == ""
    assert len((tmp_path / "out" / "talk.ctm").read_text(encoding="utf-8").splitlines()) == 17


def test_the_command_says_what_is_missing(talk, tmp_path, capsys):
    text = "\n".join([*LINES[:2], "nobody said ßéß, did they", LINES[3]])
    (tmp_path / "talk.txt").write_text(text, encoding="utf-8")
    assert main([*talk, "--format", "srt"]) == 0
    unknown, unaligned, extra = capsys.readouterr().err.splitlines()
    assert "talk.txt has letters that the model does not know" in unknown
    assert unknown.endswith("aligned as any sound: ß (2), é (1).")
    assert re.search(
        r"5 of 19 words were not found in the recording and are not in the output \(json, tsv and "
        r"textgrid name them\); the first: 'nobody said ßéß, did they' in line 3, between 2\.\d ",
        unaligned,
    )
    assert re.search(r"0\.7 s of speech in 1 stretches are not in the text; the first from ", extra)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no text: there is nothing to align"),
        (" \n…\n", "There is nothing to align"),
        ("Привет, как дела", "are not in the model's alphabet"),
        ("zwolf boxkampfer jagen viktor\n" * 9, "The text is not that of"),
        (None, "There is no text file"),
    ],
)
def test_a_text_that_cannot_be_aligned_is_one_sentence(talk, tmp_path, capsys, text, message):
    (tmp_path / "talk.txt").unlink()
    if text is not None:
        (tmp_path / "talk.txt").write_text(text, encoding="utf-8")
    assert main(talk) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none.wav", "No such recording"),
        (".", "is a folder: give one recording"),
        ("talk.txt", "talk.txt"),
    ],
)
def test_a_recording_that_cannot_be_aligned_is_one_sentence(talk, tmp_path, capsys, place, message):
    assert main([*talk[:2], str(tmp_path / place), talk[3]]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_an_output_folder_that_cannot_be_written_is_said_before_the_work(
    talk, tmp_path, capsys, monkeypatch
):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(files, "check_writable", refuse)
    monkeypatch.setattr(Aligner, "__call__", lambda *_: pytest.fail("it was aligned"))
    assert main([*talk, "--out", str(tmp_path / "o")]) == 2
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(PermissionError(13, "Permission denied"), 2), (OSError(28, "No space"), 1)]
)
def test_a_folder_that_becomes_full_in_the_middle_keeps_the_old_file(
    talk, tmp_path, capsys, monkeypatch, error, code
):
    folder = tmp_path / "o"
    assert main([*talk, "--out", str(folder)]) == 0
    before = (folder / "talk.json").read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(files, "replace", fail)
    assert main([*talk, "--out", str(folder)]) == code
    assert (folder / "talk.json").read_bytes() == before
    assert [p.name for p in folder.iterdir()] == ["talk.json"]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_standard_input(talk, capsys, monkeypatch):
    with open(talk[2], "rb") as file:
        monkeypatch.setattr("sys.stdin", type("In", (), {"buffer": file})())
        assert main([*talk[:2], "-", talk[3]]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == " ".join(LINES)
