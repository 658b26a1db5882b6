"""``transcribe --follow`` and ``--microphone``: what is written where, and every bad input."""

import io
import json
import signal
import sys
import threading
import time
import types

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.audio import growing
from speechssl.cli import main
from speechssl.commands import live_stream
from speechssl.commands.live_stream import Screen, Waiting, fit
from speechssl.inference.live import LiveEvent
from speechssl.inference.live_writers import LiveWriter
from speechssl.inference.subtitles import PROFILES
from tests.audio.portaudio import InputStream, fake_portaudio


@pytest.fixture
def portaudio(monkeypatch) -> types.ModuleType:
    return fake_portaudio(monkeypatch)


@pytest.fixture
def follow(tiny_models, monkeypatch, capsys):
    """Runs the command on bytes; the exit code, standard output and what was said."""

    def run(data: bytes, *options: str, model="ctc", audio="-") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
        given = ["transcribe", str(tiny_models[model]), audio, "--follow", *options]
        code = main(given)
        return code, *capsys.readouterr()

    return run


def speech(rate=16000, subtype="PCM_16") -> bytes:
    generator = np.random.default_rng(0)
    loudness = np.repeat([0.5, 0.3, 1e-4, 0.4, 1e-4], round(0.8 * rate))
    file = io.BytesIO()
    wave = loudness * generator.uniform(-1, 1, len(loudness))
    soundfile.write(file, wave, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def test_json_lines_hold_both_and_text_only_what_is_final(follow):
    code, out, _ = follow(speech(), "--format", "jsonl", "--pause-s", "0.4")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    final = [e["text"] for e in events if e["kind"] == "final"]
    assert len(final) >= 2
    code, out, err = follow(speech(), "--pause-s", "0.4")
    assert out.splitlines() == final
    assert "\r" not in err


def test_another_rate_is_resampled_and_raw_samples_are_the_wav(follow):
    wav = speech(48000)
    code, out, _ = follow(wav, "--partial-s", "0")
    assert code == 0
    assert out
    raw = wav[44:]
    assert follow(raw, "--raw", "s16le:48000", "--partial-s", "0")[1] == out


def test_a_file_is_followed_too(follow, tmp_path, monkeypatch):
    quick = {"idle_s": 0.02, "poll_s": 0.01}
    monkeypatch.setattr(growing.reader_of, "__kwdefaults__", quick)
    path = tmp_path / "a.wav"
    path.write_bytes(speech())
    assert follow(b"", audio=str(path))[1] == follow(speech())[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "json"], "--format json is written as a whole: with --follow choose one of"),
        (["--format", "textgrid"], "--format textgrid is written as a whole"),
        (["--channels", "split"], "--channels split is not for --follow"),
        (["--out", "o"], "--out: only for recordings that are there, not --follow"),
        (["--n-best", "3", "--skip-existing"], "--skip-existing, --n-best: only for recordings"),
        (["--batch-s", "5"], "--batch-s: only for recordings"),
        (["--raw", "mp3:1"], "The coding of raw samples must be one of"),
        (["--pause-s", "0"], "live.pause_s must be in"),
        (["--max-s", "1"], "live.max_s must be in"),
        (["--microphone"], "--follow and --microphone are two streams"),
        (["--subtitle-lines", "1"], "--subtitle-lines: only with --format srt or vtt"),
    ],
)
def test_options_that_do_not_fit(follow, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = follow(speech(), *options)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a.wav", "--raw", "s16le:1"], "--raw: only with --follow or --microphone"),
        (["a.wav", "--pause-s", "1"], "--pause-s: only with --follow or --microphone"),
        (["a.wav", "--format", "jsonl"], "--format jsonl is of live text"),
        (["a.wav", "--microphone"], "--microphone takes the place of AUDIO"),
        (["--microphone", "1", "--raw", "s16le:1"], "--raw is the format of a stream"),
        (["-", "b.wav", "--follow"], "--follow takes one stream"),
        (["missing.wav", "--follow"], "missing.wav: No such file"),
        ([".", "--follow"], "takes one stream, and . is a folder"),
    ],
)
def test_options_that_are_of_live_sound(options, message, tiny_models, capsys):
    assert main(["transcribe", str(tiny_models["ctc"]), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"", [], "standard input is empty"),
        (b"no sound " * 99, [], "standard input is no WAV but text"),
        (speech()[44:], [], "standard input is no WAV: for samples without a header"),
        (speech()[:44], [], "standard input holds no samples"),
        (speech(), ["--raw", "s16le:16000"], "is a WAV, which states its format"),
    ],
)
def test_standard_input_that_is_no_audio(follow, data, options, message):
    code, out, err = follow(data, *options)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


def test_no_standard_input(monkeypatch, tiny_models, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["transcribe", str(tiny_models["ctc"]), "-", "--follow"]) == 2
    assert "There is no standard input to follow" in capsys.readouterr().err


def test_a_model_without_an_alphabet(follow):
    code, _, err = follow(speech(), model="speech")
    assert code == 2
    assert "finetune" in err


def test_the_last_text_comes_before_the_reason(follow):
    wave, rate = soundfile.read(io.BytesIO(speech()))
    wave[-100] = np.nan
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
    code, out, err = follow(file.getvalue())
    assert code == 2
    assert out
    assert "NaN" in err.splitlines()[-1]
    code, again, err = follow(speech()[:-1])
    assert (code, again) == (0, out)
    assert "stops in the middle of a sample: its last 1 bytes were left out" in err


