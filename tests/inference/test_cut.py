"""A long recording with its text becomes utterances; what does not fit is left out and named."""

import json
from itertools import pairwise

import numpy as np
import pytest

from benchmarks import alignment
from speechssl import audio
from speechssl.cli import main
from speechssl.data.layouts import Recording
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.inference.align import Aligner
from speechssl.inference.cut import Cut, cut_aligned
from speechssl.inference.cut_recordings import cut_recordings
from speechssl.inference.known_text import known_text
from speechssl.inference.recordings import as_clip
from tests.inference.speller import say, speak, speller

LINES = [
    "the quick brown fox",
    "jumps over a lazy dog",
    "while seven wizards",
    "mix up the green potion",
]


@pytest.fixture
def aligner(tiny_models) -> Aligner:
    return Aligner(speller(tiny_models["ctc"]), precision="fp32")


def cut(aligner: Aligner, wave, lines: list[str], max_s: float = 30.0, **more) -> list[Cut]:
    aligned = aligner(as_clip(wave), known_text(lines, aligner.tokenizer))
    made = cut_aligned(aligned, max_s=max_s, **more)
    words = " ".join(each.text for each in made).split()
    assert words == " ".join(lines).split()  # each word is in exactly one
    return made


def texts(cuts: list[Cut]) -> list[str]:
    return [each.text for each in cuts if not each.reason]


def reasons(cuts: list[Cut]) -> list[str]:
    return [each.reason for each in cuts if each.reason]


def test_lines_become_utterances(aligner):
    wave = say(*LINES)
    found = cut(aligner, wave, LINES)
    assert texts(found) == LINES
    assert reasons(found) == []
    ends = [(each.start_s, each.end_s) for each in found]
    assert all(a[1] <= b[0] for a, b in pairwise(ends))
    for each, line in zip(found, LINES, strict=True):
        part = wave[round(each.start_s * 16000) : round(each.end_s * 16000)]
        spoken = speak(line)
        loud = np.flatnonzero(part)
        assert np.array_equal(part[loud[0] : loud[-1] + 1], spoken[320:])  # the letters, all
        assert each.end_s - each.start_s <= len(spoken) / 16000 + 0.6
        assert each.confidence == pytest.approx(0.9, rel=0.01)


def test_lines_without_a_pause_between_stay_together(aligner):
    wave = say(f"{LINES[0]} {LINES[1]}", *LINES[2:])
    assert texts(cut(aligner, wave, LINES)) == [f"{LINES[0]} {LINES[1]}", *LINES[2:]]


def test_a_long_line_is_cut_at_its_longest_pauses(aligner):
    parts = [speak(LINES[0], 0.3), speak(LINES[1], 0.6), speak(LINES[2], 0.2), speak(LINES[3])]
    found = cut(aligner, np.concatenate(parts), [" ".join(LINES)], max_s=2.5)
    assert texts(found) == [" ".join(LINES[:2]), " ".join(LINES[2:])]
    found = cut(aligner, np.concatenate(parts), [" ".join(LINES)], max_s=1.4)
    assert texts(found) == LINES
    assert all(each.end_s - each.start_s <= 1.4 for each in found)


def test_what_has_no_pause_is_left_out(aligner):
    found = cut(aligner, say(LINES[0], " ".join(LINES[1:])), LINES, max_s=2.0)
    assert texts(found) == [LINES[0]]
    (reason,) = reasons(found)
    assert reason.startswith("no pause to cut at: ")
    assert "at most 2 s, from " in reason


def test_short_lines_are_joined(aligner):
    lines = ["yes", "no", "the quick brown fox jumps"]
    assert texts(cut(aligner, say(*lines, pause_s=0.2), lines)) == ["yes no", lines[2]]


@pytest.mark.parametrize("place", [0, 2, 4])
def test_text_that_is_not_said_is_left_out(aligner, place):
    lines = [*LINES[:place], "nobody said this at all", *LINES[place:]]
    found = cut(aligner, say(*LINES), lines)
    assert texts(found) == LINES
    (reason,) = reasons(found)
    assert reason.startswith("text that does not fit the sound: from ")
    assert reason.endswith(" s, 'nobody said this at all'")


