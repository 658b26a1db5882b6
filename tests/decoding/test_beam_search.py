"""The compiled search against the plain one, with all that may score a text."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.hotwords import spell
from speechssl.decoding.lm import END, NgramLM, tokens, train_lm, write_arpa
from speechssl.text import (
    BLANK,
    UNKNOWN,
    CharTokenizer,
    SentencePieceTokenizer,
    VocabularyTokenizer,
)
from tests.decoding.plain_beam import PlainBeam

TEXTS = ["ab a", "ba ab", "a a b", "ab", "b ab a", "ab ab", "ab ba ab a", "bab ab"]
TOKENIZERS = {
    "letters": CharTokenizer.train(["ab a"]),
    "pieces": SentencePieceTokenizer.train(["ab abab ba"] * 4, 9, allow_smaller=True),
    "no spaces": CharTokenizer([BLANK, UNKNOWN, "a", "b"]),
    "several letters": VocabularyTokenizer(
        [BLANK, UNKNOWN, "<s>", " ", "A", "B", "AB", "A B"], ["<s>"], uppercase=True
    ),
}
LMS = {
    (unit, order): train_lm(TEXTS, order=order, unit=unit)
    for unit in ("char", "word")
    for order in (1, 2, 4)
}
BROKEN = NgramLM(
    3,
    "char",
    {
        ("a",): (-1.0, 0.7),  # a weight above 1, as back-off models have
        ("b",): (-2.0, 0.0),
        ("a", "b", "a"): (-0.1, 0.0),  # without its beginning
        ("<s>",): (-9.0, -0.5),
        ("<s>", "b"): (-0.3, -0.2),
        ("z", "a"): (-0.2, 0.0),  # without its letter
    },
)
"""No unknown word, no end, no space."""
PHRASES = {"ab": 2.0, "ab a": 3.5, "a b": 1.0, "bab": 5.0}


def rows(seed: int, tokenizer, frames: int = 25, sharp: float = 2.0) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    logits = sharp * torch.randn(frames, tokenizer.vocab_size, generator=generator)
    logits[:, 0] += 1.0
    return logits.log_softmax(1).numpy()


def check(tokenizer, config: BeamConfig, seeds=range(3), hotwords=None, **lms) -> None:
    """Texts, order, scores: all the same."""
    decoder = BeamDecoder(tokenizer, config, hotwords=hotwords, **lms)
    phrases = spell(tokenizer, hotwords)[0] if hotwords else None
    plain = PlainBeam(tokenizer, config, phrases=phrases, **lms)
    for seed in seeds:
        log_probs = rows(seed, tokenizer)
        found, wanted = decoder.n_best(log_probs, config.width), plain.n_best(log_probs)
        assert [c.ids for c in found] == [c.ids for c in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-9)
            assert one.sound == pytest.approx(other.sound, abs=1e-9)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("width", [1, 4, 30, 300])
def test_without_a_language_model(name, width):
    check(TOKENIZERS[name], BeamConfig(width=width))


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("bonus", [-1.5, 0.0, 2.5])
def test_with_one_of_characters(name, order, bonus):
    config = BeamConfig(width=12, lm_weight=0.8, bonus=bonus)
    check(TOKENIZERS[name], config, lm=LMS["char", order])


SPACED = ["letters", "pieces", "several letters"]


@pytest.mark.parametrize("name", SPACED)
@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("known", [False, True])
def test_with_one_of_words(name, order, known):
    config = BeamConfig(width=12, lm_weight=1.2, bonus=0.7, known_words=known)
    check(TOKENIZERS[name], config, lm=LMS["word", order])


@pytest.mark.parametrize("name", SPACED)
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("hotwords", [None, PHRASES])
def test_with_both_and_hotwords(name, known, hotwords):
    config = BeamConfig(15, 0.6, 0.9, word_weight=1.1, word_bonus=-0.4, known_words=known)
    lms = {"lm": LMS["char", 4], "word_lm": LMS["word", 2]}
    check(TOKENIZERS[name], config, hotwords=hotwords, **lms)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("phrases", [PHRASES, {"a": 0.1}, {"aba": 9.0, "bab": 4.0, "abab": 1.0}])
@pytest.mark.parametrize("lm", [None, LMS["char", 2]])
def test_with_hotwords(name, phrases, lm):
    check(TOKENIZERS[name], BeamConfig(width=9), hotwords=phrases, lm=lm)


@pytest.mark.parametrize("width", [3, 40])
def test_with_a_model_that_lacks_much(width):
    check(TOKENIZERS["letters"], BeamConfig(width=width), lm=BROKEN)


def test_equal_scores_keep_their_order():
    """Of texts that are equally good, those that came up first are followed and come first."""
    tokenizer = TOKENIZERS["letters"]
    log_probs = np.full((6, 5), np.log(0.2), np.float32)
    for width in (1, 2, 5, 11):
        config = BeamConfig(width=width)
        found = BeamDecoder(tokenizer, config).n_best(log_probs, width)
        assert found == PlainBeam(tokenizer, config).n_best(log_probs)


@pytest.mark.parametrize("floor", [-np.inf, -30.0])
def test_symbols_that_cannot_come(floor):
    tokenizer = TOKENIZERS["letters"]
    log_probs = rows(3, tokenizer)
    log_probs[::2, 2:4] = floor
    log_probs[5, 0] = floor
    config = BeamConfig(width=8)
    found = BeamDecoder(tokenizer, config).n_best(log_probs, 8)
    wanted = PlainBeam(tokenizer, config).n_best(log_probs)
    assert [c.ids for c in found] == [c.ids for c in wanted]


def test_known_words_alone():
    """Whatever the sound, each word of the best text is in the language model, or a hotword."""
    tokenizer = TOKENIZERS["letters"]
    lm = train_lm(["ab a"], order=1, unit="word")
    config = BeamConfig(width=50, known_words=True)
    words = set()
    for seed in range(8):
        decoder = BeamDecoder(tokenizer, config, lm, hotwords={"bb ba": 3.0})
        words |= set(tokenizer.decode(decoder.search(rows(seed, tokenizer))).split())
    assert {"ab", "a"} <= words <= {"ab", "a", "bb", "ba"}


def test_n_best_are_sorted_and_distinct():
    decoder = BeamDecoder(TOKENIZERS["letters"], BeamConfig(width=20, num_best=5), LMS["char", 2])
    (found,) = decoder(torch.from_numpy(rows(1, TOKENIZERS["letters"]))[None], torch.tensor([25]))
    assert found.text(TOKENIZERS["letters"]) == found.alternatives[0].text
    assert len({each.text for each in found.alternatives}) == len(found.alternatives) > 1
    assert all(one.score >= other.score for one, other in pairwise(found.alternatives))


def test_a_word_that_is_cut_off_is_shown_and_no_alternative():
    """Nothing but the beginning of a known word is in the sound."""
    tokenizer = TOKENIZERS["letters"]
    log_probs = np.full((3, 5), -40.0, np.float32)
    log_probs[[0, 1, 2], [0, 3, 0]] = -0.001
    config = BeamConfig(width=1, num_best=1, known_words=True)
    decoder = BeamDecoder(tokenizer, config, train_lm(["ab"], order=1, unit="word"))
    found = decoder.decode(log_probs)
    assert found.text(tokenizer) == "a"
    wide = decoder.rescaled(BeamConfig(width=8, num_best=8, known_words=True)).decode(log_probs)
    assert all(np.isfinite(each.score) for each in wide.alternatives)


def test_no_frames_and_one():
    decoder = BeamDecoder(TOKENIZERS["letters"], BeamConfig(), LMS["char", 4], hotwords=["ab"])
    for frames in (0, 1):
        (found,) = decoder(
            torch.from_numpy(rows(0, TOKENIZERS["letters"], frames))[None], torch.tensor([frames])
        )
        assert found.num_frames == frames


def test_threads_and_copies_find_the_same():
    tokenizer = TOKENIZERS["letters"]
    decoder = BeamDecoder(tokenizer, BeamConfig(), LMS["char", 4], hotwords=PHRASES)
    given = [rows(seed, tokenizer, frames=60) for seed in range(24)]
    alone = [decoder.n_best(each, 5) for each in given]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda each: decoder.n_best(each, 5), given)) == alone
    again = pickle.loads(pickle.dumps(decoder))
    assert [again.n_best(each, 5) for each in given] == alone


def test_other_settings_share_the_language_models():
    tokenizer = TOKENIZERS["letters"]
    lms = {"lm": LMS["char", 4], "word_lm": LMS["word", 2]}
    config = BeamConfig(9, 1.5, -0.5, word_weight=0.1, word_bonus=2.0)
    given = rows(2, tokenizer)
    new = BeamDecoder(tokenizer, config, **lms, hotwords=PHRASES)
    made = BeamDecoder(tokenizer, **lms, hotwords=["b"]).rescaled(config).with_hotwords(PHRASES)
    assert made.n_best(given, 9) == new.n_best(given, 9)
    assert made.with_hotwords(None).n_best(given, 9) == BeamDecoder(
        tokenizer, config, **lms
    ).n_best(given, 9)


def test_models_that_do_not_go_together():
    letters = TOKENIZERS["letters"]
    with pytest.raises(ValueError, match="Both language models count words"):
        BeamDecoder(letters, lm=LMS["word", 2], word_lm=LMS["word", 1])
    with pytest.raises(ValueError, match="second language model is of words"):
        BeamDecoder(letters, lm=LMS["char", 2], word_lm=LMS["char", 2])
    with pytest.raises(ValueError, match="give one that counts words"):
        BeamDecoder(letters, BeamConfig(known_words=True), LMS["char", 2])
    with pytest.raises(ValueError, match="emits no spaces"):
        BeamDecoder(TOKENIZERS["no spaces"], lm=LMS["char", 2], word_lm=LMS["word", 2])
    with pytest.raises(ValueError, match=r"must be \(frames, 5 symbols\), and has shape \(3, 4\)"):
        BeamDecoder(letters).search(np.zeros((3, 4), np.float32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_best": 0}, "0 best texts need"),
        ({"num_best": 17}, "17 best texts need a beam of as many prefixes or more: it has 16"),
        ({"word_weight": -0.1}, "word_weight must not be negative"),
        ({"word_bonus": float("inf")}, "word_bonus must be a number"),
        ({"lm_weight": float("nan")}, "lm_weight must not be negative"),
    ],
)
def test_impossible_settings_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        BeamConfig(**fields)


# --- against flashlight-text


def objective(log_probs: np.ndarray, ids, lm: NgramLM, config: BeamConfig) -> float:
    """All paths of a text, and what the language model says of it."""
    sound = -float(
        F.ctc_loss(
            torch.from_numpy(log_probs)[:, None],
            torch.tensor([list(ids)], dtype=torch.long),
            torch.tensor([len(log_probs)]),
            torch.tensor([len(ids)]),
            reduction="sum",
        )
    )
    before, total = lm.start, sound
    text = TOKENIZERS["letters"].decode(ids)
    for token in tokens(text, lm.unit) if text else []:
        total += config.lm_weight * lm.log_prob(before, token) + config.bonus
        before = lm.after(before, token)
    return total + config.lm_weight * lm.log_prob(before, END)


@pytest.mark.extras
@pytest.mark.parametrize("unit", ["char", "word"])
def test_texts_score_as_high_as_those_of_flashlight(unit, tmp_path):
    """On the same ARPA file and, for words, with the same vocabulary; equal beams."""
    pytest.importorskip("flashlight.lib.text")
    from torchaudio.models.decoder import ctc_decoder

    tokenizer, lm = TOKENIZERS["letters"], LMS[unit, 4]
    config = BeamConfig(
        16, lm_weight=0.8, bonus=0.5 if unit == "word" else 0.0, known_words=unit == "word"
    )
    symbols = ["<blank>", "<unk>", "▁", "a", "b"]
    write_arpa(lm, tmp_path / "lm.arpa")
    (tmp_path / "symbols").write_text("\n".join(symbols) + "\n", encoding="utf-8")
    words = sorted({word for text in TEXTS for word in text.split()})
    lexicon = "".join(f"{word}\t{' '.join(word)} ▁\n" for word in words)
    (tmp_path / "lexicon").write_text(lexicon, encoding="utf-8")
    theirs = ctc_decoder(
        lexicon=str(tmp_path / "lexicon") if unit == "word" else None,
        tokens=symbols,
        lm=str(tmp_path / "lm.arpa"),
        lm_dict=None if unit == "word" else str(tmp_path / "symbols"),
        beam_size=16,
        lm_weight=config.lm_weight * np.log(10),
        word_score=config.bonus,
        log_add=True,
        blank_token="<blank>",
        sil_token="▁",
        unk_word="<unk>",
    )
    ours = BeamDecoder(tokenizer, config, lm)
    gains = []
    for seed in range(20):
        log_probs = rows(seed, tokenizer, frames=40)
        log_probs[:, 1] = -30.0
        ids = theirs(torch.from_numpy(log_probs)[None])[0][0].tokens.tolist()
        ids = ids[ids[0] == 2 :]  # it puts a space at both ends
        ids = ids[:-1] if ids and ids[-1] == 2 else ids
        mine = objective(log_probs, ours.search(log_probs), lm, config)
        gains.append(mine - objective(log_probs, ids, lm, config))
    assert np.mean(gains) > -0.01
    assert np.mean(np.array(gains) > -0.05) > 0.8


# --- how sure it is of each word


def test_posteriors_tell_sure_words_from_guesses():
    """``ab`` is clear; of the second word's letters both are as probable."""
    tokenizer = TOKENIZERS["letters"]
    log_probs = np.full((12, 5), -9.0, np.float32)
    for frame, symbol in enumerate([3, 0, 4, 0, 2, 0, -1, 0, 2, 0, 3, 0]):
        if symbol >= 0:
            log_probs[frame, symbol] = -0.01
        else:
            log_probs[frame, 3], log_probs[frame, 4] = np.log(0.6), np.log(0.4)
    (found,) = BeamDecoder(tokenizer)(torch.from_numpy(log_probs)[None], torch.tensor([12]))
    assert found.text(tokenizer) == "ab a a"
    assert found.posteriors == pytest.approx([1.0, 0.6, 1.0], abs=0.01)


