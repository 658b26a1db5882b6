"""A module sounddevice that records what a test gives it."""

import sys
import types

import numpy as np
import pytest

FOUND = [
    {"name": "Loudspeaker", "max_input_channels": 0, "default_samplerate": 48000.0},
    {"name": "Built-in Mic", "max_input_channels": 2, "default_samplerate": 44100.0},
    {"name": "USB Headset Mic", "max_input_channels": 1, "default_samplerate": 48000.0},
]


class PortAudioError(Exception):
    pass


class CallbackStop(Exception):
    pass


class Status:
    def __init__(self, *, input_overflow: bool = False) -> None:
        self.input_overflow = input_overflow


class InputStream:
    """Holds what it was opened with."""

    last: "InputStream"

    def __init__(self, **given) -> None:
        if given["device"] == 2:
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")
        self.given, self.is_open = given, True
        InputStream.last = self

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.is_open = False
        self.given["finished_callback"]()

    def record(self, values: np.ndarray, **status) -> None:
        try:
            self.given["callback"](values[:, None], len(values), None, Status(**status))
        except CallbackStop:
            self.given["finished_callback"]()


def fake_portaudio(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module; what it lists and which rates it takes can be changed."""
    module = types.ModuleType("sounddevice")
    module.PortAudioError, module.CallbackStop = PortAudioError, CallbackStop
    module.InputStream = InputStream
    module.found, module.rates = list(FOUND), {16000, 44100}
    module.default = types.SimpleNamespace(device=[1, 0])
    module.query_devices = lambda: module.found

    def check(**given) -> None:
        if given["samplerate"] not in module.rates:
            raise PortAudioError("Invalid sample rate")

    module.check_input_settings = check
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module
