"""Beam search against all texts there are."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.greedy import greedy_decode
from speechssl.decoding.lm import END, NgramLM, tokens, train_lm
from speechssl.text import (
    BLANK,
    UNKNOWN,
    CharTokenizer,
    SentencePieceTokenizer,
    VocabularyTokenizer,
)

TOKENIZER = CharTokenizer.train(["ab a"])  # blank, unknown, space, a, b
WORDS = ["ab a", "ba ab", "a a b", "ab", "b ab a", "ab ab"]


def rows(seed: int, frames: int = 5, vocabulary: int = 5, sharp: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharp * torch.randn(1, frames, vocabulary, generator=generator)).log_softmax(2)


def ctc_log_prob(log_probs: torch.Tensor, ids: tuple[int, ...]) -> float:
    num = log_probs.shape[1]
    return -float(
        F.ctc_loss(
            log_probs.transpose(0, 1),
            torch.tensor([list(ids)], dtype=torch.long),
            torch.tensor([num]),
            torch.tensor([len(ids)]),
            reduction="sum",
        )
    )


def lm_score(lm: NgramLM, config: BeamConfig, ids: tuple[int, ...]) -> float:
    text = "".join(TOKENIZER.symbols[i] for i in ids)
    words = tokens(text, lm.unit) if text.strip() else []
    before, total = lm.start, 0.0
    for token in words:
        total += config.lm_weight * lm.log_prob(before, token) + config.bonus
        before = lm.after(before, token)
    return total + config.lm_weight * lm.log_prob(before, END)


def every_text(frames: int, symbols=(2, 3, 4)):
    for size in range(frames + 1):
        yield from itertools.product(symbols, repeat=size)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("unit", [None, "char", "word"])
def test_a_wide_beam_finds_the_best_of_all_texts(seed, unit):
    log_probs = rows(seed)
    log_probs[:, :, 1] = -30.0  # the unknown symbol never
    lm = None if unit is None else train_lm(WORDS, order=3, unit=unit)
    config = BeamConfig(width=2000, lm_weight=0.7, bonus=0.4)

    def total(ids):
        acoustic = ctc_log_prob(log_probs, ids)
        return acoustic if lm is None else acoustic + lm_score(lm, config, ids)

    # Spaces at the ends or two in a row are the same text to a language model: leave them out.
    texts = [t for t in every_text(5) if lm is None or "  " not in spell(t) == spell(t).strip()]
    best = max(texts, key=total)
    found = tuple(BeamDecoder(TOKENIZER, config, lm).search(log_probs[0].numpy()))
    assert total(found) >= total(best) - 1e-4
    if lm is None:
        assert found == best


def spell(ids) -> str:
    return "".join(TOKENIZER.symbols[i] for i in ids)


def test_paths_of_a_text_are_summed():
    """The best path is all blank; yet three paths say a."""
    probs = torch.tensor([[[0.5, 0, 0, 0.5, 0], [0.55, 0, 0, 0.45, 0]]])
    log_probs = probs.clamp_min(1e-9).log()
    (greedy,) = greedy_decode(log_probs, torch.tensor([2]))
    (found,) = BeamDecoder(TOKENIZER)(log_probs, torch.tensor([2]))
    assert greedy.ids in ([], [3])
    assert found.ids == [3]


def test_a_sharp_model_is_decoded_as_greedily():
    log_probs = torch.cat([rows(seed, frames=30, sharp=30.0) for seed in range(4)])
    lengths = torch.tensor([30, 12, 0, 25])
    greedy = greedy_decode(log_probs, lengths)
    found = BeamDecoder(TOKENIZER)(log_probs, lengths)
    assert [h.ids for h in found] == [h.ids for h in greedy]
    for one, other in zip(found, greedy, strict=True):
        assert [(t.start_frame, t.end_frame) for t in one.tokens] == [
            (t.start_frame, t.end_frame) for t in other.tokens
        ]
        assert one.num_frames == other.num_frames
        assert one.num_blank_frames == other.num_blank_frames
        assert one.confidence == pytest.approx(other.confidence, rel=1e-2)


@pytest.mark.parametrize("unit", ["char", "word"])
def test_a_language_model_decides_what_sounds_alike(unit):
    log_probs = torch.full((1, 7, 5), -20.0)
    for frame, (symbol, other) in enumerate(
        zip([3, 0, 4, 2, 4, 0, 3], [4, 0, 3, 2, 3, 0, 4], strict=True)
    ):
        log_probs[0, frame, symbol], log_probs[0, frame, other] = -0.69, -0.7
    lengths = torch.tensor([7])
    texts = [["ab ba"] * 4, ["ba ab"] * 4]
    for lines in texts:
        lm = train_lm(lines, order=3, unit=unit)
        (found,) = BeamDecoder(TOKENIZER, BeamConfig(), lm)(log_probs, lengths)
        assert found.text(TOKENIZER) == lines[0]


def test_batches_and_padding_change_nothing():
    log_probs = torch.cat([rows(seed, frames=20, sharp=2.0) for seed in range(3)])
    lengths = torch.tensor([20, 7, 13])
    lm = train_lm(WORDS, order=3, unit="char")
    decoder = BeamDecoder(TOKENIZER, BeamConfig(width=5), lm)
    together = decoder(log_probs, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = decoder(log_probs[row : row + 1, :length], lengths[row : row + 1])
        assert alone == [together[row]]


def test_pieces_are_scored_by_their_characters():
    pieces = SentencePieceTokenizer.train(["ab abab ba"] * 4, 9, allow_smaller=True)
    for unit in ("char", "word"):
        lm = train_lm(["ab ba", "abab"], order=3, unit=unit)
        decoder = BeamDecoder(pieces, BeamConfig(width=50), lm)
        ids = pieces.encode("ab ba")
        log_probs = np.full((2 * len(ids), pieces.vocab_size), -20.0, np.float32)
        for frame, i in enumerate(ids):
            log_probs[2 * frame, i] = log_probs[2 * frame + 1, 0] = -0.01
        assert pieces.decode(decoder.search(log_probs)) == "ab ba"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "beam must be between 1 and 10000, got 0"),
        ({"lm_weight": -1.0}, "lm_weight must not be negative"),
        ({"bonus": float("nan")}, "bonus must be a number"),
    ],
)
def test_impossible_settings_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        BeamConfig(**fields)


def test_a_broken_output_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        BeamDecoder(TOKENIZER)(torch.full((1, 3, 5), torch.nan), torch.tensor([3]))
    with pytest.raises(ValueError, match="lengths must lie between 0 and 3"):
        BeamDecoder(TOKENIZER)(torch.zeros(1, 3, 5), torch.tensor([4]))


@pytest.mark.parametrize("unit", ["char", "word"])
def test_a_language_model_of_other_letters_is_refused(unit):
    for texts, message in (
        (["AB A"], r"in another case: it knows 0 of the 2 letters .* \(a b are unknown"),
        (["да"], "of another alphabet"),
    ):
        with pytest.raises(ValueError, match=message):
            BeamDecoder(TOKENIZER, lm=train_lm(texts, order=2, unit=unit))
    for texts in (["Ab bar"], ["b"]):  # more of them, or fewer
        BeamDecoder(TOKENIZER, lm=train_lm(texts, order=2, unit=unit))
    shout = VocabularyTokenizer([BLANK, UNKNOWN, " ", "A", "B"], uppercase=True)
    BeamDecoder(
        shout, lm=train_lm(["ab"], order=2, unit=unit)
    )  # its transcripts are in small letters
