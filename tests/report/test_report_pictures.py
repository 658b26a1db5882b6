import base64
import io
import re
import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch

from speechssl.decoding.align import Alignment, TokenSpan
from speechssl.pretext.features import log_mel, power_spectrum
from speechssl.report.codes import nearest_tokens
from speechssl.report.pictures import Label, heat_map, picture, spectrogram
from speechssl.report.sound import griffin_lim, player

PALETTE = bytes(range(256))


def chunks(url: str) -> dict[bytes, bytes]:
    """Of a PNG, each with its checksum verified."""
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, place = {}, 8
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        name, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        (check,) = struct.unpack(">I", data[place + 8 + size : place + 12 + size])
        assert check == zlib.crc32(name + content)
        found[name] = content
        place += 12 + size
    return found


def test_a_picture_holds_its_values():
    shares = np.array([[0.0, 0.5, 1.0], [2.0, -1.0, 1 / 63]])
    found = chunks(picture(shares, PALETTE))
    assert struct.unpack(">II", found[b"IHDR"][:8]) == (3, 2)
    lines = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(2, 4)
    assert lines[:, 1:].tolist() == [[0, 32, 63], [63, 0, 1]]
    assert found[b"PLTE"][:6] == bytes([0, 1, 2, 4, 5, 6])
    assert found[b"tRNS"][:2] == bytes([3, 7])


def drawn(**options) -> str:
    mels = np.zeros((200, 80))
    settings = {"limits": (0.0, 1.0), "sample_rate": 16000, "hop_s": 0.01, "title": "A <b>"}
    return spectrogram(mels, **{**settings, **options})


def test_hidden_frames_are_covered():
    svg = drawn(hidden=np.array([1, 1, 0, 0, 1], bool), frame_s=0.4)
    covers = re.findall(r'class="hidden" x="([\d.]+)".*? width="([\d.]+)"', svg)
    scale = 306 / 5  # units of the drawing for a frame
    assert [float(x) for x, _ in covers] == pytest.approx([46, 46 + 4 * scale], abs=0.1)
    assert [float(width) for _, width in covers] == pytest.approx([2 * scale, scale], abs=0.1)
    assert 'aria-label="A &lt;b&gt;"' in svg


def test_labels_never_overlap():
    labels = [Label("abc"[: 1 + i % 3], 0.02 * i, 0.02 * i + 0.02, i % 2 == 0) for i in range(100)]
    svg = drawn(rows=[("said", labels)])
    shown = re.findall(r'<text class="(?:bad|ink)" x="([\d.]+)" y="([\d.]+)".*?>(\w+)<title>', svg)
    assert len(shown) > 30
    for row in {y for _, y, _ in shown}:
        spans = [
            (float(x) - 3.7 * len(t), float(x) + 3.7 * len(t)) for x, y, t in shown if y == row
        ]
        assert all(end <= start + 0.11 for (_, end), (start, _) in pairwise(spans))


def test_the_time_axis_ends_with_the_sound():
    texts = re.findall(r'text-anchor="middle">([\d.]+)( s)?<', drawn())
    assert [float(value) for value, _ in texts][-1] == 2.0
    assert [unit for _, unit in texts][-1] == " s"


def test_a_heat_map_tells_its_columns():
    svg = heat_map(
        np.eye(3),
        title="t",
        columns=["one", "", "<three>"],
        x_ticks=[(0, "0")],
        y_ticks=[(2, "last")],
        x_label="updates",
    )
    assert re.findall(r"<title>(.*?)</title>", svg) == ["one", "&lt;three&gt;"]
    assert "last" in svg


def test_a_player_holds_the_sound():
    wave = 0.3 * np.sin(np.arange(16000) * 0.1).astype(np.float32)
    html = player(wave, 16000, 'a "b"')
    assert 'aria-label="a &quot;b&quot;"' in html
    data = re.search(r"base64,([\w+/=]+)", html)
    assert data is not None
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(data[1])))
    assert rate == 16000
    assert len(heard) >= 16000
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(0.21, abs=0.03)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_sound_from_a_spectrogram_has_that_spectrogram(rate):
    time = torch.arange(rate) / rate
    wave = sum(0.1 * torch.sin(2 * torch.pi * hz * time) for hz in (300, 900, 2500))
    wave = (wave * (0.2 + time))[None]
    mels = log_mel(power_spectrum(wave, 100, rate), rate)[0]
    again = torch.from_numpy(griffin_lim(mels, rate))[None]
    rebuilt = log_mel(power_spectrum(again, 100, rate), rate)[0]
    loud = mels[10:90] > mels.max() - 6
    assert float((rebuilt - mels)[10:90][loud].abs().median()) < 0.7
    assert float((rebuilt - mels)[10:90][loud].mean().abs()) < 0.5


def test_frames_belong_to_the_nearest_token():
    tokens = (TokenSpan(2, 5, 6, 1.0), TokenSpan(3, 10, 12, 1.0))
    times = np.array([0.0, 0.15, 0.22, 0.31, 0.37, 0.44, 0.57, 0.7])
    numbers = nearest_tokens(Alignment(tokens, 0.0), 0.04, times)
    assert numbers.tolist() == [-1, 0, 0, 0, 1, 1, 1, -1]
    assert nearest_tokens(Alignment((), 0.0), 0.04, times).tolist() == [-1] * 8
