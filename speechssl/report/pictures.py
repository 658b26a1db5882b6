"""Arrays as pictures inside the page: PNG as data, and axes drawn over it as SVG.

Shapes: H hops of 10 ms, M mel bands.
"""

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_ANCHORS = "000004 1c1044 4f127b 812581 b5367a e55064 fb8761 fec287 fcfdbf"
"""Of the colour map "magma" (Smith and van der Walt 2015): even in lightness, told apart by those
who are colour-blind, readable in grey."""
_TINT = (61, 130, 221)
"""Colour of heat maps, by opacity, so that both the light and the dark page show through."""
_NUM_LEVELS = 64
_LABEL_ROWS = 3
_LABEL_HEIGHT = 13


@dataclass(frozen=True)
class Label:
    """A text over a stretch of time."""

    text: str
    start_s: float
    end_s: float
    is_wrong: bool = False


@dataclass(frozen=True)
class Frame:
    """Where a spectrogram is drawn, in units that are about pixels."""

    width: float = 360
    height: float = 118
    left: float = 46
    right: float = 8
    top: float = 4

    def x(self, share: float) -> float:
        """Of a moment, as a share of the whole duration."""
        return self.left + share * (self.width - self.left - self.right)


def spectrogram(
    log_mels: np.ndarray,
    *,
    limits: tuple[float, float],
    sample_rate: int,
    hop_s: float,
    title: str,
    hidden: np.ndarray | None = None,
    frame_s: float = 0.0,
    rows: Sequence[tuple[str, Sequence[Label]]] = (),
    frame: Frame = Frame(),
) -> str:
    """A spectrogram with its axes.

    Args:
        log_mels: (H, M) natural log of Slaney mel energies up to half of `sample_rate`.
        limits: values of the darkest and the brightest colour.
        sample_rate: Hz.
        hop_s: seconds between two rows of `log_mels`.
        title: what it shows, for those who do not see it.
        hidden: (T,) bool, True = a frame that is hidden: hatched.
        frame_s: seconds of each of these.
        rows: ``(name, labels)`` of texts above it.
        frame: how large it is.
    """
    low, high = limits
    shares = np.clip((log_mels.T[::-1] - low) / max(high - low, 1e-6), 0, 1)  # (M, H)
    duration_s = len(log_mels) * hop_s
    parts, y = [], frame.top
    for name, labels in rows:
        drawn, used = _labels(labels, y, duration_s, frame)
        parts.append(f'<text x="{frame.left - 6}" y="{y + 10:.1f}" text-anchor="end">{name}</text>')
        parts.append(drawn)
        y += used * _LABEL_HEIGHT + 5
    width = frame.width - frame.left - frame.right
    parts.append(
        f'<image href="{picture(shares, _MAGMA)}" x="{frame.left}" y="{y:.1f}" '
        f'width="{width:.1f}" height="{frame.height}" preserveAspectRatio="none"/>'
    )
    if hidden is not None:
        parts += _hatching(hidden, frame_s / duration_s, y, frame)
    parts += _hertz_axis(y, sample_rate, frame)
    parts += _time_axis(y + frame.height, duration_s, frame)
    return _svg(frame.width, y + frame.height + 20, title, parts)


def colour_limits(log_mels: np.ndarray) -> tuple[float, float]:
    """The values of the darkest and the brightest colour: 60 dB, less where there is less."""
    high = float(np.percentile(log_mels, 99.7))
    return max(float(np.percentile(log_mels, 2)), high - 6 * np.log(10)), high


