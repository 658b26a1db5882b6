"""Sound: probe, read (crop, mono, resample), write, list, cut where it is quiet.

Shapes: S samples, C channels. A wave is float32 in [-1, 1]. Everything soundfile opens is read: WAV
of any width, FLAC, Ogg Vorbis and Opus, MP3, AIFF, AU, CAF, W64; with the extra ``media`` also
what :mod:`speechssl.audio.media` lists. Decoding streams in blocks, so a
ten-hour recording costs no more memory than the part that was asked for.
"""

from speechssl.audio.bandwidth import NARROW_HZ, NARROW_SHARE, HighBand
from speechssl.audio.blocks import LOUDEST, Blocks, mix
from speechssl.audio.files import (
    probe,
    read,
    read_bytes,
    read_with_notes,
    stream,
    stream_bytes,
    write,
)
from speechssl.audio.info import AudioError, AudioInfo, AudioWarning, file_state
from speechssl.audio.listing import FOREIGN_SUFFIXES, SUFFIXES, list_audio
from speechssl.audio.pitch import shift_pitch, stretch
from speechssl.audio.quiet import Envelope, cut_times, is_pause, quiet_place
from speechssl.audio.resample import play_at, resampled
from speechssl.audio.values import as_wave

__all__ = [
    "FOREIGN_SUFFIXES",
    "LOUDEST",
    "NARROW_HZ",
    "NARROW_SHARE",
    "SUFFIXES",
    "AudioError",
    "AudioInfo",
    "AudioWarning",
    "Blocks",
    "Envelope",
    "HighBand",
    "as_wave",
    "cut_times",
    "file_state",
    "is_pause",
    "list_audio",
    "mix",
    "play_at",
    "probe",
    "quiet_place",
    "read",
    "read_bytes",
    "read_with_notes",
    "resampled",
    "shift_pitch",
    "stream",
    "stream_bytes",
    "stretch",
    "write",
]
