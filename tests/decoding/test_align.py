"""Forced alignment against every path there is, and against torchaudio's."""

import itertools
import pickle
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest

from speechssl.decoding import align as align_module
from speechssl.decoding.align import (
    TokenSpan,
    Word,
    WordParts,
    align,
    mean_confidence,
    word_times,
)
from speechssl.text import (
    UNKNOWN_ID,
    CharTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    ctc_min_frames,
)


def random_log_probs(num_frames: int, vocab_size: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(num_frames, vocab_size)) * 2
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def peaky_log_probs(symbols: list[int], vocab_size: int, peak: float = 0.9) -> np.ndarray:
    """(T, V): `symbols` names the best symbol of each frame."""
    probs = np.full((len(symbols), vocab_size), (1 - peak) / (vocab_size - 1))
    probs[np.arange(len(symbols)), symbols] = peak
    return np.log(probs).astype(np.float32)


def collapse(frames: tuple[int, ...]) -> list[int]:
    return [k for k, _ in itertools.groupby(frames) if k != 0]


def best_of_all_paths(log_probs: np.ndarray, ids: list[int]) -> float:
    """The oracle: try every labelling of the frames."""
    num_frames, vocab_size = log_probs.shape
    return max(
        float(log_probs[np.arange(num_frames), list(frames)].astype(np.float64).sum())
        for frames in itertools.product(range(vocab_size), repeat=num_frames)
        if collapse(frames) == ids
    )


def frames_of(tokens: tuple[TokenSpan, ...], num_frames: int) -> list[int]:
    frames = [0] * num_frames
    for token in tokens:
        frames[token.start_frame : token.end_frame] = [token.id] * (
            token.end_frame - token.start_frame
        )
    return frames


# --- against oracles


@pytest.mark.parametrize("ids", [[], [2], [2, 3], [2, 2], [3, 2, 3], [2, 2, 3], [2, 2, 2]])
def test_no_path_is_better(ids: list[int]) -> None:
    for num_frames in range(max(ctc_min_frames(ids), 1), 6):
        for seed in range(4):
            log_probs = random_log_probs(num_frames, 4, seed)
            result = align(log_probs, ids)
            assert result.log_prob == pytest.approx(best_of_all_paths(log_probs, ids), abs=1e-5)
            frames = frames_of(result.tokens, num_frames)
            assert collapse(tuple(frames)) == ids
            scored = log_probs[np.arange(num_frames), frames].astype(np.float64).sum()
            assert scored == pytest.approx(result.log_prob, abs=1e-5)


def test_torchaudio_finds_no_better_path() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchaudio.functional")
    for seed in range(5):
        log_probs = random_log_probs(120, 30, seed)
        ids = np.random.default_rng(seed).integers(2, 30, 40).tolist()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces a move that does not concern us
            _, scores = functional.forced_align(
                torch.from_numpy(log_probs)[None], torch.tensor([ids], dtype=torch.int32)
            )
        assert align(log_probs, ids).log_prob == pytest.approx(float(scores.sum()), abs=1e-3)


def test_machine_code_and_python_agree() -> None:
    log_probs = random_log_probs(20, 6, 0)
    states, may_skip = align_module._states([2, 3, 3, 4], np.array([2, 3, 3, 4]))
    path, log_prob = align_module._viterbi(log_probs, states, may_skip)
    compiled = align_module._compiled_viterbi()(log_probs, states, may_skip)
    assert path.tolist() == compiled[0].tolist()
    assert log_prob == pytest.approx(compiled[1])


# --- spans


def test_spans_are_the_runs_of_a_clear_output() -> None:
    log_probs = peaky_log_probs([0, 0, 2, 2, 0, 2, 3, 3, 3, 0], vocab_size=5, peak=0.9)
    tokens = align(log_probs, [2, 2, 3]).tokens
    assert [(t.id, t.start_frame, t.end_frame) for t in tokens] == [(2, 2, 4), (2, 5, 6), (3, 6, 9)]
    assert [t.confidence for t in tokens] == pytest.approx([0.9] * 3)


def test_spans_are_ordered_filled_and_inside() -> None:
    for seed in range(20):
        ids = np.random.default_rng(seed).integers(1, 8, 12).tolist()
        num_frames = ctc_min_frames(ids) + seed
        tokens = align(random_log_probs(num_frames, 8, seed), ids).tokens
        assert [t.id for t in tokens] == ids
        bounds = [b for t in tokens for b in (t.start_frame, t.end_frame)]
        assert bounds == sorted(bounds)
        assert all(t.start_frame < t.end_frame for t in tokens)
        assert 0 <= bounds[0] < bounds[-1] <= num_frames
        assert all(0 < t.confidence <= 1 for t in tokens)
        repeats = itertools.pairwise(tokens)
        assert all(a.end_frame < b.start_frame for a, b in repeats if a.id == b.id)


