"""speechssl.data.layouts.kaldi: data folders."""

import unicodedata
from pathlib import Path

import pytest

from speechssl.data.layouts import Recording, detect_layout
from tests.data.layouts.files import fill, put, read, unused


def test_kaldi_with_text_and_speakers(tmp_path: Path) -> None:
    fill(tmp_path, wav_dot_scp="u1 a b.wav\nu2 /x/2.wav\n", text="u1 good  day\nu3 x\n")
    fill(tmp_path, utt2spk="u1 ann\n")
    assert detect_layout(tmp_path) == detect_layout(tmp_path / "wav.scp") == "kaldi"
    assert read(tmp_path) == [
        Recording("u1", tmp_path / "a b.wav", speaker="ann", text="good  day"),
        Recording("u2", Path("/x/2.wav")),
    ]
    assert read(tmp_path / "wav.scp") == read(tmp_path)


def test_kaldi_segments_and_splits(tmp_path: Path) -> None:
    fill(tmp_path, train__wav_dot_scp="r /x/r.wav\n", train__segments="s1 r 0.5 2\ns2 r 3 -1\n")
    fill(tmp_path, test__wav_dot_scp="t t.wav\n", test__text="t\n")
    assert read(tmp_path) == [
        Recording("t", tmp_path / "test" / "t.wav", text="", split="test"),
        Recording("s1", Path("/x/r.wav"), 0.5, 1.5, split="train"),
        Recording("s2", Path("/x/r.wav"), 3.0, None, split="train"),
    ]


def test_kaldi_paths_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, data__wav_dot_scp="u wav/1.wav\n", wav__1_dot_wav="")
    monkeypatch.chdir(tmp_path)
    assert read(tmp_path / "data")[0].audio == tmp_path / "wav" / "1.wav"


@pytest.mark.parametrize(
    "command", ["touch {0} |", "| touch {0}", "sph2pipe -f wav x.sph; touch {0}|"]
)
def test_kaldi_commands_are_refused_and_not_run(tmp_path: Path, command: str) -> None:
    trace = tmp_path / "trace"
    fill(tmp_path, wav_dot_scp=f"u1 {command.format(trace)}\n")
    with pytest.raises(
        ValueError, match=r"wav\.scp, line 1: u1 is a command .* commands are not run"
    ):
        read(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav_dot_scp": "u x.ark:17\n"}, "u names no file of its own"),
        ({"wav_dot_scp": "u\n"}, "u names no file of its own"),
        ({"wav_dot_scp": "u a.wav\nu b.wav\n"}, "line 2: u is there twice"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r 1\n"}, "not `recording start end`"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r 1 x\n"}, "not `recording start end`"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s q 1 2\n"}, "q is not in wav.scp"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r 2 1\n"}, "ends at 1.0 s and starts at 2.0"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r nan -1\n"}, "starts at nan"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r -3 -1\n"}, "starts at -3.0"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r 1 inf\n"}, "ends at inf"),
    ],
)
def test_broken_kaldi_is_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(fill(tmp_path, **files))
    with pytest.raises(ValueError, match=r"holds no wav\.scp"):
        read(fill(tmp_path / "empty", x=""), "kaldi")


@pytest.mark.parametrize(
    ("text", "texts", "lost"),
    [
        ("a yes\nb no\n", ["yes", "no"], None),
        ("a.wav yes\nb no\n", [None, "no"], (1, "a.wav")),
        ("x1 yes\nx2 no\n", [None, None], (2, "x1")),
        ("a yes\nb\nc no\n", ["yes", ""], (1, "c")),
        ("\ufeffa yes\r\nb no\r\n", ["yes", "no"], None),
        ("", [None, None], None),
    ],
)
def test_ids_of_text_that_no_recording_has_are_named(
    tmp_path: Path, text: str, texts: list[str | None], lost: tuple[int, str] | None
) -> None:
    put(tmp_path, {"wav.scp": "a a.wav\nb b.wav\n", "text": text, "utt2spk": "a ann\nb ann\n"})
    assert [r.text for r in read(tmp_path)] == texts
    found = unused(tmp_path).get("lines of text")
    assert (found and (found.count, found.first)) == lost
    assert found is None or "are not in wav.scp, whose first id is a" in found.advice


def test_texts_of_recordings_are_not_those_of_segments(tmp_path: Path) -> None:
    put(tmp_path, {"wav.scp": "r a.wav\n", "segments": "s r 0 1\n", "text": "r yes\n"})
    assert [r.text for r in read(tmp_path)] == [None]
    assert "not in segments, whose first id is s" in unused(tmp_path)["lines of text"].advice


def test_ids_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "né") for form in ("NFC", "NFD"))
    put(tmp_path, {"wav.scp": f"{nfd} a.wav\n", "text": f"{nfc} yes\n", f"{nfd}.wav": ""})
    put(tmp_path, {"utt2spk": f"{nfc} {nfd}\n", "segments": f"{nfd} {nfc} 0 1\n"})
    assert [(r.id, r.text, r.speaker) for r in read(tmp_path)] == [(nfc, "yes", nfc)]
    put(tmp_path, {"wav.scp": f"{nfd} a.wav\n{nfc} b.wav\n"})
    with pytest.raises(ValueError, match=r"wav\.scp, line 2: .* is there twice"):
        read(tmp_path)


def test_speakers_by_spk2utt(tmp_path: Path) -> None:
    put(tmp_path, {"wav.scp": "a a.wav\nb b.wav\nc c.wav\n", "spk2utt": "ann a b\nben c\n"})
    assert [r.speaker for r in read(tmp_path)] == ["ann", "ann", "ben"]
    assert not unused(tmp_path)


def test_paths_of_windows_in_wav_scp(tmp_path: Path) -> None:
    put(tmp_path, {"wav/a.wav": "", "wav.scp": "a wav\\a.wav\nb C:\\x\\WAV\\a.WAV\n"})
    assert [r.audio for r in read(tmp_path)] == [tmp_path / "wav" / "a.wav"] * 2


def test_all_broken_lines_of_kaldi_come_at_once(tmp_path: Path) -> None:
    put(tmp_path, {"wav.scp": "a a.wav\nb\nc x.ark:3\nd a.sph |\na b.wav\n"})
    with pytest.raises(ValueError, match=r"wav\.scp has 4 lines that are wrong") as caught:
        read(tmp_path)
    assert [line for line in range(9) if f"line {line}:" in str(caught.value)] == [2, 3, 4, 5]


def test_what_else_may_be_text_in_a_kaldi_folder_is_named(tmp_path: Path) -> None:
    put(tmp_path, {"wav.scp": "a a.wav\n", "text.txt": "a yes\n", "stm": "x", "ref.stm": "x"})
    assert set(unused(tmp_path)) == {".txt files", ".stm files", "stm files"}