@pytest.mark.parametrize("place", [0, 2, 4])
def test_speech_without_text_is_left_out(aligner, place):
    said = [*LINES[:place], "nobody wrote this at all", *LINES[place:]]
    found = cut(aligner, say(*said), LINES)
    assert texts(found) == LINES
    (reason,) = reasons(found)
    assert reason.startswith("speech without text: from ")
    (extra,) = [each for each in found if each.reason]
    for each in found:
        if not each.reason:
            assert each.end_s <= extra.start_s or each.start_s >= extra.end_s


def test_words_beside_what_does_not_fit_go_with_it_up_to_a_pause(aligner):
    wave = say(LINES[0], f"{LINES[1]} nobody wrote this at all", LINES[2], LINES[3])
    found = cut(aligner, wave, LINES)
    assert texts(found) == [LINES[0], *LINES[2:]]
    (reason,) = reasons(found)
    assert reason.startswith("text that does not fit the sound: from ")
    assert reason.endswith(repr(LINES[1]))


def test_uncertain_utterances_are_left_out(aligner):
    found = cut(aligner, say(*LINES), LINES, min_confidence=0.95)
    assert texts(found) == []
    assert len(reasons(found)) == 4
    assert reasons(found)[0].startswith(
        "low confidence of the alignment: 0.900, at least 0.95 is needed, from "
    )


# --- recordings of a source


def test_only_long_recordings_with_a_text_are_cut(aligner, tmp_path):
    audio.write(tmp_path / "long.wav", say(*LINES), 16000)
    audio.write(tmp_path / "short.wav", say(LINES[0]), 16000)
    (tmp_path / "broken.wav").write_bytes(b"nothing")
    text = "\n".join(LINES)
    given = [
        Recording("long", tmp_path / "long.wav", speaker="ann", text=text, split="test"),
        Recording("plain", tmp_path / "long.wav"),
        Recording("blank", tmp_path / "long.wav", text=" \u200b"),
        Recording("short", tmp_path / "short.wav", text=LINES[0]),
        Recording("broken", tmp_path / "broken.wav", text=text),
        Recording("missing", tmp_path / "missing.wav", text=text),
        Recording(
            "part", tmp_path / "long.wav", start_s=1.2, duration_s=4.5, text="\n".join(LINES[1:])
        ),
        Recording("other", tmp_path / "long.wav", text="zwolf boxkampfer\n" * 9),
        Recording("greek", tmp_path / "long.wav", text="αβγ δεζ"),
    ]
    said: list[str] = []
    made = cut_recordings(given, aligner, longer_than_s=3.0, max_s=30.0, say=said.append)
    ids = [record.id for record in made.recordings]
    assert ids[:4] == ["long-000", "long-001", "long-002", "long-003"]
    assert ids[4:9] == ["plain", "blank", "short", "broken", "missing"]
    assert made.recordings[4:9] == given[1:6]
    assert ids[9:] == ["part-000", "part-001", "part-002"]
    first = made.recordings[0]
    assert (first.text, first.speaker, first.split) == (LINES[0], "ann", "test")
    for whole, part in zip(made.recordings[1:4], made.recordings[9:], strict=True):
        assert part.text == whole.text
        assert part.start_s == pytest.approx(whole.start_s, abs=0.041)
    assert [d.id for d in made.left_out] == ["other", "greek"]
    assert all(d.category == "text that cannot be aligned" for d in made.left_out)
    assert "The text is not that of other" in made.left_out[0].reason
    assert "are not in the model's alphabet" in made.left_out[1].reason
    assert (made.num_cut, made.num_utterances) == (2, 7)
    assert len(said) == 4


@pytest.fixture
def corpus(tiny_models, tmp_path, monkeypatch):
    checkpoint = speller(tiny_models["ctc"])
    monkeypatch.setattr("speechssl.interop.sources.open_model", lambda *_: checkpoint)
    folder = tmp_path / "in"
    folder.mkdir()
    audio.write(folder / "a.wav", say(*LINES[:2], "nobody wrote this at all", *LINES[2:]), 16000)
    text = [*LINES[:3], "nobody said this either", LINES[3]]
    (folder / "a.txt").write_text("\n".join(text), encoding="utf-8")
    return ["prepare", str(folder), "--out", str(tmp_path / "out"), "--processes", "1"]


