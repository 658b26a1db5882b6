"""Error rates against a plain edit distance and jiwer; intervals that mean what they say."""

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from speechssl.scoring.wer import ErrorCounts, EvalResult, compare, score

PAIRS = [
    ("wó twεrε ya poo", "wó twεrε poo"),
    ("á-ba la mwásí", "a-ba la mwásí ee"),
    ("moro wa", "ngá nyεi mbóka o ndáko"),
    ("poo", ""),
    ("", "o o"),
    ("", ""),
    ("kala  kala", " kala kala\n"),
]


def plain_edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """The textbook recurrence, nothing clever."""

    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
            distance(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1]),
        )

    return distance(len(reference), len(hypothesis))


def score_pairs(pairs: list[tuple[str, str]], **options: object) -> EvalResult:
    references, hypotheses = [p[0] for p in pairs], [p[1] for p in pairs]
    ids = [f"u{i}" for i in range(len(pairs))]
    return score(references, hypotheses, ids=ids, **options)  # type: ignore[arg-type]


def random_pairs(num: int, error_p: float = 0.3, seed: int = 0) -> list[tuple[str, str]]:
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(num):
        words = [str(w) for w in generator.choice(list("abcdefg"), generator.integers(1, 9))]
        noisy = [w if generator.random() > error_p else "x" for w in words]
        if generator.random() < error_p:
            noisy = noisy[1:] + ["a", "a"][: generator.integers(3)]
        pairs.append((" ".join(words), " ".join(noisy)))
    return pairs


# --- counts


def test_every_utterance_agrees_with_the_plain_edit_distance() -> None:
    for u in score_pairs(PAIRS + random_pairs(60)).utterances:
        assert u.words.errors == plain_edit_distance(u.reference.split(), u.hypothesis.split())
        assert u.characters.errors == plain_edit_distance(list(u.reference), list(u.hypothesis))
        assert u.words.length == len(u.reference.split())
        assert u.characters.length == len(u.reference)


def test_the_corpus_is_the_sum_of_its_utterances() -> None:
    result = score_pairs(PAIRS)
    words = [u.words for u in result.utterances]
    assert result.num_utterances == len(PAIRS)
    assert result.num_words == sum(w.length for w in words) == 12
    assert result.substitutions == sum(w.substitutions for w in words)
    assert result.deletions == sum(w.deletions for w in words)
    assert result.insertions == sum(w.insertions for w in words)
    errors = result.substitutions + result.deletions + result.insertions
    assert result.wer == pytest.approx(errors / 12)
    assert result.num_characters == sum(len(u.reference) for u in result.utterances)
    assert result.cer == pytest.approx(
        sum(u.characters.errors for u in result.utterances) / result.num_characters
    )


def test_jiwers_own_numbers() -> None:
    jiwer = pytest.importorskip("jiwer")
    pairs = random_pairs(80)
    references, hypotheses = [p[0] for p in pairs], [p[1] for p in pairs]
    theirs, ours = jiwer.process_words(references, hypotheses), score_pairs(pairs)
    assert ours.wer == pytest.approx(theirs.wer)
    assert ours.cer == pytest.approx(jiwer.cer(references, hypotheses))
    assert (ours.substitutions, ours.deletions, ours.insertions) == (
        theirs.substitutions,
        theirs.deletions,
        theirs.insertions,
    )


def test_words_without_a_reference_are_insertions() -> None:
    result = score_pairs([("a b", "a b"), ("", "c d e")])
    assert (result.insertions, result.wer) == (3, 1.5)
    assert result.utterances[1].wer == 3  # an empty reference counts as one word
    assert result.utterances[1].words == ErrorCounts(0, 0, 0, 3)
    assert result.utterances[1].characters == ErrorCounts(0, 0, 0, 5)


def test_an_empty_pair_changes_no_rate() -> None:
    with_empty, without = score_pairs([*PAIRS[:4], ("", " ")]), score_pairs(PAIRS[:4])
    assert (with_empty.wer, with_empty.cer) == (without.wer, without.cer)
    assert with_empty.utterances[-1].wer == with_empty.utterances[-1].cer == 0


