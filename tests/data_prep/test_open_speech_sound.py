"""From a recording to crops: decoding, pauses, cuts, joins."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.open_speech import crops as making
from data_prep.open_speech.clip import Clip
from data_prep.open_speech.crops import GAP_S, LONGEST_S, Piece, crops_of, pieces_of, single
from data_prep.open_speech.decode import SAMPLE_RATE, UnusableError, decode
from data_prep.open_speech.pauses import (
    HOP,
    active_frames,
    blended,
    cut,
    speech_frames,
    stretches,
    without_pauses,
)


def speech(seconds: float, seed: int = 0, level: float = 0.3) -> np.ndarray:
    """(S,) float32: noise, as loud as speech, of all frequencies."""
    rng = np.random.default_rng(seed)
    return (level * rng.uniform(-1, 1, round(SAMPLE_RATE * seconds))).astype(np.float32)


def quiet(seconds: float, seed: int = 9) -> np.ndarray:
    return speech(seconds, seed, 0.0005)


def seconds(wave: np.ndarray) -> float:
    return len(wave) / SAMPLE_RATE


def recording(path: Path, wave: np.ndarray, rate: int = SAMPLE_RATE, **fields: object) -> Clip:
    soundfile.write(path, wave, rate)
    return Clip(path.stem, path, "eng", **fields)  # type: ignore[arg-type]


# ---- decoding -----------------------------------------------------------------------------------


def test_stereo_at_another_rate(tmp_path: Path) -> None:
    wave = np.stack([speech(1.5), speech(1.5, 1)], axis=1)
    sound = decode(recording(tmp_path / "a.flac", wave, 48000))
    assert len(sound.wave) == 8000
    assert sound.wave.dtype == np.float32
    assert sound.band_hz == 8000


def test_what_a_recording_can_hold(tmp_path: Path) -> None:
    low = np.repeat(speech(0.5), 4)[:SAMPLE_RATE]  # steps: held samples have little above 2 kHz
    narrow = np.convolve(low, np.hanning(64) / 32, "same").astype(np.float32)
    assert decode(recording(tmp_path / "a.wav", speech(1.0)[:11025], 11025)).band_hz == 5512
    assert decode(recording(tmp_path / "b.wav", speech(1.0)[:8000], 8000)).band_hz == 4000
    assert decode(recording(tmp_path / "c.flac", narrow)).band_hz == 4000


def test_a_member_of_an_archive(tmp_path: Path) -> None:
    clip = recording(tmp_path / "a.flac", speech(0.5))
    content = clip.audio.read_bytes()
    (tmp_path / "all").write_bytes(b"before" + content + b"behind")
    member = Clip("a", tmp_path / "all", "eng", span=(6, len(content)))
    np.testing.assert_array_equal(decode(member).wave, decode(clip).wave)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.wav", None, "missing: "),
        ("a.wav", b"", "unreadable: a.wav is empty"),
        ("a.mp3", b"no sound at all" * 99, "unreadable: a.mp3"),
        ("a.wav", speech(0.05), "empty: 0.05 s"),
        ("a.wav", speech(1.0, 0, 0.0005), "silent: "),
        ("a.wav", np.sign(speech(1.0)), "clipped: 100%"),
        ("a.wav", np.zeros(0, np.float32), "unreadable: a.wav holds no samples"),
    ],
)
def test_unusable(
    name: str, content: bytes | np.ndarray | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, content, SAMPLE_RATE)
    with pytest.raises(UnusableError) as caught:
        decode(Clip("a", path, "eng"))
    assert str(caught.value).startswith(reason)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.extras
@pytest.mark.parametrize(("codec", "rate"), [("g722", 16000), ("gsm", 8000)])
def test_codings_of_telephones(codec: str, rate: int, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / f"a.{codec}"
    if codec == "g722":
        tone = (8000 * np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000)).astype(np.int16)
        with av.open(str(path), "w", format="g722") as out:
            stream = out.add_stream("g722", rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            frame.sample_rate = rate
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                out.mux(packet)
    else:
        tone = 0.25 * np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000)
        soundfile.write(path, tone, rate, format="RAW", subtype="GSM610", endian="FILE")
    sound = decode(Clip("a", path, "eng"))
    assert 0.95 < seconds(sound.wave) <= 1.05
    spectrum = np.abs(np.fft.rfft(sound.wave[:8000]))
    assert abs(2 * int(spectrum.argmax()) - 440) <= 4
    assert 0.15 < np.abs(sound.wave[2000:8000]).max() < 0.35
    assert sound.band_hz == (4000 if codec == "gsm" else sound.band_hz)


@pytest.mark.extras
def test_a_damaged_g722_is_named(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "a.g722"
    path.write_bytes(b"")
    with pytest.raises(UnusableError, match=r"unreadable|empty"):
        decode(Clip("a", path, "eng"))


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "a.g722"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"speechssl\[media\]"):
        decode(Clip("a", path, "eng"))


# ---- pauses -------------------------------------------------------------------------------------


def test_pauses_at_the_ends_and_inside_are_cut() -> None:
    parts = [quiet(1.0), speech(0.6), quiet(2.0), speech(0.6, 1), quiet(0.7)]
    wave, speech_s = without_pauses(np.concatenate(parts))
    assert 1.6 < seconds(wave) < 1.9  # speech and four margins of 0.12 s
    assert 1.15 < speech_s < 1.3


def test_a_short_pause_stays() -> None:
    wave = np.concatenate([speech(0.5), quiet(0.3), speech(0.5, 1)])
    assert abs(seconds(without_pauses(wave)[0]) - 1.3) < 0.02


def test_speech_without_pauses_stays_whole() -> None:
    wave = speech(2.0)
    np.testing.assert_array_equal(without_pauses(wave)[0], wave)


def test_pauses_are_found_in_noise() -> None:
    """20 dB between speech and noise are less than RANGE_DB."""
    parts = [speech(1.0, 2, 0.03), speech(0.5), speech(1.0, 3, 0.03)]
    assert 0.6 < seconds(without_pauses(np.concatenate(parts))[0]) < 0.85


def test_the_burst_of_a_plosive_stays() -> None:
    wave = np.concatenate([speech(0.5), quiet(0.1), speech(0.01, 1), quiet(1.0)])
    assert 0.7 < seconds(without_pauses(wave)[0]) < 0.8


def test_noise_that_grazes_the_level_is_no_speech() -> None:
    wave = np.concatenate([speech(0.5), quiet(1.0), speech(0.03, 1, 0.012), quiet(1.0)])
    assert seconds(without_pauses(wave)[0]) < 0.7


@pytest.mark.parametrize("wave", [np.zeros(0, np.float32), np.zeros(8000, np.float32)])
def test_nothing_is_no_speech(wave: np.ndarray) -> None:
    kept, speech_s = without_pauses(wave)
    assert (len(kept), speech_s) == (0, 0.0)
    assert not speech_frames(wave).any()


def test_less_than_a_frame() -> None:
    assert len(active_frames(speech(0.005))) == 0


def test_active_share() -> None:
    assert abs(active_frames(np.concatenate([speech(1.0), quiet(1.0)])).mean() - 0.5) < 0.02


def test_stretches() -> None:
    flags = np.array([1, 1, 0, 0, 1, 0, 1, 1, 1], bool)
    assert stretches(flags) == [(0, 2), (4, 5), (6, 9)]
    assert stretches(np.zeros(3, bool)) == []


def test_a_cut_is_no_step() -> None:
    first, second = np.full(1000, 0.5, np.float32), np.full(1000, -0.5, np.float32)
    wave = blended([first, second])
    assert len(wave) == 1920
    assert np.abs(np.diff(wave)).max() < 0.02


def test_long_recordings_are_cut_at_quiet_places() -> None:
    parts = [speech(9.0), quiet(0.4), speech(9.0, 1), quiet(0.4), speech(9.0, 2)]
    wave = np.concatenate(parts)
    pieces = cut(wave, 15.0)
    assert np.array_equal(np.concatenate(pieces), wave)
    assert max(map(seconds, pieces)) <= 15
    assert all(np.abs(piece[-HOP:]).max() < 0.01 for piece in pieces[:-1])


# ---- clips to pieces ----------------------------------------------------------------------------


def test_doubles_and_silence_are_dropped_and_named(tmp_path: Path) -> None:
    wave = (speech(0.6) * 32767).astype(np.int16)
    clips = [
        recording(tmp_path / "a.wav", wave),
        recording(tmp_path / "b.flac", wave),  # other bytes, the same samples
        recording(tmp_path / "c.wav", speech(0.6, 1)),
        Clip("d", tmp_path / "d.wav", "eng"),
    ]
    pieces, drops = pieces_of(clips)
    assert [piece.name for piece in pieces] == ["a", "c"]
    assert [(drop.name, drop.reason.partition(":")[0]) for drop in drops] == [
        ("b", "double"),
        ("d", "missing"),
    ]


def test_a_transcript_with_digits_is_not_learned(tmp_path: Path) -> None:
    clip = recording(tmp_path / "a.wav", speech(0.6), text="25 cents", phones="x")
    (piece,), (drop,) = pieces_of([clip])
    assert (piece.text, piece.phones) == (None, None)
    assert drop.reason == "transcript only: '25 cents' holds digits or no word"


def test_long_speech_with_and_without_a_transcript(tmp_path: Path) -> None:
    wave = speech(20.0)
    pieces, drops = pieces_of([recording(tmp_path / "a.wav", wave, text="so long")])
    assert [(piece.text, round(piece.duration_s)) for piece in pieces] == [("so long", 20)]
    assert not drops
    pieces, drops = pieces_of([recording(tmp_path / "b.wav", wave)])
    assert [piece.name for piece in pieces] == ["b#0", "b#1"]
    longer = np.concatenate([wave, speech(12.0, 1)])
    pieces, (drop,) = pieces_of([recording(tmp_path / "c.wav", longer, text="so long")])
    assert [piece.text for piece in pieces] == [None] * 3
    assert drop.reason.startswith("transcript only: 32 s are too long")


# ---- pieces to crops ----------------------------------------------------------------------------


def piece(number: int, duration_s: float, text: str | None = None, **fields: object) -> Piece:
    wave = speech(duration_s, number)
    return Piece(f"p{number}", wave, fields.pop("band_hz", 8000), text, **fields)  # type: ignore[arg-type]


def test_short_clips_are_joined_and_each_is_in_one_crop() -> None:
    pieces = [piece(i, 0.7, f"w{i}") for i in range(100)]
    crops = list(crops_of(pieces, 0, "x"))
    assert sorted(name for crop in crops for name in crop.pieces) == sorted(p.name for p in pieces)
    lengths = [seconds(crop.wave) for crop in crops]
    assert max(lengths) <= LONGEST_S
    assert min(lengths) >= 3.5
    assert len({round(length) for length in lengths}) > 3  # not all of one length
    for crop in crops:
        assert crop.texts == tuple(f"w{name[1:]}" for name in crop.pieces)


def test_a_join_is_the_clips_and_gaps() -> None:
    (crop,) = crops_of([piece(1, 0.7), piece(2, 0.5)], 0, "x")
    first, second = (speech({"p1": 0.7, "p2": 0.5}[name], int(name[1])) for name in crop.pieces)
    gap = (len(crop.wave) - len(first) - len(second)) / SAMPLE_RATE
    assert GAP_S[0] <= gap <= GAP_S[1]
    np.testing.assert_array_equal(crop.wave[: len(first) - 80], first[:-80])
    np.testing.assert_array_equal(crop.wave[-len(second) + 80 :], second[80:])
    middle = crop.wave[len(first) : len(crop.wave) - len(second)]
    assert np.abs(middle).max() == 0


def test_neighbours_are_drawn_and_always_the_same() -> None:
    pieces = [piece(i, 0.7) for i in range(30)]
    crops = list(crops_of(pieces, 0, "x"))
    again = list(crops_of(pieces, 0, "x"))
    other = list(crops_of(pieces, 1, "x"))
    assert [crop.pieces for crop in crops] == [crop.pieces for crop in again]
    assert [crop.pieces for crop in crops] != [crop.pieces for crop in other]
    assert [name for crop in crops for name in crop.pieces] != [p.name for p in pieces]
    for crop, same in zip(crops, again, strict=True):
        np.testing.assert_array_equal(crop.wave, same.wave)


def test_what_does_not_belong_together_is_not_joined() -> None:
    pieces = [piece(0, 0.7, "a"), piece(1, 0.7), piece(2, 0.7, band_hz=4000)]
    pieces += [piece(3, 0.7, "b", phones="b")]
    crops = list(crops_of(pieces, 0, "x"))
    assert sorted(crop.pieces for crop in crops) == [("p0",), ("p1",), ("p2",), ("p3",)]
    assert {crop.pieces[0]: crop.texts for crop in crops}["p1"] is None


def test_a_long_piece_stays_alone() -> None:
    pieces = [piece(0, 14.9), piece(1, 14.9), piece(2, 0.5)]
    assert sorted(len(crop.pieces) for crop in crops_of(pieces, 0, "x")) == [1, 1, 1]


def test_a_rest_goes_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "SHORTEST_S", 4.0)
    batches = making._batches(
        [piece(0, 5.0), piece(1, 14.5), piece(2, 1.0)], np.random.default_rng(0)
    )
    assert sum(map(len, batches)) == 3
    assert all(making._length(batch) <= LONGEST_S for batch in batches)
    assert min(map(making._length, batches)) >= 4


def test_unknown_speakers_are_not_joined() -> None:
    crops = list(single([piece(0, 0.7, "a"), piece(1, 0.7, "b")]))
    assert [(crop.pieces, crop.texts) for crop in crops] == [(("p0",), ("a",)), (("p1",), ("b",))]