SHORT = ["--max-duration-s", "2", "--max-labeled-duration-s", "3"]


def test_prepare_cuts_long_recordings(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*corpus, *SHORT, "--align", "model"]) == 0
    said = capsys.readouterr()
    assert (
        "1 long recordings with a transcript (0.00 h) were aligned and cut into 4 utt" in said.out
    )
    assert "a: 4 utterances, " in said.err
    found = [u for name in ("train", "dev", "test") for u in read_manifest(out / f"{name}.jsonl")]
    assert {u.text for u in found} == set(LINES)
    assert all(u.duration_s <= 2 for u in found)
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert [row["audio"] for row in dropped] == ["../in/a.wav"] * 2
    assert dropped[0]["reason"].startswith("speech without text: from ")
    assert dropped[1]["reason"].startswith("text that does not fit the sound: from ")
    assert dropped[1]["reason"].endswith("'nobody said this either'")
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["dropped"] == {"speech without text": 1, "text that does not fit the sound": 1}
    wave = audio.read(tmp_path / "in" / "a.wav")
    for u in found:
        part = wave[round(u.start_s * 16000) : round((u.start_s + u.duration_s) * 16000)]
        own = speak(u.text or "")[320:]
        loud = np.flatnonzero(np.abs(part) > 1e-3)
        assert np.allclose(part[loud[0] : loud[-1] + 1], own, atol=1e-3)


def test_without_it_they_are_dropped_and_the_way_is_said(corpus, tmp_path):
    assert main([*corpus, *SHORT]) == 2
    (row,) = (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    assert "too long: " in row
    assert "--align" in row


def test_nothing_that_fits_is_an_error_that_counts(corpus, tmp_path, capsys):
    (tmp_path / "in" / "a.txt").write_text("zwolf boxkampfer\n" * 9, encoding="utf-8")
    assert main([*corpus, *SHORT, "--align", "model"]) == 2
    assert "No recording can be used (text that cannot be aligned 1)" in capsys.readouterr().err
    assert "The text is not that of a" in (tmp_path / "out" / "dropped.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--align-confidence", "0.5"], "--align-confidence is of --align"),
        (["--align", "model", "--align-confidence", "2"], "must be from 0 to 1, got 2.0"),
    ],
)
def test_settings_that_make_no_sense(corpus, capsys, options, message):
    assert main([*corpus, *SHORT, *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


# --- the benchmark


def test_the_benchmark_judges_what_is_right(aligner, tmp_path):
    said = "abide hexagon juniper quartz vivid monk elbow cinder waltz fjord"
    words = said.split(" ")
    texts = [f"{a} {b} {c}" for a, b, c in zip(words, words[3:], words[6:], strict=False)]
    texts += [f"{b} {a} {c}" for a, b, c in zip(words, words[4:], words[7:], strict=False)]
    utterances = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.wav"
        audio.write(path, say(text), 16000)
        utterances.append(
            Utterance(str(number), path, 0.0, audio.probe(path).duration_s, 16000, text=text)
        )
    joined = alignment.join(aligner, utterances, 1000.0)
    assert joined.texts == texts
    assert joined.words[0][0][0] == pytest.approx(0.52)
    assert joined.words[1][0][0] == pytest.approx(joined.bounds[0][1] + 0.52)
    frames = aligner.frames(as_clip(joined.wave), set(range(2, 29)))
    others = ["nobody said this", "nor was that read"]
    for kind in alignment.TEXTS[:4]:
        lines = alignment.changed(joined.texts, others, kind, 0)
        assert ([n for n, _ in lines] == [*range(7)]) == (kind == "as it is")
        row = alignment.judge(aligner, joined, frames, lines)
        right = ("aligned", "within_100_ms", "within_200_ms", "in_their_utterance")
        assert [row[name] for name in right] == [1.0] * 4
        assert row["label_wer"] == 0
        assert row["utterances"] == row["words"] / 3
        if row["inserted_words"]:
            assert row["inserted_unaligned"] == 1
        if row["deleted_s"]:
            assert row["deleted_named"] > 0.8
    wrong = alignment.changed(joined.texts, others, "of others", 0)
    assert "The text is not that of" in alignment.judge(aligner, joined, frames, wrong)["refused"]
