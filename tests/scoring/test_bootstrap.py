"""Bootstrap intervals hold the truth as often as they say, and are quick."""

import time

import numpy as np

from speechssl.scoring import bootstrap


def test_the_interval_covers_the_truth_about_95_times_in_100(monkeypatch) -> None:
    monkeypatch.setattr(bootstrap, "NUM_RESAMPLES", 300)
    generator = np.random.default_rng(0)
    covered = []
    for trial in range(150):
        wrong = generator.random((100, 5)) < 0.3
        counts = np.stack([np.full(100, 5.0), wrong.sum(1)], axis=1)
        low, high = bootstrap.interval(bootstrap.rates_of(bootstrap.resample(counts, trial)))
        covered.append(low <= 0.3 <= high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_five_thousand_utterances_are_quick() -> None:
    counts = np.ones((5000, 4))
    start = time.process_time()
    bootstrap.resample(counts, 0)
    assert time.process_time() - start < 1.0  # 0.07 s on two cores of a server
