"""What a run's curves say: a named verdict, its evidence, and what to change. Needs no torch.

It reads what is logged (diagnosis.py measures it) and the run's settings, so a run can be judged
at any time, also while it goes on and long after.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from speechssl.pretext.signal import Signal
from speechssl.training.curves import Curves, Finding
from speechssl.training.findings import (
    at_chance,
    diverging,
    latents_collapsed,
    other_level,
    overfitting,
    silent,
    starved,
)
from speechssl.training.findings_ctc import (
    NOTHING_RIGHT,
    UNKNOWN_CHARACTERS,
    ignores_audio,
    only_blanks,
    unknown_characters,
)
from speechssl.training.findings_pretext import alarmed, collapsed
from speechssl.training.measures import measures

HEALTHY, TOO_EARLY = "healthy", "too early to tell"


@dataclass(frozen=True)
class Verdict:
    """What is to be said about a run."""

    findings: tuple[Finding, ...]
    """The gravest first; none: healthy, or too early."""
    name: str
    """That of the gravest finding, ``healthy`` or ``too early to tell``."""
    measures: tuple[tuple[str, str], ...]
    """What was measured, for a person: name and value."""


def judge(
    records: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    signals: Sequence[Signal] = (),
) -> Verdict:
    """The verdict on a run, from the lines of its metrics.jsonl, its resolved config, and the
    signals of its pretext tasks."""
    curves = Curves(records, config, signals)
    found = tuple(f for check in _CHECKS if (f := check(curves)) is not None)
    name = found[0].name if found else HEALTHY if _has_begun(curves) else TOO_EARLY
    return Verdict(found, name, tuple(measures(curves)))


def _has_begun(curves: "Curves") -> bool:
    """Whether there is a validation, and in fine-tuning one whose output depends on the audio."""
    best = min(curves.values("valid/cer"), default=0.0)
    return bool(curves.points("valid/loss")) and best < NOTHING_RIGHT and not ignores_audio(curves)


def with_characters(verdict: Verdict, characters: Sequence[str]) -> Verdict:
    """The verdict with the unknown characters by name, where it is about such."""
    if not characters:
        return verdict
    shown = " ".join(c if c.isprintable() else f"U+{ord(c[0]):04X}" for c in characters[:40])
    sentence = f"They are: {shown}{' ...' if len(characters) > 40 else ''}"
    findings = tuple(
        replace(f, evidence=(*f.evidence, sentence)) if f.name == UNKNOWN_CHARACTERS else f
        for f in verdict.findings
    )
    return replace(verdict, findings=findings)


_CHECKS: tuple[Callable[[Curves], Finding | None], ...] = (
    diverging,
    silent,
    unknown_characters,
    collapsed,
    only_blanks,
    latents_collapsed,
    at_chance,
    alarmed,
    other_level,
    overfitting,
    starved,
)
