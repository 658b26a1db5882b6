"""Means of what was logged since the last line of metrics.jsonl."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from speechssl import distributed
from speechssl.training.parts import summed


class Window:
    """Means of what was logged since the last line."""

    _sums: dict[str, float]

    def __init__(self, before: Sequence[dict[str, Any]]) -> None:
        """`before` is the :meth:`state` of each process of the session that was stopped, if it was
        one of as many processes."""
        self._begin()
        if len(before) == distributed.world():
            mine = before[distributed.rank()]
            self._sums, self._steps = dict(mine["sums"]), mine["steps"]
            self._audio_s, self._padding = mine["audio_s"], mine["padding"]

    def _begin(self) -> None:
        self._sums = {}
        self._steps, self._audio_s, self._wait_s, self._padding = 0, 0.0, 0.0, 0.0
        self._since = time.monotonic()

    def state(self) -> dict[str, Any]:
        """What a run that goes on needs to log the same means; seconds are not among it."""
        return {
            "sums": self._sums,
            "steps": self._steps,
            "audio_s": self._audio_s,
            "padding": self._padding,
        }

    def add(self, scalars: dict[str, float], audio_s: float, wait_s: float, padding: float) -> None:
        for name, value in scalars.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._audio_s += audio_s
        self._wait_s += wait_s
        self._padding += padding

    def close(self, device: torch.device) -> dict[str, float]:
        spent = max(time.monotonic() - self._since, 1e-9)
        means = {name: value / self._steps for name, value in self._sums.items()}
        losses = sorted(name for name in means if name.startswith("loss/"))
        # Each process logged its own frames' share of the loss.
        if distributed.sharers() > 1:  # some may have had no utterance
            parts = distributed.gather({name: means[name] for name in losses})
            means |= summed(parts)
        else:
            shared = distributed.all_reduce_sum(torch.tensor([means[n] for n in losses]).to(device))
            means |= dict(zip(losses, shared.tolist(), strict=True))
        means["speed/audio_s_per_s"] = self._audio_s / spent
        means["speed/wait_share"] = self._wait_s / spent
        means["speed/padding_share"] = self._padding / self._steps
        self._begin()
        return means
