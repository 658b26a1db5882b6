"""What the runs of an experiment begin with beside fresh weights: the seed, or another model."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from speechssl import seed
from speechssl.checkpoint import Checkpoint
from speechssl.device import pick_device
from speechssl.experiment.splits import say
from speechssl.interop.sources import open_model
from speechssl.model.config import nearest_size

LARGE = 40_000_000
"""Weights from which on a model is fine-tuned by itself, on a CPU by LoRA, and not pretrained on
the recordings first: on the cores of a laptop that would take days."""


@dataclass(frozen=True)
class Start:
    """A model that runs begin with."""

    source: str
    """What a person calls it."""
    model: Checkpoint

    @property
    def name(self) -> str:
        """For the names of runs: the last part of a folder's name or hub id that says something."""
        parts = [part for part in Path(self.source).parts if part not in ("best", "model", "/")]
        name = re.sub(r"[^\w.-]+", "-", parts[-1] if parts else self.source).strip("-.") or "model"
        return "scratch-model" if name == "scratch" else name

    @property
    def num_weights(self) -> int:
        return sum(p.numel() for p in self.model.speech.parameters())

    @property
    def is_large(self) -> bool:
        return self.num_weights >= LARGE

    @property
    def by_lora(self) -> bool:
        """Whether few added weights learn in place of all."""
        return self.is_large and pick_device("auto").type == "cpu"

    def describe(self) -> str:
        """What is done with it, for a person, before anything begins."""
        form = f"{self.source} ({self.num_weights / 1e6:.3g} M weights)"
        if not self.is_large:
            return f"Start: {form}, as it is, pretrained on these recordings, and self-trained."
        how = ", a few added weights of it (LoRA)" if self.by_lora else ""
        return (
            f"Start: {form}, fine-tuned first{how}; its time and memory are measured before it "
            "begins. It is too large to be pretrained on these recordings too."
        )


def choose_start(init: str | None, size: str | None) -> tuple[Start | None, str]:
    """``(what the runs begin with, the size of the models from scratch)``.

    Args:
        init: MODEL; ``scratch``: only fresh weights; None: the seed, where the package has one of
            this size.
        size: of the models; None: that of the seed, else tiny.

    Raises FileNotFoundError, ValueError or ImportError where the model cannot be had.
    """
    if init is None:
        wanted = size or seed.DEFAULT_SIZE
        if wanted in seed.sizes():
            init = seed.NAME if wanted == seed.DEFAULT_SIZE else f"{seed.NAME}:{wanted}"
        elif seed.sizes():
            say(f"The package has no seed of the size {wanted}: its models begin from scratch.")
    if init in (None, "scratch"):
        return None, size or "tiny"
    assert init is not None
    start = Start(init, open_model(init))
    if start.by_lora and find_spec("peft") is None:
        raise ImportError(
            f"{init} is fine-tuned by LoRA on a CPU, which needs the package peft: pip install "
            "'speechssl[lora]'."
        )
    if seed.size_of(init) is not None:
        has = nearest_size(start.model.speech.config)
        seed.check_size(size or has, init, has)
        return start, has
    return start, size or "tiny"
