"""The microphone, without PortAudio: its blocks, its devices, what can be wrong."""

import sys
import types

import numpy as np
import pytest

from speechssl.audio import AudioError, microphone
from speechssl.audio.microphone import Device, Microphone, devices
from tests.audio.portaudio import FOUND, InputStream, fake_portaudio


@pytest.fixture
def portaudio(monkeypatch) -> types.ModuleType:
    return fake_portaudio(monkeypatch)


@pytest.mark.usefixtures("portaudio")
def test_devices_are_those_that_record():
    assert devices() == [
        Device(1, "Built-in Mic", 2, 44100, True),
        Device(2, "USB Headset Mic", 1, 48000, False),
    ]


@pytest.mark.usefixtures("portaudio")
def test_what_is_recorded_comes_in_order_until_it_is_closed():
    with Microphone(None, 16000) as mic:
        stream = InputStream.last
        assert stream.given["samplerate"] == 16000
        assert stream.given["blocksize"] == 800
        assert (mic.name, mic.sample_rate) == ("Built-in Mic", 16000)
        values = np.arange(800, dtype=np.float32) / 500
        stream.record(values)
        values[:] = 9  # PortAudio uses its array again
        stream.record(np.zeros(800, np.float32), input_overflow=True)
        mic.close()
        first, second = mic.blocks()
    assert np.array_equal(first, np.minimum(np.arange(800, dtype=np.float32) / 500, 1))
    assert not second.any()
    assert not stream.is_open
    assert mic.notes == [
        "Built-in Mic: sound was lost 1 times, as the machine did not fetch it in time."
    ]


def test_a_device_with_a_rate_of_its_own(portaudio):
    portaudio.rates = {44100}
    assert Microphone("1", 16000).sample_rate == 44100


@pytest.mark.parametrize(
    ("device", "name"),
    [(None, FOUND[1]["name"]), ("1", FOUND[1]["name"]), ("built", FOUND[1]["name"])]
    + [(text, FOUND[2]["name"]) for text in ("usb", "USB Headset Mic", "headset mic")],
)
@pytest.mark.usefixtures("portaudio")
def test_a_device_by_number_or_name(device, name):
    assert Microphone(device, 16000).name == name


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("0", "No microphone has the number or name '0': .* these: 1 Built-in Mic; 2 USB"),
        ("9", "No microphone has the number or name '9'"),
        ("nothing", "No microphone has the number or name 'nothing'"),
        ("mic", "2 microphones have the number or name 'mic'"),
    ],
)
@pytest.mark.usefixtures("portaudio")
def test_no_such_device(device, message):
    with pytest.raises(AudioError, match=message):
        Microphone(device, 16000)


@pytest.mark.parametrize("found", [[], FOUND[:1]])
def test_no_microphone(portaudio, found):
    portaudio.found = found
    with pytest.raises(AudioError, match="There is no microphone: this system lists no device"):
        Microphone(None, 16000)


def test_no_default(portaudio):
    portaudio.default.device = [-1, -1]
    assert Microphone(None, 16000).name == "Built-in Mic"


@pytest.mark.usefixtures("portaudio")
def test_in_use():
    with pytest.raises(AudioError, match=r"USB Headset Mic cannot be opened: .*; is it in use"):
        Microphone("2", 16000).__enter__()


@pytest.mark.usefixtures("portaudio")
def test_unplugged():
    mic = Microphone(None, 16000).__enter__()
    InputStream.last.given["finished_callback"]()
    with pytest.raises(AudioError, match="gives no more sound: is it unplugged"):
        list(mic.blocks())


@pytest.mark.usefixtures("portaudio")
def test_a_machine_that_is_too_slow(monkeypatch):
    monkeypatch.setattr(microphone, "MOST_WAITING_S", 0.1)
    with Microphone(None, 16000) as mic:
        for _ in range(3):
            InputStream.last.record(np.zeros(800, np.float32))
        blocks = mic.blocks()
        assert [len(next(blocks)), len(next(blocks))] == [800, 800]
        with pytest.raises(AudioError, match="This machine is too slow for the model"):
            next(blocks)


def test_without_portaudio(monkeypatch):
    class Missing:
        def find_spec(self, name, *_):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(AudioError, match=r"needs the library PortAudio.* libportaudio2"):
        devices()