def test_posteriors_by_the_language_model_and_not_by_hotwords():
    tokenizer = TOKENIZERS["letters"]
    log_probs = torch.full((1, 3, 5), -9.0)
    log_probs[0, 0, 0] = log_probs[0, 2, 0] = -0.01
    log_probs[0, 1, 3], log_probs[0, 1, 4] = np.log(0.5), np.log(0.5)
    lm = train_lm(["a", "a", "a", "a", "b"], order=1, unit="word")

    def posterior(**options) -> float:
        decoder = BeamDecoder(tokenizer, BeamConfig(lm_weight=1.0), **options)
        return decoder(log_probs, torch.tensor([3]))[0].posteriors[0]

    assert posterior() == pytest.approx(0.5, abs=0.01)
    assert posterior(lm=lm) > 0.6
    assert posterior(hotwords=["a"]) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_there_is_a_posterior_for_each_word(name):
    tokenizer = TOKENIZERS[name]
    decoder = BeamDecoder(tokenizer, BeamConfig(width=6), LMS["char", 2])
    for seed in range(5):
        (found,) = decoder(torch.from_numpy(rows(seed, tokenizer))[None], torch.tensor([25]))
        assert len(found.posteriors) == len(tokenizer.words(found.ids))
        assert all(0 < p <= 1 for p in found.posteriors)