@pytest.mark.parametrize("pairs", [[], [("", "a")], [(" ", "")]])
def test_no_reference_at_all_is_a_sentence(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match=r"No error rate is defined: all \d references are empty"):
        score_pairs(pairs)


def test_only_punctuation_is_an_empty_reference_for_basic() -> None:
    assert score_pairs([("...", "a")]).wer == 1
    with pytest.raises(ValueError, match='after the normaliser "basic"'):
        score_pairs([("...", "a")], normalizer="basic")


def test_the_normaliser_works_on_both_sides_and_is_named() -> None:
    pairs = [("Wó, twεrε!", "wó twεrε"), ("ya POO", "Ya poo.")]
    raw, basic = score_pairs(pairs), score_pairs(pairs, normalizer="basic")
    assert (raw.normalizer, raw.wer) == ("none", 1.0)
    assert (basic.normalizer, basic.wer, basic.cer) == ("basic", 0.0, 0.0)
    assert basic.utterances[0].reference == "wó twεrε"
    with pytest.raises(ValueError, match="choose one of"):
        score_pairs(pairs, normalizer="english")


def test_composed_and_decomposed_letters_are_equal() -> None:
    assert score_pairs([("w\u00f3", "wo\u0301")]).cer == 0


def test_unequal_lengths_are_a_sentence() -> None:
    with pytest.raises(ValueError, match="got 2 references, 1 hypotheses, 2 ids, 2 speakers"):
        score(["a", "b"], ["a"], ids=["1", "2"])


# --- intervals


def test_intervals_hold_the_point_and_lie_in_order() -> None:
    result = score_pairs(random_pairs(100))
    assert 0 < result.wer_low < result.wer < result.wer_high
    assert 0 < result.cer_low < result.cer < result.cer_high


def test_the_seed_is_all_the_randomness() -> None:
    pairs = random_pairs(50)
    assert score_pairs(pairs, seed=3) == score_pairs(pairs, seed=3)
    assert score_pairs(pairs, seed=3).wer_low != score_pairs(pairs, seed=4).wer_low


def test_without_errors_or_with_one_utterance_the_interval_is_the_point() -> None:
    perfect = score_pairs([("a b", "a b"), ("c", "c")])
    assert (perfect.wer_low, perfect.wer_high) == (0, 0)
    single = score_pairs([("a b", "a c")])
    assert (single.wer_low, single.wer, single.wer_high) == (0.5, 0.5, 0.5)


def test_intervals_survive_resamples_without_any_reference() -> None:
    result = score_pairs([("a b", "a c"), ("", ""), ("", "")])
    assert (result.wer_low, result.wer_high) == (0.5, 0.5)


def test_the_width_is_that_of_the_normal_approximation() -> None:
    pairs = [("a", "a" if i % 4 else "b") for i in range(800)]  # one word each: a binomial
    result = score_pairs(pairs)
    width = 2 * 1.96 * np.sqrt(0.25 * 0.75 / 800)
    assert result.wer_high - result.wer_low == pytest.approx(width, rel=0.08)


