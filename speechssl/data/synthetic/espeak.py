"""The process that speaks a shard: espeak-ng, and what makes a WAV file of its samples.

S is a number of samples.
"""

import ctypes
import hashlib
import importlib.metadata
import json
import math
import os
import sys
import wave as wave_file
from pathlib import Path

import numpy as np

from speechssl.data.synthetic.voices import Script

SAMPLE_RATE = 16_000


def wav_path(folder: Path, utterance_id: str) -> Path:
    return folder / f"{utterance_id}.wav"


def espeak_loader() -> tuple[str, str, str]:
    """(shared library, data folder, version) of the espeakng-loader package."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise ValueError(
            "the demo's speech needs the package espeakng-loader; "
            "install it with: pip install 'speechssl[demo]'"
        ) from error
    version = importlib.metadata.version("espeakng-loader")
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path(), version


class Espeak:
    """espeak-ng through ctypes; one per process, since the library keeps global state.

    Changes the process's current folder.
    """

    _SYNCHRONOUS, _DO_NOT_EXIT, _UTF8, _RATE, _PITCH = 2, 0x8000, 1, 1, 3

    def __init__(self) -> None:
        library, data, _ = espeak_loader()
        self._library = ctypes.CDLL(library)
        self._blocks: list[bytes] = []
        callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
        )  # (int16 samples, their number, events) -> 0 to go on
        self._callback = callback(self._receive)
        # The library keeps the path in 160 bytes and long ones fail: a relative path is short.
        os.chdir(Path(data).parent)
        self.sample_rate = int(
            self._library.espeak_Initialize(
                self._SYNCHRONOUS, 200, os.fsencode(Path(data).name), self._DO_NOT_EXIT
            )
        )
        if self.sample_rate <= 0:
            raise ValueError(f"espeak-ng cannot use its data in {data}; reinstall espeakng-loader")
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: int | None, num_samples: int, _events: int | None) -> int:
        if samples and num_samples > 0:
            self._blocks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    def say(self, script: Script) -> np.ndarray:
        """(S,) int16 at ``sample_rate``."""
        if self._library.espeak_SetVoiceByName(script.voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {script.voice}")
        self._library.espeak_SetParameter(self._RATE, script.words_per_minute, 0)
        self._library.espeak_SetParameter(self._PITCH, script.pitch, 0)
        self._blocks.clear()
        text = script.text.encode()
        if self._library.espeak_Synth(text, len(text) + 1, 0, 0, 0, self._UTF8, None, None) != 0:
            raise ValueError(f"espeak-ng refused to say: {script.text}")
        return np.frombuffer(b"".join(self._blocks), dtype=np.int16)


def finish_wave(spoken: np.ndarray, source_rate: int, script: Script) -> np.ndarray:
    """(S,) int16 of espeak-ng -> (S',) int16 at 16 kHz with the script's gain and silences.

    Worked out in float64, so that rounding to int16 hides what processors do differently.
    """
    import soxr

    resampled = soxr.resample(spoken / 32768.0, source_rate, SAMPLE_RATE, quality="VHQ")  # (S',)
    peak = float(np.abs(resampled).max(initial=0.0))
    if len(resampled) < SAMPLE_RATE // 2 or peak < 0.02:
        raise ValueError(f"the voice {script.voice} stayed silent at: {script.text}")
    # Loudness is made equal before the gain: variants differ by 18 dB and some reach full scale.
    active = resampled[np.abs(resampled) > 0.01 * peak]
    gain = 10 ** (script.gain_db / 20) * 0.12 / math.sqrt(float(np.mean(active**2)))
    gain = min(gain, 0.98 / peak)
    lead, tail = (round(seconds * SAMPLE_RATE) for seconds in (script.lead_s, script.tail_s))
    padded = np.pad(resampled * gain, (lead, tail))
    return np.round(padded * 32767).astype("<i2")


def _speak(folder: Path, shard: list[Script]) -> list[tuple[int, str]]:
    """Write each script's WAV; (number of samples, sha256 of the samples) of each."""
    espeak, results = Espeak(), []
    for script in shard:
        samples = finish_wave(espeak.say(script), espeak.sample_rate, script).tobytes()
        with wave_file.open(str(wav_path(folder, script.id)), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(samples)
        results.append((len(samples) // 2, hashlib.sha256(samples).hexdigest()))
    return results


def main() -> int:
    """Read a shard as JSON from stdin, speak it, write its results as JSON to stdout."""
    job = json.load(sys.stdin)
    try:
        results = _speak(Path(job["folder"]), [Script(**fields) for fields in job["scripts"]])
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(results, sys.stdout)
    return 0