def test_a_wrong_text_scores_below_the_right_one() -> None:
    log_probs = peaky_log_probs([0, 2, 0, 3, 0, 4, 0], vocab_size=6)
    right, wrong = align(log_probs, [2, 3, 4]), align(log_probs, [2, 5, 4])
    assert wrong.log_prob < right.log_prob
    assert wrong.tokens[1].confidence < 0.1 < 0.8 < right.tokens[1].confidence
    assert wrong.tokens[2].confidence == pytest.approx(0.9)


def test_no_tokens_is_all_blank() -> None:
    result = align(peaky_log_probs([0, 0], 3), [])
    assert result.tokens == ()
    assert result.log_prob == pytest.approx(2 * np.log(0.9), abs=1e-6)
    empty = align(np.zeros((0, 3), np.float32), [])
    assert (empty.tokens, empty.log_prob) == ((), 0.0)


def test_impossible_symbols_still_get_a_time() -> None:
    log_probs = peaky_log_probs([2, 0, 3, 0], vocab_size=5)
    log_probs[:, 4] = -np.inf
    tokens = align(log_probs, [2, 4, 3]).tokens
    assert [t.start_frame for t in tokens] == [0, 1, 2]
    assert tokens[1].confidence == 0


def test_layout_and_type_of_the_input_do_not_matter() -> None:
    log_probs = random_log_probs(12, 5, 0)
    expected = align(log_probs, [2, 3])
    assert align(np.asfortranarray(log_probs), [2, 3]) == expected
    assert align(log_probs.astype(np.float64), [2, 3]) == expected
    read_only = log_probs.copy()
    read_only.flags.writeable = False
    assert align(read_only, [2, 3]) == expected


# --- the wildcard


def test_an_unknown_symbol_takes_the_frames_between() -> None:
    log_probs = peaky_log_probs([0, 2, 2, 0, 5, 0, 3, 3], vocab_size=6)
    tokens = align(log_probs, [2, UNKNOWN_ID, 3]).tokens
    spans = [(t.start_frame, t.end_frame) for t in tokens]
    assert spans == [(1, 3), (4, 5), (6, 8)]
    assert tokens[1].id == UNKNOWN_ID
    assert tokens[1].confidence == pytest.approx(0.9, rel=2e-3)


def test_neighbours_of_an_unknown_symbol_keep_their_frames() -> None:
    log_probs = peaky_log_probs([2, 2, 2, 5, 5, 3, 3, 3], vocab_size=6)
    spans = [(t.start_frame, t.end_frame) for t in align(log_probs, [2, UNKNOWN_ID, 3]).tokens]
    assert spans == [(0, 3), (3, 5), (5, 8)]


def test_several_unknown_symbols_in_a_row_need_blanks_like_any_repeat() -> None:
    ids = [UNKNOWN_ID, UNKNOWN_ID]
    tokens = align(peaky_log_probs([4, 0, 5], 6), ids).tokens
    assert [(t.start_frame, t.end_frame) for t in tokens] == [(0, 1), (2, 3)]
    with pytest.raises(ValueError, match=r"2 tokens \+ 1 repeats need 3 frames"):
        align(peaky_log_probs([4, 5], 6), ids)


# --- errors


def test_too_few_frames_is_a_sentence_and_one_more_is_enough() -> None:
    ids = [2, 2, 3, 3]
    with pytest.raises(ValueError, match=r"4 tokens \+ 2 repeats need 6 frames, and there are 5"):
        align(random_log_probs(5, 4, 0), ids)
    assert len(align(random_log_probs(6, 4, 0), ids).tokens) == 4
    with pytest.raises(ValueError, match=r"1 tokens \+ 0 repeats need 1 frames, and there are 0"):
        align(np.zeros((0, 4), np.float32), [2])


@pytest.mark.parametrize("bad", [0, -1, 4])
def test_ids_that_are_no_symbols(bad: int) -> None:
    with pytest.raises(ValueError, match=rf"The id {bad} cannot be aligned"):
        align(random_log_probs(5, 4, 0), [2, bad])


def test_nan_and_wrong_shapes_are_sentences() -> None:
    log_probs = random_log_probs(5, 4, 0)
    with pytest.raises(ValueError, match=r"has shape \(1, 5, 4\)"):
        align(log_probs[None], [2])
    log_probs[1, 1] = np.nan
    with pytest.raises(ValueError, match="holds NaN"):
        align(log_probs, [2])


