"""Live text: final text depends on the sound alone, is never changed, and is that of the file."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from speechssl.audio import AudioError
from speechssl.checkpoint import Checkpoint, load_model
from speechssl.decoding.greedy import Hypothesis, greedy_decode
from speechssl.inference.live import LiveConfig, LiveEvent, LiveTranscriber, place_between_words
from speechssl.inference.transcribe import Transcriber, transcribe
from speechssl.model.config import ContextConfig, FilterbankEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.text import CharTokenizer
from tests.inference.speller import LETTERS, say, speak, speller

FINAL = LiveConfig(partial_s=None)


@pytest.fixture
def model(tiny_models) -> Transcriber:
    return Transcriber(speller(tiny_models["ctc"]), precision="fp32")


def stream(
    model: Transcriber | Checkpoint, wave: np.ndarray, slices=1600, config: LiveConfig = FINAL
) -> list[LiveEvent]:
    live = LiveTranscriber(model, config=config, clock=lambda: 0.0)
    events = [e for at in range(0, len(wave), slices) for e in live.feed(wave[at : at + slices])]
    return events + live.finish()


def finals(events: list[LiveEvent]) -> list[str]:
    return [event.text for event in events if event.kind == "final"]


TEXTS = ["the quick brown fox", "jumps", "over the lazy dog and sleeps"]


def test_final_text_is_what_was_said_when_a_pause_came(model):
    events = stream(model, say(*TEXTS, pause_s=0.8))
    assert finals(events) == TEXTS
    assert all(event.kind == "final" for event in events)


def test_final_text_is_that_of_the_file(model, tiny_models):
    wave = say(*TEXTS, pause_s=0.8)
    whole = transcribe(speller(tiny_models["ctc"]), wave)
    events = stream(model, wave)
    assert "".join(finals(events)).replace(" ", "") == whole.text.replace(" ", "")
    live, file = (
        [part for word in words for part in word.parts]
        for words in ([word for event in events for word in event.words], whole.words)
    )
    assert [(w.text, w.start_s, w.end_s) for w in live] == [
        (w.text, pytest.approx(w.start_s), pytest.approx(w.end_s)) for w in file
    ]


def test_times_are_those_of_the_stream_and_rise(model):
    first, second, third = stream(model, say(*TEXTS, pause_s=0.8))
    assert first.start_s == pytest.approx(0.8 + 0.02, abs=0.021)
    assert first.end_s < first.until_s <= second.start_s < second.end_s < second.until_s
    assert third.end_s < third.until_s <= len(say(*TEXTS, pause_s=0.8)) / 16000


@pytest.mark.parametrize("slices", [97, 320, 5000, 10**6])
def test_slices_change_no_final_text(model, slices):
    wave = say(*TEXTS, "a" * 90, "so it ends here", pause_s=0.7)
    config = LiveConfig(partial_s=0.3, max_s=2.0)
    expected = [e for e in stream(model, wave, config=config) if e.kind == "final"]
    found = [e for e in stream(model, wave, slices, config) if e.kind == "final"]
    assert found == expected
    assert len(found) > len(TEXTS) + 2


@pytest.mark.parametrize("name", ["ctc", "conv"])
def test_slices_change_nothing_of_a_real_model(name, tiny_models, record):
    from speechssl import audio

    wave = audio.read(record("a.wav", 5.0))
    wave[20000:30000] *= 1e-3
    ready = Transcriber(load_model(tiny_models[name]))
    config = LiveConfig(partial_s=None, pause_s=0.4, max_s=2.0, context_s=0.5)
    expected = stream(ready, wave, config=config)
    assert len(expected) >= 3
    assert stream(ready, wave, 333, config) == expected


def test_partial_text_grows_and_ends_in_the_final_one(model):
    events = stream(model, say(*TEXTS, pause_s=0.8), config=LiveConfig(partial_s=0.1))
    assert finals(events) == TEXTS
    shown = [e.text for e in events[: [e.kind for e in events].index("final")]]
    assert len(shown) >= 4
    assert all(len(a) < len(b) for a, b in pairwise(shown))
    assert all(TEXTS[0].startswith(text) for text in shown)
    behind = [e for e in events if e.kind == "partial" and e.start_s > 2.0]
    assert {e.text[0] for e in behind} == {"j", "o"}  # what is final is in no partial text


def test_partial_text_that_was_none_is_taken_back(tiny_models):
    """The decoder says something of less than 0.36 s only."""

    def unsure(rows, lengths):
        found = greedy_decode(rows, lengths)
        return found if int(lengths[0]) < 18 else [Hypothesis((), 18, 18, 1.0)]

    ready = Transcriber(speller(tiny_models["ctc"]), decode=unsure)
    events = stream(ready, speak("abcdefghij", 0.8), config=LiveConfig(partial_s=0.1))
    assert events[0].kind == "partial"
    texts = [(e.kind, e.text) for e in events]
    assert ("partial", "") in texts
    assert finals(events) == []


def test_a_slow_machine_drops_partial_text_and_no_sound(model):
    def run(cost_s: float) -> list[LiveEvent]:
        times = iter(np.arange(0, 1e4, cost_s)) if cost_s else iter(lambda: 0.0, 1.0)
        live = LiveTranscriber(
            model, config=LiveConfig(partial_s=0.1), clock=lambda: float(next(times))
        )
        wave = say(*TEXTS, pause_s=0.8)
        events = [e for at in range(0, len(wave), 800) for e in live.feed(wave[at : at + 800])]
        return events + live.finish()

    quick, slow, hopeless = run(0.0), run(0.4), run(60.0)
    assert finals(quick) == finals(slow) == finals(hopeless) == TEXTS
    assert len(quick) > 2 * len(slow) > 2 * len(hopeless)
    assert len(hopeless) == len(TEXTS) + 1


def test_partial_text_waits_where_more_sound_does(model):
    live = LiveTranscriber(model, config=LiveConfig(partial_s=0.1))
    assert live.feed(say(*TEXTS[:1])[:16000], partials=False) == []
    assert live.feed(np.zeros(0, np.float32))[0].kind == "partial"


def test_without_a_pause_a_segment_ends_between_two_words(model):
    text = " ".join(["one", "two", "three", "four", "five", "six"] * 6)
    events = stream(model, speak(text), config=LiveConfig(partial_s=None, max_s=2.0))
    assert len(events) > 2
    assert " ".join(finals(events)) == text  # no word is cut, none comes twice
    assert all(event.until_s - event.start_s <= 3.1 for event in events)


def test_without_words_it_ends_between_two_letters(model):
    text = "abcdefghijklmnopqrstuvwxyz" * 5
    events = stream(model, speak(text), config=LiveConfig(partial_s=None, max_s=2.0))
    assert len(events) > 2
    assert "".join(finals(events)) == text


@pytest.mark.parametrize(
    ("wanted", "low", "high", "place"),
    [
        (5, 1, 20, 5),  # between the words already
        (2, 1, 20, 6),  # within the first one: the middle of the pause
        (9, 1, 20, 6),
        (2, 7, 20, 14),  # behind all
        (2, 7, 12, 8),  # no pause there: between two letters
        (12, 9, 12, 11),
        (2, 3, 3, 2),  # nowhere
    ],
)
def test_the_place_between_words(wanted, low, high, place):
    """Frames: ``ab`` in 0 to 4, a space at 6, ``cd`` in 9 to 13."""
    a, b, space, c, d = LETTERS.encode("ab cd")
    rows = torch.full((1, 16, LETTERS.vocab_size), -9.0)
    symbols = [a, a, b, b, 0, 0, space, 0, 0, c, c, d, d, 0, 0, 0]
    rows[0, range(16), symbols] = -0.1
    (hypothesis,) = greedy_decode(rows, torch.tensor([16]))
    assert place_between_words(hypothesis, wanted, low, high, LETTERS) == place


def test_silence_says_nothing_and_costs_nothing(model):
    calls = []
    inner = model.model.forward
    model.model.forward = lambda *given: calls.append(1) or inner(*given)
    live = LiveTranscriber(model)
    silence = np.zeros(16000, np.float32)
    for _ in range(40):
        assert live.feed(silence) == []
        assert len(live._recent.wave) <= 16000 * (15 + 1 + 1 + 2)
    assert live.finish() == []
    assert calls == []
    assert live.duration_s == 40.0


@pytest.mark.parametrize("num", [0, 1, 100, 319, 320, 1000])
def test_streams_of_almost_nothing(model, num):
    wave = np.full(num, 0.02 * LETTERS.encode("a")[0], np.float32)
    assert finals(stream(model, wave)) in ([], ["a"])


def test_two_streams_share_a_model(model):
    waves = [say(*TEXTS, pause_s=0.8), say("another person", "says this", pause_s=0.8)]
    lives = [LiveTranscriber(model, config=FINAL) for _ in waves]
    events: list[list[LiveEvent]] = [[], []]
    for at in range(0, max(map(len, waves)), 700):
        for live, wave, found in zip(lives, waves, events, strict=True):
            found += live.feed(wave[at : at + 700])
    for live, wave, found in zip(lives, waves, events, strict=True):
        assert found + live.finish() == stream(model, wave)


@pytest.fixture
def causal() -> Checkpoint:
    torch.manual_seed(3)
    tokenizer = CharTokenizer.train(["abc def"])
    context = ContextConfig(
        dim=16, num_layers=2, num_heads=2, ffn_dim=32, pos_kernel=5, pos_groups=2, causal=True
    )
    encoder = FilterbankEncoderConfig(num_filters=8, hop_samples=160, stack=2)
    speech = SpeechModel(ModelConfig(encoder=encoder, context=context, running_norm=True))
    head = CTCHead(16, tokenizer.vocab_size)
    head.linear.weight.data *= 7
    head.linear.bias.data.zero_()
    return Checkpoint(CTCModel(speech, head), tokenizer)


def test_partial_text_of_a_causal_model_only_grows(causal, record):
    """No frame changes when more sound comes; all but the last letter stands."""
    from speechssl import audio

    events = stream(causal, audio.read(record("a.wav", 3.0)), config=LiveConfig(partial_s=0.2))
    shown = [e.text for e in events]
    assert len(shown) > 5
    assert events[-1].kind == "final"
    assert all(after.startswith(before[:-1]) for before, after in pairwise(shown))


def test_confidences_are_calibrated_where_the_model_is(tiny_models):
    ready = Transcriber(speller(tiny_models["ctc"]))
    ready.calibration = lambda confidence, _text: confidence / 2
    (event,) = stream(ready, say("abc", pause_s=0.8))
    (word,) = event.words
    assert word.confidence == pytest.approx(word.raw_confidence / 2)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(5, np.int16), "floats in .-1, 1., got int16 of shape"),
        (np.zeros((5, 2), np.float32), r"float32 of shape \(5, 2\)"),
        ([0.0, 0.1], "got list"),
        (np.array([0, np.nan], np.float32), "NaN or infinite"),
        (np.array([0, np.inf]), "NaN or infinite"),
    ],
)
def test_what_is_no_wave(model, samples, message):
    with pytest.raises(AudioError, match=message):
        LiveTranscriber(model).feed(samples)


def test_beyond_full_scale_is_limited_and_doubles_are_taken(model):
    wave = np.concatenate([np.full(320, 7.0), say("abc", pause_s=0.8).astype(np.float64)])
    assert finals(stream(model, wave))[-1].endswith("abc")


def test_a_finished_stream_takes_no_more(model):
    live = LiveTranscriber(model)
    live.finish()
    with pytest.raises(ValueError, match="finished: make another"):
        live.feed(np.zeros(5, np.float32))
    assert live.finish() == []


def test_a_model_without_an_alphabet(tiny_models):
    with pytest.raises(ValueError, match="finetune"):
        LiveTranscriber(load_model(tiny_models["speech"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pause_s": 0.01}, "live.pause_s must be in .0.1, 10."),
        ({"max_s": 600.0}, "live.max_s"),
        ({"context_s": -1.0}, "live.context_s"),
        ({"partial_s": 0.0}, "live.partial_s must be above 0"),
        ({"partial_share": 0.0}, "live.partial_share"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        LiveConfig(**settings)