def test_speakers_are_resampled_where_there_are_enough_of_them() -> None:
    pairs = [("a b", "a b")] * 50 + [("a b", "c d")] * 50
    few = score_pairs(pairs, speakers=[str(i // 25) for i in range(100)])
    missing = score_pairs(pairs, speakers=[None, *(str(i // 10) for i in range(1, 100))])
    plain = score_pairs(pairs)
    enough = score_pairs(pairs, speakers=[str(i // 20) for i in range(100)])
    assert few.resampled == missing.resampled == plain.resampled == "utterance"
    assert (few.wer_low, missing.wer_low) == (plain.wer_low, plain.wer_low)
    assert enough.resampled == "speaker"
    # All or nothing by speaker: the interval over speakers must be far wider.
    assert enough.wer_high - enough.wer_low > 2 * (plain.wer_high - plain.wer_low)
    assert enough.wer == plain.wer


def test_one_utterance_a_speaker_is_the_bootstrap_over_utterances() -> None:
    pairs = random_pairs(30)
    by_speaker = score_pairs(pairs, speakers=[f"s{i}" for i in range(30)])
    assert by_speaker.resampled == "speaker"
    assert by_speaker.wer_low == score_pairs(pairs).wer_low


# --- comparison


def test_a_system_compared_with_itself_differs_by_nothing() -> None:
    a = score_pairs(random_pairs(40))
    same = compare(a, a)
    for d in (same.wer, same.cer):
        assert (d.difference, d.difference_low, d.difference_high) == (0, 0, 0)
        assert (d.reduction, d.reduction_low, d.reduction_high) == (0, 0, 0)


def test_a_clear_improvement_is_seen_though_the_intervals_overlap() -> None:
    pairs = random_pairs(60, error_p=0.5)
    better = [(r, r if i % 5 == 0 else h) for i, (r, h) in enumerate(pairs)]
    a, b = score_pairs(pairs), score_pairs(better)
    assert b.wer_high > a.wer_low  # side by side they say nothing
    result = compare(a, b)
    assert result.wer.difference == pytest.approx(b.wer - a.wer)
    assert result.wer.difference_low < result.wer.difference < result.wer.difference_high < 0
    assert result.wer.reduction == pytest.approx(1 - b.wer / a.wer)
    assert 0 < result.wer.reduction_low < result.wer.reduction < result.wer.reduction_high
    assert result.cer.difference == pytest.approx(b.cer - a.cer)
    swapped = compare(b, a)
    assert swapped.wer.difference_low == pytest.approx(-result.wer.difference_high)
    assert (result.num_utterances, result.resampled) == (60, "utterance")


def test_nothing_can_be_saved_on_a_perfect_system() -> None:
    perfect, worse = score_pairs([("a", "a")] * 3), score_pairs([("a", "b")] * 3)
    result = compare(perfect, worse)
    assert (result.wer.difference, result.wer.reduction, result.wer.reduction_low) == (
        1,
        None,
        None,
    )


def test_comparison_resamples_speakers_like_the_score() -> None:
    pairs, speakers = random_pairs(50), [str(i % 5) for i in range(50)]
    a = score_pairs(pairs, speakers=speakers)
    assert compare(a, a).resampled == "speaker"


def test_results_of_different_things_are_not_compared() -> None:
    a = score_pairs([("a", "b"), ("c", "d")])
    with pytest.raises(ValueError, match='different normalisers, "none" and "basic"'):
        compare(a, score_pairs([("a", "b"), ("c", "d")], normalizer="basic"))
    with pytest.raises(ValueError, match="one has 2, the other 1"):
        compare(a, score_pairs([("a", "b")]))
    with pytest.raises(ValueError, match=r"\"u1\" \('c'\) stands against \"u1\" \('x'\)"):
        compare(a, score_pairs([("a", "b"), ("x", "d")]))


# --- what people see


def test_worst_utterances_come_first() -> None:
    result = score_pairs([("a", "a"), ("a b", "c d"), ("a", "b"), ("a b", "a c"), ("", "")])
    assert [u.id for u in result.worst(3)] == ["u1", "u2", "u3"]
    assert len(result.worst(99)) == 5


def test_json_has_the_keys_and_types_of_the_contract() -> None:
    result = score_pairs(PAIRS, normalizer="lower")
    loaded = json.loads(
        json.dumps(
            result.to_json(manifest="dev.jsonl", audio_s=np.float32(3), elapsed_s=1),
            allow_nan=False,
        )
    )
    assert list(loaded) == [
        "manifest",
        "normalizer",
        "num_utterances",
        "num_words",
        "wer",
        "wer_low",
        "wer_high",
        "cer",
        "cer_low",
        "cer_high",
        "substitutions",
        "deletions",
        "insertions",
        "audio_s",
        "elapsed_s",
        "utterances",
    ]
    assert (loaded["manifest"], loaded["normalizer"], loaded["audio_s"]) == (
        "dev.jsonl",
        "lower",
        3,
    )
    assert loaded["utterances"][0] == {
        "id": "u0",
        "reference": "wó twεrε ya poo",
        "hypothesis": "wó twεrε poo",
        "wer": 0.25,
    }


def test_jiwer_is_imported_only_when_used() -> None:
    code = "import sys, speechssl.scoring.wer; sys.exit('jiwer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
