"""Windows over speech without pauses: what is joined is what the whole recording gives."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from speechssl import audio
from speechssl.checkpoint import Checkpoint, load_model
from speechssl.decoding.greedy import greedy_decode
from speechssl.inference.align import Aligner
from speechssl.inference.decoders import choose_decoder
from speechssl.inference.extract import Layers, extract_all
from speechssl.inference.known_text import known_text
from speechssl.inference.recordings import Chunk, Clip, as_clip, chunks
from speechssl.inference.stitching import (
    CONTEXT_S,
    Stitcher,
    context_samples,
    own_rows,
    word_boundary,
)
from speechssl.inference.transcribe import Transcriber, log_probs, transcribe_all
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.rng import rng
from speechssl.text import BLANK_ID, CharTokenizer
from tests.inference.speller import FRAME, LETTERS, speak, speller

REACH = 12
"""Frames on both sides without which the model of these tests is wrong: a quarter of a second."""


def words_of(num: int, seed: int = 0) -> str:
    """Words of 1 to 9 letters."""
    made = rng(seed, "words")
    return " ".join(
        "".join(made.choice(list("bcdefghijklmnopqrstuvwxyz"), int(made.integers(1, 10))))
        for _ in range(num)
    )


@pytest.fixture
def checkpoint(tiny_models) -> Checkpoint:
    """A speller that is wrong within `REACH` frames of both ends of its input."""
    made = speller(tiny_models["ctc"])
    spell = made.model.forward

    def forward(wave, lengths):
        rows, num = spell(wave, lengths)
        wrong = torch.full_like(rows[0, :REACH], -9.0)
        wrong[:, LETTERS.encode("a")[0]] = 0.0
        for row, n in zip(rows, num.tolist(), strict=True):
            row[: min(REACH, n)] = wrong[: min(REACH, n)]
            row[max(n - REACH, 0) : n] = wrong[: min(REACH, n)]
        return rows, num

    made.model.forward = forward
    return made


def told(checkpoint, source, max_chunk_s=1e5, **options):
    """The one transcript."""
    clip = source if isinstance(source, Clip) else as_clip(source)
    (found,) = transcribe_all(
        checkpoint, [clip], precision="fp32", max_chunk_s=max_chunk_s, **options
    )
    return found


def assert_same_words(found, expected):
    """To the rounding of a sum."""
    assert [word.text for word in found] == [word.text for word in expected]
    for name in ("start_s", "end_s", "confidence"):
        assert [getattr(word, name) for word in found] == pytest.approx(
            [getattr(word, name) for word in expected]
        )


@pytest.mark.parametrize("max_chunk_s", [1.3, 2.0, 4.7, 30.0])
@pytest.mark.parametrize("batch_s", [1.0, 60.0])
def test_windows_are_the_whole_recording(checkpoint, max_chunk_s, batch_s):
    """The same words, times and confidences: no frame is doubled, lost or without context."""
    text = words_of(150)
    wave = speak(text)
    whole = told(checkpoint, wave)
    assert len(whole.words) >= 140
    assert told(checkpoint, wave, max_chunk_s, batch_s=batch_s) == whole


def test_without_context_words_are_lost(checkpoint, monkeypatch):
    """What the tests here would not see, if windows did not overlap."""
    wave = speak(words_of(150))
    monkeypatch.setattr("speechssl.inference.stitching.context_samples", lambda _: 0)
    found, whole = told(checkpoint, wave, 2.0), told(checkpoint, wave)
    assert len({w.text for w in whole.words} - {w.text for w in found.words}) > 20


@pytest.mark.parametrize("longest_s", [1.0, 3.0, 10.0])
def test_what_goes_on_for_long_is_decoded_in_parts(checkpoint, monkeypatch, longest_s):
    wave = speak(words_of(150))
    whole = told(checkpoint, wave)
    parts = []

    def decode(rows, lengths):
        parts.append(rows.shape[1] / 50)
        return greedy_decode(rows, lengths)

    monkeypatch.setattr(Stitcher.__init__, "__defaults__", (longest_s,))
    found = told(checkpoint, wave, 2.0, decode=decode)
    assert_same_words(found.words, whole.words)
    assert max(parts) <= longest_s
    assert sum(parts) == pytest.approx(len(wave) / 16000, abs=0.02)


def test_a_beam_search_follows_words_over_windows(checkpoint):
    wave = speak(words_of(12))
    decode = choose_decoder(checkpoint, beam=4, hotwords=["b"])
    whole, found = (told(checkpoint, wave, most, decode=decode) for most in (1e5, 2.0))
    assert_same_words(found.words, whole.words)


def test_each_channel_has_its_windows(checkpoint, tmp_path):
    one, two = speak(words_of(40, 1)), speak(words_of(40, 2))
    num = min(len(one), len(two))
    audio.write(path := tmp_path / "call.wav", np.stack([one[:num], two[:num]], 1), 16000)
    for channel, wave in enumerate((one, two)):
        found = told(checkpoint, Clip("call", path, channel=channel), 2.0)
        assert found.text == told(checkpoint, wave[:num]).text


@pytest.mark.parametrize("max_chunk_s", [1.3, 2.0, 7.0])
def test_a_known_text_is_aligned_over_windows(checkpoint, max_chunk_s):
    text = words_of(60)
    wave, known = speak(text), known_text([text], LETTERS)
    found = [
        Aligner(checkpoint, precision="fp32", max_chunk_s=most)(as_clip(wave), known)
        for most in (1e5, max_chunk_s)
    ]
    assert found[0].num_aligned >= 56  # but for both ends
    assert_same_words(*([word for word in each.words if word] for each in found))


# ---- real networks -------------------------------------------------------------------------------


def local_model(*, upsample: int = 1, kernel: int = 5) -> Checkpoint:
    """Convolutions alone that normalise nothing over time (LARGE's encoder): a frame depends on a
    quarter of a second."""
    torch.manual_seed(3)
    context = ContextConfig(
        dim=16,
        num_layers=2,
        local_layers=2,
        local_kernel=kernel,
        num_heads=2,
        ffn_dim=32,
        norm_order="pre",
        pos_kernel=5,
        pos_groups=2,
        layerdrop=0.0,
    )
    encoder = ConvEncoderConfig(dims=(8,) * 7, norm="layer", bias=True)
    tokenizer = CharTokenizer.train(["abc déf"])
    head = CTCHead(16, tokenizer.vocab_size, upsample)
    head.linear.weight.data *= 7
    model = CTCModel(SpeechModel(ModelConfig(encoder=encoder, context=context)), head)
    return Checkpoint(model.eval(), tokenizer)


@pytest.mark.parametrize("upsample", [1, 2, 3])
def test_rows_of_a_network_are_those_of_the_whole(record, upsample):
    checkpoint = local_model(upsample=upsample)
    wave = audio.read(record("a.wav", 7.77))
    found: list[np.ndarray] = []

    def keep(rows, lengths):
        found.extend(row[:n].numpy() for row, n in zip(rows, lengths.tolist(), strict=True))
        return greedy_decode(rows, lengths)

    transcriber = Transcriber(checkpoint, decode=keep, precision="fp32", max_chunk_s=2.0)
    list(transcriber([as_clip(wave)]))
    with torch.no_grad():
        rows, num = log_probs(checkpoint.model, [wave])
    assert len(found) == 1
    assert found[0].shape == (int(num), rows.shape[2])
    assert np.abs(found[0] - rows[0].numpy()).max() < 1e-3


def test_frames_of_a_network_are_those_of_the_whole(record):
    checkpoint = local_model()
    clip = as_clip(record("a.wav", 7.77))
    whole, parts = (
        list(next(extract_all(checkpoint, [clip], Layers(2), max_chunk_s=most)))
        for most in (30.0, 2.0)
    )
    assert len(whole) == 1
    assert len(parts) > 5
    frames = np.concatenate([part.frames for part in parts])
    assert frames.shape == whole[0].frames.shape
    assert np.abs(frames - whole[0].frames).max() < 1e-3
    times_s = np.concatenate([part.times_s for part in parts])
    assert np.allclose(times_s, whole[0].times_s)


@pytest.mark.parametrize("name", ["ctc", "conv"])
def test_a_model_that_normalises_over_its_input_has_as_many_rows(tiny_models, record, name):
    checkpoint = load_model(tiny_models[name])
    wave = audio.read(record("a.wav", 9.31))
    found = []

    def keep(rows, lengths):
        found.extend(lengths.tolist())
        return greedy_decode(rows, lengths)

    transcriber = Transcriber(checkpoint, decode=keep, precision="fp32", max_chunk_s=2.0)
    (result,) = transcriber([as_clip(wave)])
    assert found == [int(checkpoint.model.output_lengths(torch.tensor([len(wave)])))]
    times = [t for word in result.words for t in (word.start_s, word.end_s)]
    assert times == sorted(times)


# ---- cuts ----------------------------------------------------------------------------------------


def noise(seconds: float) -> np.ndarray:
    return rng(0, "noise").uniform(-0.3, 0.3, round(seconds * 16000)).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, 1e-3, 0.015])
def test_recordings_with_pauses_are_cut_as_without_windows(level):
    wave = noise(20.0)
    for place in np.arange(0.7, 20, 0.7):
        wave[int(16000 * place) : int(16000 * (place + 0.3))] *= level
    plain, made = (
        list(chunks(as_clip(wave), 16000, grid=320, max_chunk_s=3.0, context=context))
        for context in (0, 12800)
    )
    assert [(c.start, c.end, c.ahead, c.before) for c in made] == [
        (c.start, c.end, c.ahead, c.before) for c in plain
    ]
    assert all(map(np.array_equal, (c.wave for c in made), (c.wave for c in plain)))
    assert all(c.is_alone for c in made)


@pytest.mark.parametrize("seconds", [2.0, 2.02, 2.4, 2.6, 3.9, 7.77, 23.0])
@pytest.mark.parametrize("context", [320, 1600, 8000, 99_999])
def test_windows_share_what_is_asked_for(seconds, context):
    wave = noise(seconds)
    made = list(chunks(as_clip(wave), 16000, grid=320, max_chunk_s=2.0, context=context))
    context = min(context // 320 * 320, 8000)
    assert np.array_equal(np.concatenate([c.own for c in made]), wave)
    assert [c.before for c in made] == [0] + [context] * (len(made) - 1)
    assert [c.ahead for c in made] == [context] * (len(made) - 1) + [0]
    assert [c.goes_on for c in made] == [True] * (len(made) - 1) + [False]
    assert all(c.start % 320 == 0 and len(c.wave) <= 32000 for c in made)
    assert all(a.end == b.start for a, b in pairwise(made))
    for chunk in made:
        assert np.array_equal(chunk.wave, wave[chunk.start - chunk.before :][: len(chunk.wave)])


def test_pauses_and_windows_alternate(tiny_models):
    """Some stretches are short, others are longer than a window."""
    texts = [words_of(n, n) for n in (3, 40, 2, 2, 60, 1)]
    wave = np.concatenate([speak(text, 0.6) for text in texts])
    made = list(chunks(as_clip(wave), 16000, grid=FRAME, max_chunk_s=3.0, context=8000))
    assert {(c.before > 0, c.goes_on) for c in made} == {
        (False, False), (False, True), (True, True), (True, False)
    }  # fmt: skip
    assert np.array_equal(np.concatenate([c.own for c in made]), wave)
    text = told(speller(tiny_models["ctc"]), wave, 3.0).text
    assert text.replace(" ", "") == "".join(texts).replace(" ", "")


@pytest.mark.parametrize(
    ("level_db", "seconds", "expected"),
    [
        (-200, 0.3, True),
        (-50, 0.3, True),
        (-36, 0.3, True),
        (-30, 0.3, False),
        (-20, 0.3, False),
        (0, 0.3, False),
        (-200, 0.12, False),  # a plosive is closed as long
        (-200, 0.0, False),
    ],
)
def test_what_is_a_pause(level_db, seconds, expected):
    wave = noise(8.0)
    wave[64000 : 64000 + int(16000 * seconds)] *= 10 ** (level_db / 20)
    place = audio.quiet_place(wave, 32000, 96000, 320, 3200)
    assert audio.is_pause(wave, place, 32000, 96000, 3200) == expected


@pytest.mark.parametrize("loud_s", [0.5, 2.0, 8.0])
def test_a_pause_is_judged_by_the_loud_part(loud_s):
    """A little speech in much silence; and nothing at all."""
    wave = noise(8.0) * 0.003
    wave[: int(16000 * loud_s)] *= 300
    assert audio.is_pause(wave, 126_000, 0, 128_000, 3200) == (loud_s < 8)
    assert audio.is_pause(np.zeros(32000, np.float32), 16000, 0, 32000, 3200)


def test_how_much_windows_share():
    speech = local_model().speech
    assert context_samples(speech) == CONTEXT_S * 16000
    assert context_samples(speech) % speech.config.hop_samples == 0
    far = SpeechModel(
        ModelConfig(encoder=ConvEncoderConfig((4,), (100_001,), (320,)), context=local_context())
    )
    assert context_samples(far) >= 100_001 - 320


def local_context() -> ContextConfig:
    return local_model().speech.config.context


@pytest.mark.parametrize(
    ("before", "goes_on", "ahead", "upsample", "expected"),
    [
        (0, False, 0, 1, slice(0, 30)),
        (0, True, 640, 1, slice(0, 28)),
        (640, True, 640, 1, slice(2, 28)),
        (640, False, 0, 1, slice(2, 30)),
        (640, True, 640, 3, slice(6, 84)),
        (640, False, 80, 1, slice(2, 30)),
    ],
)
def test_which_rows_are_a_chunk_s_own(before, goes_on, ahead, upsample, expected):
    chunk = Chunk(np.zeros(9600, np.float32), 3200, ahead, before, goes_on)
    assert own_rows(chunk, 30 * upsample, 320, upsample) == expected


def test_a_model_that_reaches_further_than_windows_share():
    chunk = Chunk(np.zeros(9600, np.float32), 0, 640, 0, True)
    with pytest.raises(ValueError, match="max_chunk_s is too short for this model"):
        own_rows(chunk, 20, 320)


def test_what_could_not_be_read_on_is_not_in_the_next_recording(checkpoint):
    model = checkpoint.model
    stitcher = Stitcher(greedy_decode, LETTERS, model)
    rows = torch.full((50, LETTERS.vocab_size), -9.0)
    rows[:, BLANK_ID] = 0
    assert not list(stitcher.add(Chunk(np.ones(16000, np.float32), 0, 0, 0, True), rows))
    stitcher.forget()
    first = Chunk(np.ones(8000, np.float32), 0, 0, 0, True)
    last = Chunk(np.ones(8000, np.float32), 8000, 0, 320, False)
    assert not list(stitcher.add(first, rows[:25]))
    (made,) = stitcher.add(last, rows[:24])
    assert (made.start_s, made.end_s, made.result.num_frames) == (0.0, 15680 / 16000 + 0.0, 49)


def rows_of(frames: str) -> torch.Tensor:
    """``-`` is the blank, ``_`` a space: (T, V) of which each frame emits one."""
    ids = [BLANK_ID if f == "-" else LETTERS.encode("a b")[1] if f == "_" else 0 for f in frames]
    ids = [i if f in "-_" else LETTERS.encode(f)[0] for i, f in zip(ids, frames, strict=True)]
    rows = torch.full((len(ids), LETTERS.vocab_size), -9.0)
    rows[torch.arange(len(ids)), torch.tensor(ids)] = -0.01
    return rows


@pytest.mark.parametrize(
    ("frames", "first", "last", "expected"),
    [
        ("aa-b_cc--d--_-e-f", 0, 17, 13),  # the longest gap, behind its space
        ("aa-b_cc--d--_-e-f", 0, 12, 5),
        ("aa-b__c--d--_-e-f", 3, 12, 6),  # behind the whole run of the space
        ("aa-b_cc-----d", 6, 12, 7),  # within a word: a blank
        ("-" * 9, 3, 6, 3),
        ("a" * 9, 3, 6, 3),
    ],
)
def test_where_rows_are_cut(frames, first, last, expected):
    assert word_boundary(rows_of(frames), LETTERS, first, last) == expected
