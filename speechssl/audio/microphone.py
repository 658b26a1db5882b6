"""The microphone, through PortAudio (extra ``live``: sounddevice).

Shapes: S samples.
"""

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

import numpy as np

from speechssl.audio.info import AudioError

MOST_WAITING_S = 600.0
"""Sound that may wait for a machine that is too slow."""
_BLOCK_S = 0.05
NO_DEVICE = "There is no microphone: this system lists no device that records."


@dataclass(frozen=True)
class Device:
    """Something that records."""

    number: int
    name: str
    channels: int
    sample_rate: int
    """Hz, its own."""
    is_default: bool


def devices() -> list[Device]:
    """All that record; none is an empty list. Errors as in :class:`Microphone`."""
    sounddevice = _sounddevice()
    try:
        found, default = sounddevice.query_devices(), sounddevice.default.device[0]
    except sounddevice.PortAudioError as error:
        raise AudioError(f"The devices for recording cannot be listed: {error}.") from error
    return [
        Device(
            number,
            str(each["name"]),
            int(each["max_input_channels"]),
            round(each["default_samplerate"]),
            number == default,
        )
        for number, each in enumerate(found)
        if each["max_input_channels"] > 0
    ]


class Microphone:
    """Records from when it is entered until :meth:`close`, whatever is done meanwhile.

    Raises ModuleNotFoundError without sounddevice, and AudioError without PortAudio, where there is
    no such device, or it gives no sound.
    """

    def __init__(self, device: str | None, sample_rate: int) -> None:
        """`device`: a number or a part of a name of :func:`devices`, None: the system's default.
        `sample_rate` is wished for; the device may have its own."""
        self._module = _sounddevice()
        self._device = _find(device)
        self.name = self._device.name
        self.sample_rate = self._rate(sample_rate)
        """Hz, of the blocks."""
        self.notes: list[str] = []
        self._waiting: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._most = int(MOST_WAITING_S / _BLOCK_S)
        self._lost = 0
        self._is_late = self._is_closed = False
        self._stream: Any = None

    def __enter__(self) -> Self:
        try:
            self._stream = self._module.InputStream(
                samplerate=self.sample_rate,
                blocksize=round(_BLOCK_S * self.sample_rate),
                device=self._device.number,
                channels=1,
                dtype="float32",
                callback=self._recorded,
                finished_callback=lambda: self._waiting.put(None),
            )
            self._stream.start()
        except self._module.PortAudioError as error:
            raise AudioError(
                f"The microphone {self.name} cannot be opened: {error}; is it in use, or not "
                "allowed to this program?"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No more is recorded; :meth:`blocks` ends behind what there is."""
        self._is_closed = True
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._waiting.put(None)

    def blocks(self) -> Iterator[np.ndarray]:
        """(S,) float32 in [-1, 1], as they are recorded."""
        while (block := self._waiting.get()) is not None:
            yield block
        if self._lost:
            self.notes.append(
                f"{self.name}: sound was lost {self._lost} times, as the machine did not fetch it "
                "in time."
            )
        if self._is_late:
            raise AudioError(
                f"This machine is too slow for the model: {MOST_WAITING_S / 60:.0f} minutes of "
                "sound were waiting, so that recording has ended. A smaller model keeps up."
            )
        if not self._is_closed:
            raise AudioError(f"The microphone {self.name} gives no more sound: is it unplugged?")

    def _recorded(self, values: np.ndarray, _frames: int, _time: Any, status: Any) -> None:
        """Of PortAudio's own thread: (S, 1) float32."""
        self._lost += bool(status.input_overflow)
        if self._waiting.qsize() >= self._most:
            self._is_late = True
            raise self._module.CallbackStop
        self._waiting.put(np.clip(values[:, 0], -1.0, 1.0))  # a copy: the array is used again

    def _rate(self, wished: int) -> int:
        try:
            self._module.check_input_settings(
                device=self._device.number, channels=1, dtype="float32", samplerate=wished
            )
        except self._module.PortAudioError:
            return self._device.sample_rate
        return wished


def _find(device: str | None) -> Device:
    found = devices()
    if not found:
        raise AudioError(NO_DEVICE)
    if device is None:
        return next((each for each in found if each.is_default), found[0])
    if device.isdecimal():
        same = [each for each in found if each.number == int(device)]
    else:
        same = [each for each in found if each.name == device]
        same = same or [each for each in found if device.casefold() in each.name.casefold()]
    if len(same) != 1:
        many = f"{len(same)} microphones have" if same else "No microphone has"
        names = "; ".join(f"{each.number} {each.name}" for each in same or found)
        raise AudioError(
            f"{many} the number or name {device!r}: give the number of one of these: {names}."
        )
    return same[0]


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except OSError as error:  # PortAudio itself, which only some wheels hold
        raise AudioError(
            "The microphone needs the library PortAudio, which this system lacks: install it, on "
            "Debian and Ubuntu as libportaudio2."
        ) from error
    module: ModuleType = sounddevice
    return module