def test_a_telephone_and_a_whisper_are_noted(follow):
    rate = 16000
    wave = 1e-3 * np.sin(np.arange(3 * rate) / 5)
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
    _, _, err = follow(file.getvalue())
    assert "standard input carries nothing above 4 kHz" in err
    assert "standard input is very quiet: its peak is at -60 dBFS" in err


@pytest.fixture
def interrupt(monkeypatch) -> list[str]:
    """Ctrl-C when all sound that was there is taken."""
    take, calls = Waiting.take, []

    def interrupted(self, wait_s):
        found = take(self, wait_s)
        if found == [] and not calls:
            calls.append("Ctrl-C")
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(Waiting, "take", interrupted)
    return calls


@pytest.mark.usefixtures("portaudio")
def test_the_microphone_until_ctrl_c(tiny_models, capsys, monkeypatch, interrupt):
    wave = audio.read_bytes(speech()).reshape(-1, 800)

    def record(stream) -> None:
        for block in wave:
            stream.record(block)

    monkeypatch.setattr(InputStream, "start", record)
    assert main(["transcribe", str(tiny_models["ctc"]), "--microphone"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) >= 1
    assert "Listening to Built-in Mic; Ctrl-C ends." in err
    assert interrupt == ["Ctrl-C"]
    assert not InputStream.last.is_open


def test_options_may_stand_before_the_recordings(tiny_models, record, capsys):
    path = str(record("a.wav", 1.0))
    assert main(["transcribe", str(tiny_models["ctc"]), "--format", "txt", path]) == 0
    assert capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["transcribe", str(tiny_models["ctc"])])
    assert "arguments are required: AUDIO" in capsys.readouterr().err


def test_ctrl_c_ends_a_pipe_that_says_nothing_more(tiny_models, capsys, monkeypatch, interrupt):
    wait = threading.Event()

    class Pipe(io.RawIOBase):
        rest = io.BytesIO(speech())

        def read(self, most=-1):
            return self.rest.read(most) or (wait.wait(60) and b"")

    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=Pipe()))
    assert main(["transcribe", str(tiny_models["ctc"]), "-", "--follow"]) == 0
    assert capsys.readouterr().out
    assert interrupt == ["Ctrl-C"]
    wait.set()


def test_devices_are_listed_without_a_model(portaudio, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["transcribe", "--list-devices"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines() == [
        "1\tBuilt-in Mic\t44100 Hz\tdefault",
        "2\tUSB Headset Mic\t48000 Hz",
    ]
    portaudio.found = []
    with pytest.raises(SystemExit) as ended:
        main(["transcribe", "--list-devices"])
    assert ended.value.code == 2
    assert "There is no microphone" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--list-devices"], ["--microphone"]])
def test_without_the_extra(options, tiny_models, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    given = ["transcribe", *([] if "--list" in options[0] else [str(tiny_models["ctc"])]), *options]
    try:
        code = main(given)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert (
        "package sounddevice is missing: pip install 'speechssl[live]'" in capsys.readouterr().err
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def event(kind: str, text: str) -> LiveEvent:
    return LiveEvent(kind, text, 0.0, 1.0, (), 1.0)


def test_the_last_line_of_a_terminal_is_rewritten():
    out, err = io.StringIO(), Terminal()
    screen = Screen(LiveWriter("txt", PROFILES["adults"]), out=out, err=err)
    screen.show([event("partial", "a long partial text")])
    screen.show([event("partial", "short")])
    screen.show([event("final", "done"), event("partial", "next")])
    screen.close()
    steps = err.getvalue().split("\r")
    assert [step.rstrip() for step in steps] == [
        "", "a long partial text", "short", "", "", "next", "", ""
    ]  # fmt: skip
    assert len(steps[2]) == len("a long partial text")  # nothing of the longer one stays
    assert steps[3] == " " * 5


def test_no_line_where_there_is_no_terminal_or_json_has_it():
    for form, err in (("txt", io.StringIO()), ("jsonl", Terminal())):
        screen = Screen(LiveWriter(form, PROFILES["adults"]), out=io.StringIO(), err=err)
        screen.show([event("partial", "text")])
        screen.close()
        assert err.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("short", 10, "short"),
        ("exactly ten", 11, "exactly ten"),
        ("a text that is too long", 9, "…too long"),
        ("日本語の文字", 7, "…の文字"),
        ("e\u0301" * 5, 5, "e\u0301" * 5),
    ],
)
def test_a_line_shows_the_end_of_a_text(text, columns, shown):
    assert fit(text, columns) == shown


def test_a_sender_waits_when_too_much_does(monkeypatch):
    monkeypatch.setattr(live_stream, "WAITING_S", 0.2)
    given: list[int] = []

    def blocks():
        for number in range(100):
            given.append(number)
            yield np.full(800, number, np.float32)

    waiting = Waiting(blocks())
    time.sleep(0.1)
    assert len(given) <= 6
    found = []
    while (taken := waiting.take(0.5)) is not None:
        found += [int(block[0]) for block in taken]
    assert found == list(range(100))
