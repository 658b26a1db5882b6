"""What is chosen to be corrected first."""

from collections import Counter
from itertools import combinations
from math import sqrt

import pytest

from speechssl.desk.choice import TIME_WEIGHT, Offer, choose, ngrams, quota_s
from speechssl.rng import rng


def offer(
    text: str,
    confidence: float,
    duration_s: float = 1.0,
    group: str = "a",
    speaker: str | None = None,
) -> Offer:
    return Offer(duration_s, group, ngrams([(symbol, confidence) for symbol in text]), speaker)


def numbers(offers, budget_s):
    return [i for i, _ in choose(offers, budget_s)]


def test_an_ngram_counts_as_much_as_its_symbols_are_doubted():
    found = ngrams([("a", 0.5), ("b", 1.0), ("a", 0.0)])
    assert found == {"a": 1.5, "ab": 0.25, "ba": 0.5, "aba": 0.5}


@pytest.mark.parametrize(
    ("offers", "first"),
    [
        ([offer("abc", 0.9), offer("abc", 0.2)], 1),  # the doubtful one
        ([offer("abc", 0.5, 2.0), offer("abc", 0.5, 1.0)], 1),  # less time for the same
        ([offer("abc", 0.5), offer("abcabc", 0.5)], 1),  # more speech in the same time
        ([offer("abc", 0.5), offer("abc", 0.5)], 0),  # else the order
    ],
)
def test_what_comes_first(offers, first):
    assert numbers(offers, 10.0)[0] == first


def test_the_second_of_two_alike_is_worth_less_than_another_sound():
    offers = [offer("abab", 0.4), offer("abab", 0.41), offer("cdcd", 0.6)]
    assert numbers(offers, 2.0) == [0, 2]


def test_what_the_model_is_sure_of_is_never_chosen():
    assert numbers([offer("abc", 1.0), offer("abc", 0.9)], 10.0) == [1]


@pytest.mark.parametrize("budget_s", [0.5, 1.0, 3.7, 100.0])
def test_the_budget_is_kept(budget_s):
    random = rng(0, "offers")
    offers = [
        offer("".join(random.choice(list("abcd"), 6)), 0.5, float(random.uniform(0.3, 2)))
        for _ in range(30)
    ]
    chosen = numbers(offers, budget_s)
    assert sum(offers[i].duration_s for i in chosen) <= budget_s
    assert len(set(chosen)) == len(chosen)
    if budget_s > 60:
        assert len(chosen) == 30


def value(offers, chosen) -> float:
    """F(S), as the formula has it."""
    grams, seconds = [Counter(), Counter()], [Counter(), Counter()]
    for i, each in enumerate(offers):
        for place in (0, 1) if i in chosen else (0,):
            grams[place].update(each.mass)
            seconds[place][each.speaker] += each.duration_s
    whole, by_time = (
        sum(seconds[0][k] ** 0.25 * (sqrt(60 + t) - sqrt(60)) for k, t in part.items())
        for part in seconds
    )
    by_grams = sum(sqrt(grams[0][g] * m) for g, m in grams[1].items())
    return by_grams + TIME_WEIGHT * grams[0].total() * by_time / whole


@pytest.mark.parametrize("speakers", [(None,), ("a", "b", None)])
def test_lazy_greedy_is_greedy_and_near_the_best_choice(speakers):
    random = rng(1, "offers")
    offers = [
        offer(
            "".join(random.choice(list("abcde"), 5)),
            float(random.uniform(0.1, 0.9)),
            speaker=speakers[i % len(speakers)],
        )
        for i in range(9)
    ]
    plain: list[int] = []
    while len(plain) < 4:
        left = [i for i in range(9) if i not in plain]
        plain.append(max(left, key=lambda i: (value(offers, [*plain, i]), -i)))
    chosen = choose(offers, 4.0)
    assert [i for i, _ in chosen] == plain
    assert sum(gain for _, gain in chosen) == pytest.approx(value(offers, plain))
    best = max(value(offers, some) for some in combinations(range(9), 4))
    assert value(offers, plain) > 0.95 * best  # the bound is 1 - 1/e


def test_the_same_offers_give_the_same_choice():
    offers = [offer(text, 0.5) for text in ("abc", "bca", "cab", "abc", "xyz") * 4]
    assert choose(offers, 9.0) == choose(offers, 9.0)


def test_a_slow_speaker_gets_minutes_too():
    """By sounds a second alone the quick one, who says as much in half of the time, gets all."""
    random = rng(2, "offers")
    sounds = ["".join(random.choice(list("abcdefgh"), 12)) for _ in range(60)]
    offers = [
        offer(text, 0.5, seconds, group, group)
        for group, seconds in (("quick", 5.0), ("slow", 10.0))
        for text in sounds
    ]
    minutes = Counter()
    for i in numbers(offers, 200.0):
        minutes[offers[i].group] += offers[i].duration_s
    assert 60 <= minutes["slow"] <= 110


def test_nobody_gets_all_of_the_minutes():
    """Of one speaker the model knows least; two others fill the rest."""
    offers = [offer(f"x{i}y{i}", 0.0, 10.0, "loud") for i in range(20)]
    offers += [offer(f"a{i}", 0.6, 10.0, group) for group in "bc" for i in range(10)]
    minutes = Counter()
    for i in numbers(offers, 150.0):
        minutes[offers[i].group] += offers[i].duration_s
    assert minutes["loud"] == 100  # with as much of each, 300 s, twice the budget, can be filled
    assert minutes.total() == 150


@pytest.mark.parametrize(
    ("sizes", "budget_s", "most"),
    [
        ({"a": 100.0}, 10.0, 20.0),  # one speaker may fill it alone
        ({"a": 100.0, "b": 100.0}, 60.0, 60.0),
        ({"a": 100.0, "b": 10.0}, 30.0, 50.0),  # what b lacks goes to a
        ({"a": 5.0, "b": 5.0}, 60.0, float("inf")),  # too little: all of it
        ({"a": 100.0, "b": 100.0, "c": 100.0}, 1.0, 5.0),  # a whole stretch at the least
    ],
)
def test_the_quota_can_always_be_filled(sizes, budget_s, most):
    offers = [
        Offer(5.0, group, {"x": 1.0}) for group, size in sizes.items() for _ in range(int(size / 5))
    ]
    assert quota_s(offers, budget_s) == pytest.approx(most)


@pytest.mark.parametrize("budget_s", [0.0, -1.0, float("nan")])
def test_no_minutes_are_refused(budget_s):
    with pytest.raises(ValueError, match="must be above 0"):
        choose([offer("abc", 0.5)], budget_s)


def test_no_offers_no_choice():
    assert choose([], 10.0) == []
