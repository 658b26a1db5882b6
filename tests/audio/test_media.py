"""m4a, mp4, webm and others through PyAV: the samples of the track, and nothing but one file."""

import shutil
import warnings

import numpy as np
import pytest

from speechssl import audio
from speechssl.audio import media
from speechssl.audio.info import AudioError

av = pytest.importorskip("av")
pytestmark = pytest.mark.extras
RATE = 16000
SECONDS = 3


def tone(rate: int = RATE) -> np.ndarray:
    time = np.arange(SECONDS * rate) / rate
    return (0.3 * np.sin(2 * np.pi * (300 * time + 20 * np.sin(3 * time)))).astype(np.float32)


def make(path, codec, rate=RATE, layout="mono", *, video=False, sound=True, **options):
    """A file of a tone; in stereo the right channel is a quarter of the left, upside down."""
    with av.open(str(path), "w", options=options) as container:
        if video:
            picture = container.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        if sound:
            stream = container.add_stream(codec, rate=rate, layout=layout)
            stream.bit_rate = 64000 if "amr" not in codec else 12200
        if video:
            for number in range(10 * SECONDS):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
                frame.pts = number
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        if sound:
            left = tone(rate)
            data = left[None] if layout == "mono" else np.stack([left, -0.25 * left])
            form = stream.codec_context.format.name
            resampler = av.AudioResampler(
                form, layout, rate, stream.codec_context.frame_size or 1024
            )
            frame = av.AudioFrame.from_ndarray(data, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            for each in (*resampler.resample(frame), *resampler.resample(None), None):
                container.mux(stream.encode(each))
    return path


FILES = {
    "a.m4a": ("aac", RATE),
    "a.mp4": ("aac", RATE),
    "a.mov": ("alac", RATE),
    "a.webm": ("libopus", 48000),
    "a.mkv": ("flac", RATE),
    "a.wma": ("wmav2", RATE),
    "a.3gp": ("libopencore_amrnb", 8000),
    "a.amr": ("libopencore_amrnb", 8000),
    "a.aac": ("aac", RATE),
    "a.ac3": ("ac3", 48000),
    "a.avi": ("mp3", RATE),
    "a.g722": ("g722", RATE),
}


@pytest.fixture
def made(tmp_path):
    def get(name: str):
        codec, rate = FILES[name]
        if codec not in av.codecs_available:
            pytest.skip(f"this PyAV has no {codec}")
        return make(tmp_path / name, codec, rate)

    return get


@pytest.mark.parametrize("name", FILES)
def test_the_sound_is_that_of_the_track(name, made):
    path = made(name)
    info = audio.probe(path)
    assert info.sample_rate == FILES[name][1]
    assert info.channels == 1
    assert abs(info.duration_s - SECONDS) < 0.1
    assert info.problem == ""
    wave = audio.read(path, sample_rate=info.sample_rate)
    assert len(wave) == info.num_samples
    late = np.argmax(np.correlate(wave[: len(wave) // 2], tone(info.sample_rate)[4000:8000]))
    found, expected = wave[late : late + 4000], tone(info.sample_rate)[4000:8000]
    assert np.corrcoef(found, expected)[0, 1] > 0.95
    assert abs(late - 4000) < 0.1 * info.sample_rate


@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.mkv", "a.amr"])
def test_a_part_is_a_part_of_the_whole(name, made):
    path = made(name)
    rate = FILES[name][1]
    whole = audio.read(path, sample_rate=rate)
    part = audio.read(path, sample_rate=rate, start_s=1.25, duration_s=0.5)
    assert np.array_equal(part, whole[round(1.25 * rate) : round(1.75 * rate)])
    with pytest.raises(AudioError, match=r"ends at 3\.\d+ s, before 8\.000"):
        audio.read(path, start_s=8.0, duration_s=1.0)


def test_the_text_is_that_of_the_wav_made_from_it(made, tiny_models, tmp_path):
    from speechssl.checkpoint import load_model
    from speechssl.inference.transcribe import transcribe

    path = made("a.m4a")
    wave = audio.read(path, sample_rate=RATE)
    audio.write(tmp_path / "a.wav", wave, RATE, "FLOAT")
    checkpoint = load_model(tiny_models["ctc"])
    assert transcribe(checkpoint, path).text == transcribe(checkpoint, tmp_path / "a.wav").text


def test_a_whole_file_in_memory(made):
    path = made("a.m4a")
    data = path.read_bytes()
    assert np.array_equal(audio.read_bytes(data), audio.read(path))


def test_of_a_video_the_sound(tmp_path):
    plain, video = make(tmp_path / "a.mp4", "aac"), make(tmp_path / "v.mp4", "aac", video=True)
    assert np.array_equal(audio.read(video), audio.read(plain))


def test_a_video_without_sound(tmp_path):
    path = make(tmp_path / "v.mp4", "", video=True, sound=False)
    with pytest.raises(AudioError, match=r"v\.mp4 .*there is no track of sound in it"):
        audio.read(path)


def test_channels(tmp_path):
    path = make(tmp_path / "s.m4a", "aac", layout="stereo")
    info, blocks = audio.stream(path)
    assert info.channels == 2
    both = np.concatenate(list(blocks))
    assert both.shape == (info.num_samples, 2)
    assert np.corrcoef(both[2000:, 0], both[2000:, 1])[0, 1] < -0.9


def read_or_say(path) -> tuple[np.ndarray | None, str]:
    """The wave, or the sentence of the error."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            return audio.read(path), ""
        except AudioError as error:
            return None, str(error)


@pytest.mark.parametrize("name", ["a.m4a", "a.mkv", "a.amr", "a.aac", "a.webm", "a.3gp", "a.wma"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_a_file_that_is_cut_off(name, share, made):
    """What is there is read, or it is said that it is damaged; never more than that."""
    path = made(name)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data)) + 8])
    wave, said = read_or_say(path)
    assert str(path) in said if wave is None else 0 < len(wave) < SECONDS * RATE + 2000
    assert len(said.splitlines()) <= 1


def test_a_film_for_the_web_that_is_cut_off_says_so(tmp_path):
    path = make(tmp_path / "a.m4a", "aac", movflags="faststart")  # the index comes first
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.warns(audio.AudioWarning, match=r"cut off or damaged: \d\.\d+ s of the 2\.8"):
        wave = audio.read(path)
    assert 1.0 < len(wave) / RATE < 2.5


def test_damage_inside_is_passed_over(made):
    path = made("a.aac")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    path.write_bytes(data)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert len(audio.read(path)) > 1.5 * RATE


SCRIPTS = {
    "ffconcat": "ffconcat version 1.0\nfile 'secret.wav'\n",
    "concat": "file 'secret.wav'\nfile 'secret.wav'\n",
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsecret.wav\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=audio 5004 RTP/AVP 0\n",
    "asx": '<asx version="3.0"><entry><ref href="secret.wav"/></entry></asx>',
    "smil": '<smil><body><audio src="secret.wav"/></body></smil>',
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
}


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".m3u8", ".g722"])
def test_playlists_open_nothing(kind, suffix, tmp_path, monkeypatch):
    """The file that is named is sound, so that following the script would give sound."""
    audio.write(tmp_path / "secret.wav", tone(), RATE)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"list{suffix}"
    path.write_text(SCRIPTS[kind])
    with pytest.raises(AudioError, match="cannot be opened as sound"):
        audio.read(path)
    with pytest.raises(AudioError, match="cannot be opened as sound"):
        audio.read_bytes(path.read_bytes(), str(path))
    if suffix not in media.WITHOUT_HEADER:
        with pytest.raises(media.MediaError):  # not for its text alone
            media.MediaDecoder(path, suffix)
        with pytest.raises(media.MediaError):
            media.MediaDecoder(path.read_bytes(), suffix)


def test_this_pyav_would_follow_them(tmp_path, monkeypatch):
    """Or the test above shows nothing."""
    audio.write(tmp_path / "secret.wav", tone(), RATE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.m4a").write_text(SCRIPTS["ffconcat"])
    with (tmp_path / "list.m4a").open("rb") as file, av.open(file, options={"safe": "0"}) as found:
        assert found.format.name == "concat"
        assert next(found.decode(audio=0)).samples > 0


@pytest.mark.parametrize(
    "head",
    [b"\0\0\0\x18ftypM4A ", b"\x1aE\xdf\xa3", b"#!AMR\n", b"0&\xb2u\x8ef\xcf\x11", b"FLV\x01"],
)
def test_a_head_and_noise_behind_it(head, tmp_path):
    path = tmp_path / "a.m4a"
    path.write_bytes(head + np.random.default_rng(0).bytes(3000))
    wave, said = read_or_say(path)
    assert wave is not None or str(path) in said


def test_without_pyav_it_is_said_how_to_read_it(made, monkeypatch):
    path = made("a.m4a")
    monkeypatch.setattr(media, "is_installed", lambda: False)
    with pytest.raises(AudioError, match=r"it is MPEG-4.*pip install 'speechssl\[media\]'"):
        audio.read(path)


def test_files_are_closed(made):
    import gc

    path = made("a.m4a")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        audio.read(path)
        audio.probe(path)
        gc.collect()
    moved = shutil.move(path, path.with_name("b.m4a"))
    assert len(audio.read(moved))
