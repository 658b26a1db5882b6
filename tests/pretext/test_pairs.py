"""Speech and text in one space: the loss against a plain one, recall against sorting, padding."""

import itertools
import math

import numpy as np
import pytest
import torch

from speechssl.pretext.pairs import (
    SpeechPooling,
    TextEncoder,
    chance_of_recall,
    distinct,
    pad_ids,
    pooled,
    recall,
    retrieval,
    symmetric_info_nce,
)


def plain_info_nce(similarities: np.ndarray, texts: list[str]) -> float:
    """(N, N) of utterance i with the text of utterance j: the mean of both directions, the target
    spread evenly over the pairs with the same text."""
    num, total = len(texts), 0.0
    for values in (similarities, similarities.T):
        for i in range(num):
            same = [j for j in range(num) if texts[j] == texts[i]]
            log_sum = math.log(sum(math.exp(v) for v in values[i]))
            total += sum(log_sum - values[i, j] for j in same) / len(same)
    return total / 2


@pytest.mark.parametrize("texts", ["abcd", "abab", "aaab", "abcabca", "ab"])
def test_the_loss_is_the_plain_one(texts):
    words, places = distinct(list(texts))
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(len(texts), len(words), generator=generator, dtype=torch.double)
    found = symmetric_info_nce(logits, torch.tensor(places))
    assert float(found) == pytest.approx(plain_info_nce(logits[:, places].numpy(), list(texts)))


def test_without_repeats_it_is_clips_cross_entropy():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(3))
    own = torch.arange(5)
    ways = [torch.nn.functional.cross_entropy(m, own, reduction="sum") for m in (logits, logits.T)]
    torch.testing.assert_close(symmetric_info_nce(logits, own), sum(ways) / 2)


@pytest.mark.parametrize("texts", ["abcd", "aabc", "aaaab"])
def test_the_chance_line_is_the_log_of_the_pairs(texts):
    words, places = distinct(list(texts))
    found = symmetric_info_nce(torch.zeros(len(texts), len(words)), torch.tensor(places))
    assert float(found) / len(texts) == pytest.approx(math.log(len(texts)))


def test_pairs_of_one_text_are_no_negatives_of_each_other():
    """To make an utterance like its twin costs nothing: the loss can reach its least value, the
    entropy of the even target."""
    places = torch.tensor([0, 0, 1])
    logits = 200.0 * torch.eye(2, dtype=torch.double)[places]
    assert float(symmetric_info_nce(logits, places)) == pytest.approx(2 * math.log(2), abs=1e-6)


def test_distinct_texts_and_their_places():
    assert distinct(["b", "a", "b", "c"]) == (["b", "a", "c"], [0, 1, 0, 2])
    assert distinct([]) == ([], [])


def test_padded_ids():
    ids, lengths = pad_ids([[5, 6], [7]])
    assert ids.tolist() == [[5, 6], [7, 0]]
    assert lengths.tolist() == [2, 1]
    assert pad_ids([])[0].shape == (0, 0)


def test_the_mean_is_over_what_is_valid():
    values = torch.tensor([[[1.0], [3.0], [torch.nan]], [[5.0], [9.0], [1.0]]])
    assert pooled(values, torch.tensor([2, 3])).tolist() == [[2.0], [5.0]]


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_padding_changes_no_vector_of_a_text(kernel):
    torch.manual_seed(0)
    encoder = TextEncoder(12, 8, kernel, 6).eval()
    texts = [[3, 4, 5, 6, 7], [8], [9, 9]]
    ids, lengths = pad_ids(texts)
    together = encoder(ids, lengths)
    alone = torch.cat([encoder(*pad_ids([text])) for text in texts])
    torch.testing.assert_close(together, alone)
    ids[1, 1:] = 11  # behind its end
    torch.testing.assert_close(encoder(ids, lengths), alone)


def test_the_order_of_characters_matters():
    torch.manual_seed(0)
    encoder = TextEncoder(12, 8, 5, 6).eval()
    first, second = (encoder(*pad_ids([text])) for text in ([3, 4, 5], [5, 4, 3]))
    assert not torch.allclose(first, second)


def test_padding_changes_no_vector_of_speech():
    torch.manual_seed(0)
    pooling = SpeechPooling(4, 6)
    frames = torch.randn(2, 7, 4)
    lengths = torch.tensor([7, 3])
    alone = pooling(frames[1:, :3], lengths[1:])
    frames[1, 3:] = torch.inf
    torch.testing.assert_close(pooling(frames, lengths)[1:], alone)


# ---- recall -------------------------------------------------------------------------------------


def plain_recall(scores: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """By sorting; of equal scores those that are not relevant come first."""
    hits = 0
    for row, good in zip(scores, relevant, strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], good[i]))
        hits += any(good[i] for i in order[:k])
    return hits / len(scores)


@pytest.mark.parametrize("seed", range(4))
def test_recall_is_that_of_sorting(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 6, (12, 9)).astype(np.float32)  # with ties
    relevant = generator.random((12, 9)) < 0.2
    relevant[np.arange(12), generator.integers(0, 9, 12)] = True
    found = recall(torch.from_numpy(scores), torch.from_numpy(relevant))
    assert found == {k: plain_recall(scores, relevant, k) for k in (1, 5, 10)}


def test_equal_vectors_find_nothing():
    assert recall(torch.zeros(20, 20), torch.eye(20, dtype=torch.bool)) == {1: 0, 5: 0, 10: 0}


@pytest.mark.parametrize(("num", "good"), [(6, 1), (6, 2), (7, 3), (4, 4), (12, 1)])
def test_chance_is_the_share_of_the_orders_that_find_it(num, good):
    relevant = torch.zeros(1, num, dtype=torch.bool)
    relevant[0, :good] = True
    for k, value in chance_of_recall(relevant).items():
        chosen = list(itertools.combinations(range(num), min(k, num)))
        share = sum(min(c) < good for c in chosen) / len(chosen)
        assert value == pytest.approx(share)


def test_chance_of_one_relevant_is_k_of_n():
    found = chance_of_recall(torch.eye(514, dtype=torch.bool))
    assert found == pytest.approx({1: 1 / 514, 5: 5 / 514, 10: 10 / 514})


def test_retrieval_both_ways():
    """Three utterances, two texts; the second utterance is nearest to the wrong text."""
    texts = torch.eye(2)
    speech = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    found = retrieval(speech, texts, torch.tensor([0, 0, 1]))
    assert found["find_text_at_1"] == pytest.approx(2 / 3)
    assert found["find_text_at_1_chance"] == pytest.approx(1 / 2)
    assert found["find_speech_at_1"] == 1.0  # each text has one of its utterances first
    assert found["find_speech_at_1_chance"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert found["find_text_at_5"] == found["find_text_at_5_chance"] == 1.0
