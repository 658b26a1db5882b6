"""Finding recordings, streaming them, cutting them."""

import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.inference import recordings
from speechssl.inference.recordings import (
    Clip,
    as_clip,
    chunks,
    find_clips,
    output_names,
    stream,
)
from speechssl.system import file_name


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 96000])
def test_a_stream_is_the_whole_file(record, rate):
    path = record("a.wav", 20.3, rate, channels=2)  # several blocks at every rate
    whole = np.concatenate(list(stream(as_clip(path), 16000)))
    assert np.array_equal(whole, audio.read(path, sample_rate=16000))


def test_a_part_of_a_file(record):
    path = record("a.wav", 3.0)
    part = np.concatenate(list(stream(Clip("a", path, 1.0, 0.5), 16000)))
    assert np.array_equal(part, audio.read(path, start_s=1.0, duration_s=0.5))


@pytest.mark.parametrize("duration_s", [0.001, 1.0, 2.0, 2.1, 2.4, 2.6, 7.77, 23.0])
def test_chunks_follow_each_other_on_the_grid(record, duration_s):
    path = record("a.wav", duration_s)
    made = list(chunks(as_clip(path), 16000, grid=320, max_chunk_s=2.0))
    assert np.array_equal(np.concatenate([c.wave for c in made]), audio.read(path))
    assert made[0].start == 0
    assert all(a.end == b.start for a, b in pairwise(made))
    assert all(c.start % 320 == 0 for c in made)
    assert all(len(c.wave) <= 32000 for c in made)
    assert all(len(c.wave) >= 8000 - 320 for c in made) or len(made) == 1
    assert (len(made) > 1) == (duration_s > 2.0)


def test_memory_is_bounded(record):
    """No chunk, nor what is kept behind it, grows with the recording."""
    import tracemalloc

    path = record("long.wav", 300.0)
    tracemalloc.start()
    for _ in chunks(as_clip(path), 16000, grid=320, max_chunk_s=5.0):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6  # the whole wave alone is 19 MB


def test_places_are_found_in_order(record, tmp_path):
    b, a = record("in/b.wav", 0.1), record("in/sub/a.flac", 0.1)
    alone = record("z.wav", 0.1)
    clips = find_clips([str(alone), str(tmp_path / "in"), "-"], b"data")
    assert [c.source for c in clips] == [alone, b, a, b"data"]
    assert output_names(clips) == ["z", "b", "sub/a", "stdin"]


def test_names_of_results_differ(record):
    same = [record("x/a.wav", 0.1), record("x/a.flac", 0.1), record("y/a.wav", 0.1)]
    names = output_names(find_clips([str(p) for p in same]))
    assert names == ["x/a.wav", "x/a.flac", "y/a.wav"]


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["a/x.wav", "b/x.wav"], ["a/x", "b/x"]),
        (["a/x.wav", "b/x.flac"], ["x.wav", "x.flac"]),
        (["a/x.wav", "b/x.wav", "y.wav"], ["a/x", "b/x", "y"]),
        (["a/c/x.wav", "b/c/x.wav"], ["a/c/x", "b/c/x"]),
        (["a/x.wav", "./a/../a/x.wav"], ["x", "x-2"]),
        (["a", "b"], ["a/c/x", "a/x", "b/c/x", "b/x"]),
    ],
)
def test_a_result_s_name_tells_which_recording_it_is_of(
    record, tmp_path, monkeypatch, places, names
):
    for name in {"a/x.wav", "b/x.wav", "y.wav", "a/c/x.wav", "b/c/x.wav", *places} - {"a", "b"}:
        record(name, 0.01)
    monkeypatch.chdir(tmp_path)
    found = output_names(find_clips(places))
    assert found == names
    assert not any(".." in name for name in found)


def test_what_lies_beside_a_result_is_no_other_result():
    clips = [Clip(path, Path(path)) for path in ("x.wav", "x.times.wav", "y.times.wav", "y.wav")]
    assert output_names(clips) == ["x", "x.times", "y.times", "y"]
    names = output_names(clips, beside=".times")
    assert names == ["x", "x.times-2", "y.times", "y-2"]
    assert len({*names, *(f"{name}.times" for name in names)}) == 8


def test_names_of_very_many_clips_take_no_time():
    paths = [f"/c/{i}.wav" for i in range(20000)] + [f"/d{i}/same.wav" for i in range(20000)]
    began = time.monotonic()
    names = output_names([Clip(path, Path(path)) for path in paths])
    assert time.monotonic() - began < 5  # a minute, where each is compared with all
    assert len(set(names)) == 40000
    assert names[20000:20003] == ["d0/same", "d1/same", "d2/same"]


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such recording or folder: gone\.wav"):
        find_clips(["gone.wav"])
    with pytest.raises(ValueError, match="There is no recording in the folder"):
        find_clips([str(tmp_path)])


def test_a_wave_of_another_shape():
    with pytest.raises(ValueError, match=r"shape \(samples,\), got \(2, 5\)"):
        as_clip(np.zeros((2, 5), np.float32))


@pytest.mark.parametrize("ahead", [0, 80, 400])
def test_chunks_may_look_ahead(record, ahead):
    """Each has the beginning of the next one too, and nothing else changes."""
    path = record("a.wav", 7.77)
    plain = list(chunks(as_clip(path), 16000, grid=320, max_chunk_s=2.0))
    made = list(chunks(as_clip(path), 16000, grid=320, max_chunk_s=2.0, ahead=ahead))
    wave = audio.read(path)
    assert [(c.start, c.end) for c in made] == [(c.start, c.end) for c in plain]
    for chunk in made:
        assert np.array_equal(chunk.wave, wave[chunk.start : chunk.end + chunk.ahead])
    assert [c.ahead for c in made] == [ahead] * (len(made) - 1) + [0]


def test_what_is_said_of_a_recording_is_passed_on(record, tmp_path):
    whole = record("a.wav", 2.0)
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:32044])
    for clip in (as_clip(cut), Clip("-", cut.read_bytes())):
        notes: list[str] = []
        made = list(chunks(clip, 16000, grid=320, notes=notes))
        assert made[-1].end == 16000
        assert len(notes) == 1
        assert "is cut off or damaged: 1.000 s of the 2.000 s" in notes[0]


@pytest.mark.parametrize("source", [[0.0, 0.1], b"RIFF", None, 1.0])
def test_what_is_neither_a_path_nor_an_array(source):
    with pytest.raises(TypeError, match=r"not \w+: make an array of samples with numpy\.asarray"):
        as_clip(source)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("a/X.wav", "b/x.wav"), ["X", "x-2"]),
        (("a/\u00e9.wav", "b/e\u0301.wav"), ["\u00e9", "e\u0301-2"]),
        (("a/Stra\u00dfe.wav", "b/STRASSE.wav"), ["Stra\u00dfe", "STRASSE-2"]),
        (("a/x.wav", "b/X.wav", "c/x-2.wav"), ["x", "X-2", "x-2-2"]),
    ],
)
def test_results_that_other_systems_take_for_one_file_have_two_names(paths, names):
    """Windows and macOS know no upper and lower case, macOS no Unicode forms."""
    assert output_names([Clip(path, Path(path)) for path in paths]) == names


def test_on_windows_results_have_names_that_can_be_written(monkeypatch):
    monkeypatch.setattr(recordings, "file_name", partial(file_name, windows=True))
    paths = ("a.tar/10:30.wav", "a.tar/con.wav", "b/10_30.wav", "b/plain.wav")
    names = output_names([Clip(path, Path(path)) for path in paths])
    assert names == ["10_30", "_con", "10_30-2", "plain"]
