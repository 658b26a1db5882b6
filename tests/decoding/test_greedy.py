"""Greedy decoding: collapse, confidence, and independence of padding."""

import itertools

import pytest

torch = pytest.importorskip("torch")

from speechssl.decoding.align import align  # noqa: E402
from speechssl.decoding.greedy import Hypothesis, blank_rate, greedy_decode  # noqa: E402
from speechssl.text import CharTokenizer  # noqa: E402


def random_log_probs(batch: int, num_frames: int, vocab_size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, num_frames, vocab_size, generator=generator) * 3).log_softmax(-1)


def peaky(symbols: list[int], vocab_size: int = 6, peak: float = 0.9) -> torch.Tensor:
    """(1, T, V): `symbols` names the best symbol of each frame."""
    probs = torch.full((1, len(symbols), vocab_size), (1 - peak) / (vocab_size - 1))
    probs[0, range(len(symbols)), symbols] = peak
    return probs.log()


def decode_one(log_probs: torch.Tensor) -> Hypothesis:
    return greedy_decode(log_probs, torch.tensor([log_probs.shape[1]]))[0]


def test_runs_collapse_and_blanks_vanish() -> None:
    hypothesis = decode_one(peaky([0, 2, 2, 0, 2, 3, 3, 0, 0, 4]))
    assert hypothesis.ids == [2, 2, 3, 4]
    spans = [(t.start_frame, t.end_frame) for t in hypothesis.tokens]
    assert spans == [(1, 3), (4, 5), (5, 7), (9, 10)]
    assert [t.confidence for t in hypothesis.tokens] == pytest.approx([0.9] * 4)
    assert (hypothesis.num_frames, hypothesis.num_blank_frames) == (10, 4)


def test_it_is_the_plain_definition() -> None:
    log_probs, lengths = random_log_probs(8, 30, 4), torch.arange(8) * 4
    for b, hypothesis in enumerate(greedy_decode(log_probs, lengths)):
        best = log_probs[b, : int(lengths[b])].argmax(-1).tolist()
        assert hypothesis.ids == [k for k, _ in itertools.groupby(best) if k != 0]
        assert hypothesis.num_blank_frames == best.count(0)


@pytest.mark.parametrize("filling", [0.0, 100.0, float("nan"), float("inf"), -float("inf")])
def test_frames_beyond_the_length_are_never_looked_at(filling: float) -> None:
    lengths = torch.tensor([5, 9, 0])
    log_probs = random_log_probs(3, 9, 5)
    padded = torch.full((3, 14, 5), filling)
    for b, n in enumerate(lengths.tolist()):
        padded[b, :n] = log_probs[b, :n]
    assert greedy_decode(padded, lengths) == greedy_decode(log_probs, lengths)


def test_a_batch_is_its_utterances_one_by_one() -> None:
    log_probs, lengths = random_log_probs(5, 12, 6), torch.tensor([12, 3, 7, 1, 0])
    together = greedy_decode(log_probs, lengths)
    apart = [
        greedy_decode(log_probs[b : b + 1, :n], torch.tensor([n]))[0]
        for b, n in enumerate(lengths.tolist())
    ]
    assert together == apart


def test_confidence_is_the_geometric_mean_over_frames_then_tokens() -> None:
    probs = torch.tensor([[[0.1, 0.0, 0.9], [0.6, 0.0, 0.4], [0.1, 0.5, 0.4], [0.2, 0.8, 0.0]]])
    hypothesis = decode_one(probs.log())
    assert [t.confidence for t in hypothesis.tokens] == pytest.approx([0.9, (0.5 * 0.8) ** 0.5])
    assert hypothesis.confidence == pytest.approx((0.9 * (0.5 * 0.8) ** 0.5) ** 0.5)


def test_silence_is_as_sure_as_its_blanks_and_nothing_is_never_sure() -> None:
    silent = decode_one(peaky([0, 0, 0], peak=0.7))
    assert (silent.ids, silent.confidence) == ([], pytest.approx(0.7))
    for log_probs in (torch.zeros(1, 0, 5), torch.zeros(1, 3, 5)):
        nothing = greedy_decode(log_probs, torch.tensor([0]))[0]
        assert nothing == Hypothesis((), 0, 0, 0.0)
    assert greedy_decode(torch.zeros(0, 3, 5), torch.zeros(0, dtype=torch.long)) == []


def test_blank_rate_counts_valid_frames_of_all() -> None:
    frames = torch.cat([peaky([0, 0, 2, 0]), peaky([3, 0, 0, 0])])
    assert blank_rate(greedy_decode(frames, torch.tensor([4, 1]))) == pytest.approx(3 / 5)
    assert blank_rate([]) == 1.0


def test_text_and_words_with_times() -> None:
    tokenizer = CharTokenizer.train(["wó ya"])
    a, o, space, w, y = (tokenizer.symbols.index(c) for c in "aó wy")
    frames = [0, w, o, o, 0, space, 0, y, 0, a, a, 0]
    hypothesis = decode_one(peaky(frames, tokenizer.vocab_size))
    assert hypothesis.text(tokenizer) == "wó ya"
    words = hypothesis.words(tokenizer, hop_s=0.02, offset_s=1.0, duration_s=1.21)
    assert [(x.text, x.start_s, x.end_s) for x in words] == [
        ("wó", pytest.approx(1.02), pytest.approx(1.08)),
        ("ya", pytest.approx(1.14), pytest.approx(1.21)),
    ]
    assert [x.confidence for x in words] == pytest.approx([0.9, 0.9])


def test_aligning_the_greedy_tokens_gives_the_greedy_frames() -> None:
    for seed in range(10):
        log_probs = random_log_probs(1, 40, 7, seed)
        log_probs[:, :, 1] = -50.0  # no unknown symbol, which would be a wildcard
        hypothesis = decode_one(log_probs)
        aligned = align(log_probs[0].numpy(), hypothesis.ids)
        places = [(t.id, t.start_frame, t.end_frame) for t in hypothesis.tokens]
        assert [(t.id, t.start_frame, t.end_frame) for t in aligned.tokens] == places
        confidences = [t.confidence for t in hypothesis.tokens]
        assert [t.confidence for t in aligned.tokens] == pytest.approx(confidences)


def test_half_precision_and_gradients_are_accepted() -> None:
    log_probs = peaky([2, 0, 3]).requires_grad_()
    assert decode_one(log_probs).ids == decode_one(log_probs.bfloat16()).ids == [2, 3]


def test_misuse_is_a_sentence() -> None:
    log_probs = random_log_probs(2, 4, 5)
    with pytest.raises(ValueError, match=r"between 0 and 4 frames, and are \[4, 5\]"):
        greedy_decode(log_probs, torch.tensor([4, 5]))
    with pytest.raises(ValueError, match=r"got \(4, 5\) and \(4,\)"):
        greedy_decode(log_probs[0], torch.tensor([1, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"got \(2, 4, 5\) and \(3,\)"):
        greedy_decode(log_probs, torch.tensor([1, 1, 1]))
    log_probs[1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="holds NaN"):
        greedy_decode(log_probs, torch.tensor([4, 4]))
    assert len(greedy_decode(log_probs, torch.tensor([4, 2]))) == 2