def heat_map(
    shares: np.ndarray,
    *,
    title: str,
    columns: Sequence[str],
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    x_label: str,
    width: float = 360,
    height: float = 190,
) -> str:
    """Values in [0, 1] as opacity.

    Args:
        shares: (rows, columns), the first row on top.
        title: what it shows, for those who do not see it.
        columns: the tooltip of each column.
        x_ticks, y_ticks: ``(column or row, text)``, where the middle of column 0 is 0.
        x_label: below the x axis.
        width, height: of the drawing and of the map, in units that are about pixels.
    """
    frame = Frame(width, height)
    inner, (num_rows, num_columns) = frame.width - frame.left - frame.right, shares.shape
    size, row = inner / num_columns, height / num_rows
    parts = [
        f'<rect class="plot" x="{frame.left}" y="{frame.top}" width="{inner}" height="{height}"/>',
        f'<image class="cells" href="{picture(shares, _TINTS)}" x="{frame.left}" y="{frame.top}" '
        f'width="{inner}" height="{height}" preserveAspectRatio="none"/>',
    ]
    parts += [
        f'<rect class="hover" x="{frame.left + i * size:.2f}" y="{frame.top}" '
        f'width="{size:.2f}" height="{height}"><title>{escape(text)}</title></rect>'
        for i, text in enumerate(columns)
        if text
    ]
    parts += [
        f'<text x="{frame.left - 6}" y="{frame.top + (at + 0.5) * row + 4:.1f}" '
        f'text-anchor="end">{escape(text)}</text>'
        for at, text in y_ticks
    ]
    bottom = frame.top + height
    parts += [
        f'<text x="{frame.left + (at + 0.5) * size:.1f}" y="{bottom + 16:.1f}" '
        f'text-anchor="middle">{escape(text)}</text>'
        for at, text in x_ticks
    ]
    parts.append(
        f'<text x="{frame.left + inner / 2:.1f}" y="{bottom + 31:.1f}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    return _svg(frame.width, bottom + 36, title, parts)


def picture(shares: np.ndarray, palette: bytes) -> str:
    """(rows, columns) in [0, 1] -> the URL of a PNG that holds its own data.

    `palette` is one of 64 colours, 4 bytes each: red, green, blue, opacity.
    """
    levels = np.rint(np.clip(shares, 0, 1) * (_NUM_LEVELS - 1)).astype(np.uint8)
    rows, columns = levels.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), levels], axis=1)  # filter 0: none
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 4)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, content)
        for name, content in (
            (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            (b"PLTE", colours[:, :3].tobytes()),
            (b"tRNS", colours[:, 3].tobytes()),
            (b"IDAT", zlib.compress(lines.tobytes(), 9)),
            (b"IEND", b""),
        )
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def _magma() -> bytes:
    anchors = np.array([list(bytes.fromhex(text)) for text in _ANCHORS.split()], float)  # (9, 3)
    at = np.linspace(0, len(anchors) - 1, _NUM_LEVELS)
    colours = [np.interp(at, np.arange(len(anchors)), channel) for channel in anchors.T]
    opaque = np.full(_NUM_LEVELS, 255.0)
    return np.rint(np.stack([*colours, opaque], axis=1)).astype(np.uint8).tobytes()


_MAGMA = _magma()
_TINTS = b"".join(bytes((*_TINT, round(255 * i / (_NUM_LEVELS - 1)))) for i in range(_NUM_LEVELS))


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _hatching(hidden: np.ndarray, frame_share: float, y: float, frame: Frame) -> list[str]:
    """A rectangle over each run of hidden frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden.astype(np.int8), [0]])))
    spans = [
        (start * frame_share, min(end * frame_share, 1)) for start, end in edges.reshape(-1, 2)
    ]
    return [
        f'<rect class="hidden" x="{frame.x(start):.1f}" y="{y:.1f}" '
        f'width="{frame.x(end) - frame.x(start):.1f}" height="{frame.height}"/>'
        for start, end in spans
        if start < 1
    ]


def _labels(labels: Sequence[Label], y: float, duration_s: float, frame: Frame) -> tuple[str, int]:
    """Texts in as many rows as keep them apart, and how many rows they took (at least one)."""
    ends, parts = [0.0], []
    for label in labels:
        x = frame.x(min((label.start_s + label.end_s) / 2 / duration_s, 1.0))
        half = max(len(label.text), 1) * 3.7
        row = next((i for i, end in enumerate(ends) if x - half >= end), len(ends))
        if row == _LABEL_ROWS:
            continue  # no room: the transcript above has it
        ends[row:] = [x + half, *ends[row + 1 :]]
        css = ' class="bad"' if label.is_wrong else ' class="ink"'
        when = f"{label.text}, {label.start_s:.2f} to {label.end_s:.2f} s"
        parts.append(
            f'<text{css} x="{x:.1f}" y="{y + 10 + row * _LABEL_HEIGHT:.1f}" text-anchor="middle">'
            f"{escape(label.text)}<title>{escape(when)}</title></text>"
        )
    return "".join(parts), len(ends)


def _hertz_axis(y: float, sample_rate: int, frame: Frame) -> list[str]:
    top = _mel(sample_rate / 2)
    ticks = [hz for hz in (500, 1000, 2000, 4000, 8000) if hz < 0.9 * sample_rate / 2]
    return [
        f'<text x="{frame.left - 6}" y="{y + frame.height * (1 - _mel(hz) / top) + 4:.1f}" '
        f'text-anchor="end">{hz / 1000:g} kHz</text>'
        for hz in ticks
        if hz != 500
    ]


def _mel(hertz: float) -> float:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _time_axis(y: float, duration_s: float, frame: Frame) -> list[str]:
    step = next(s for s in (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 60) if duration_s / s <= 8 or s == 60)
    times = np.arange(0, duration_s + 1e-9, step)
    return [
        f'<text x="{frame.x(t / duration_s):.1f}" y="{y + 15:.1f}" text-anchor="middle">'
        f"{t:g}{' s' if i == len(times) - 1 else ''}</text>"
        for i, t in enumerate(times.tolist())
    ]
