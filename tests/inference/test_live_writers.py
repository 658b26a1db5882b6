"""Live text in each format: only final text, but in JSON lines; subtitles that never overlap."""

import json
from itertools import pairwise

import pytest

from speechssl.decoding.align import Word
from speechssl.inference.live import LiveEvent
from speechssl.inference.live_writers import LIVE_FORMATS, LiveWriter
from speechssl.inference.subtitles import PROFILES, SubtitleConfig


def event(text: str, start_s: float, until_s: float, kind="final", step_s=0.3) -> LiveEvent:
    words = tuple(
        Word(word, start_s + i * step_s, start_s + (i + 0.8) * step_s, 0.9, False)
        for i, word in enumerate(text.split())
    )
    ends = (words[0].start_s, words[-1].end_s) if words else (until_s, until_s)
    return LiveEvent(kind, text, *ends, words, until_s)


EVENTS = [
    event("a wolf", 1.0, 1.3, "partial"),
    event("a wolf & dog", 1.0, 2.4),
    event("", 2.4, 3.0, "partial"),
    event("runs", 2.5, 3.4),
    event("away <quickly> from all of the others that came with it", 3.5, 8.0),
]


def written(form: str, subtitles: SubtitleConfig = PROFILES["adults"]) -> str:
    writer = LiveWriter(form, subtitles, name="talk.wav")
    return writer.header + "".join(map(writer.text, EVENTS))


def test_text_is_a_line_for_each_final_one():
    assert written("txt").splitlines() == [e.text for e in EVENTS if e.kind == "final"]


def test_json_lines_tell_partial_from_final():
    objects = [json.loads(line) for line in written("jsonl").splitlines()]
    assert [(o["kind"], o["text"]) for o in objects] == [(e.kind, e.text) for e in EVENTS]
    assert objects[1]["words"][0] == {
        "word": "a", "start_s": 1.0, "end_s": 1.24, "confidence": 0.9
    }  # fmt: skip
    assert objects[1]["until_s"] == 2.4
    assert objects[2]["words"] == []


def test_tables_have_one_header():
    lines = written("tsv").splitlines()
    assert lines[0].startswith("audio\tstart_s")
    assert [line.split("\t")[-1] for line in lines[1:]] == [
        e.text for e in EVENTS if e.kind == "final"
    ]
    assert lines[1].startswith("talk.wav\t1.000\t")
    assert written("ctm").splitlines()[0] == "talk 1 1.000 0.240 a 0.9000"
    assert len(written("ctm").splitlines()) == 4 + 1 + 11


def _times(text: str) -> list[tuple[float, float]]:
    def seconds(clock: str) -> float:
        hours, minutes, rest = clock.replace(",", ".").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(rest)

    lines = [line for line in text.splitlines() if " --> " in line]
    return [tuple(seconds(clock) for clock in line.split(" --> ")) for line in lines]


@pytest.mark.parametrize("form", ["srt", "vtt"])
@pytest.mark.parametrize("config", [*PROFILES.values(), SubtitleConfig(speed=2, delay_s=10)])
def test_subtitles_never_overlap(form, config):
    text = written(form, config)
    times = _times(text)
    assert len(times) >= 3
    assert all(start < end for start, end in times)
    assert all(end < start for (_, end), (start, _) in pairwise(times))
    words = " ".join(e.text for e in EVENTS if e.kind == "final").split()
    shown = [w for line in text.splitlines() if "-->" not in line for w in line.split()]
    if form == "srt":
        assert [w for w in shown if not w.isdecimal()] == words
        assert [int(w) for w in shown if w.isdecimal()] == list(range(1, len(times) + 1))
    else:
        assert text.startswith("WEBVTT\n\n")
        assert text.count("WEBVTT") == 1
        assert "wolf &amp; dog" in " ".join(shown)
        assert "&lt;quickly&gt;" in shown


def test_subtitles_that_are_too_short_are_counted():
    writer = LiveWriter("srt", SubtitleConfig(speed=2))
    for each in EVENTS:
        writer.text(each)
    assert 0 < writer.num_rushed <= writer.num_cues


def test_other_formats_are_written_as_a_whole():
    assert set(LIVE_FORMATS) == {"txt", "jsonl", "srt", "vtt", "tsv", "ctm"}
    with pytest.raises(ValueError, match="must be one of txt, jsonl"):
        LiveWriter("json", PROFILES["adults"])