# --- words


def spans(ids: list[int]) -> list[TokenSpan]:
    """Token k on the frames [2k, 2k + 1)."""
    return [TokenSpan(i, 2 * k, 2 * k + 1, 0.5) for k, i in enumerate(ids)]


def test_char_words_lie_between_the_spaces() -> None:
    tokenizer = CharTokenizer.train(["ab c"])
    words = word_times(spans(tokenizer.encode("ab c")), tokenizer, hop_s=0.02, duration_s=1.0)
    assert [(w.text, w.start_s, w.end_s) for w in words] == [
        ("ab", 0.0, pytest.approx(0.06)),
        ("c", pytest.approx(0.12), pytest.approx(0.14)),
    ]
    assert [w.confidence for w in words] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("kind", ["char", "spm"])
def test_words_of_any_tokenizer_spell_the_text_with_times_in_order(kind: str) -> None:
    texts = ["wó twεrε ya poo", "mbóka ya o", "ya poo"] * 3
    tokenizer: Tokenizer = (
        CharTokenizer.train(texts)
        if kind == "char"
        else SentencePieceTokenizer.train(texts, 40, allow_smaller=True)
    )
    for text in texts:
        ids = tokenizer.encode(text)
        tokens = align(random_log_probs(60, tokenizer.vocab_size, 0), ids).tokens
        words = word_times(tokens, tokenizer, hop_s=0.02, offset_s=3.0, duration_s=3.7)
        assert [w.text for w in words] == text.split()
        times = [t for w in words for t in (w.start_s, w.end_s)]
        assert times == sorted(times)
        assert times[0] >= 3.0
        assert times[-1] <= 3.7


def test_times_stay_within_the_source() -> None:
    tokenizer = CharTokenizer.train(["ab c"])
    tokens = spans(tokenizer.encode("ab c"))
    late = word_times(tokens, tokenizer, hop_s=0.02, duration_s=0.05)
    assert [(w.start_s, w.end_s) for w in late] == [(0.0, 0.05), (0.05, 0.05)]
    early = word_times(tokens, tokenizer, hop_s=0.02, offset_s=-0.05, duration_s=1.0)
    assert early[0].start_s == 0.0
    assert early[0].end_s == pytest.approx(0.01)


def test_no_tokens_and_only_spaces_are_no_words() -> None:
    tokenizer = CharTokenizer.train(["a b"])
    assert word_times([], tokenizer, hop_s=0.02, duration_s=1.0) == []
    space = tokenizer.encode("a b")[1]
    assert word_times(spans([space]), tokenizer, hop_s=0.02, duration_s=1.0) == []


def test_confidence_is_a_geometric_mean_and_survives_zero() -> None:
    assert mean_confidence([TokenSpan(2, 0, 1, 0.25), TokenSpan(2, 1, 2, 1.0)]) == pytest.approx(
        0.5
    )
    assert 0 <= mean_confidence([TokenSpan(2, 0, 1, 0.0)]) < 1e-9


def test_the_parts_of_a_word_are_its_tokens_in_a_third_of_the_memory() -> None:
    parts = WordParts("abc", (0.0, 0.1, 0.5, 0.1, 0.25, 1.0, 0.25, 1.5, 0.125))
    same = [Word("a", 0.0, 0.1, 0.5), Word("b", 0.1, 0.25, 1.0), Word("c", 0.25, 1.5, 0.125)]
    assert list(parts) == same
    assert (len(parts), parts[1], parts[-1]) == (3, same[1], same[2])
    assert parts[1:] == tuple(same[1:])
    assert list(pickle.loads(pickle.dumps(parts))) == same
    assert not WordParts((), ())
    with pytest.raises(IndexError):
        parts[3]

    def taken(make) -> int:
        tracemalloc.start()
        kept = [make(0.01 * i) for i in range(1000)]
        memory = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del kept
        return memory

    numbers = np.linspace(0.0, 1.0, 18).tolist()
    compact = taken(lambda s: WordParts("kyéma ", (s + n for n in numbers)))
    plain = taken(
        lambda s: tuple(
            Word(c, s + a, s + b, s + p)
            for c, a, b, p in zip("kyéma ", numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        )
    )
    assert compact < plain / 2.5


def test_numba_is_imported_only_when_used() -> None:
    code = (
        "import sys, speechssl.decoding.align, speechssl.decoding.greedy; "
        "sys.exit(any(m in sys.modules for m in ('numba', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
