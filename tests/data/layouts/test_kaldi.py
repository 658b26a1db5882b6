"""speechssl.data.layouts.kaldi: data folders."""

from pathlib import Path

import pytest

from speechssl.data.layouts import Recording, detect_layout
from tests.data.layouts.files import fill, read


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
        Recording("t", tmp_path / "test" / "t.wav", split="test"),
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
