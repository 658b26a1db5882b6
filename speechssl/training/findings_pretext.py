"""What can be wrong with a pretraining, from the signals of its tasks. Needs no torch."""

import re

from speechssl.pretext.signal import Signal
from speechssl.training.curves import CHANCE_ADVICE, MOST_OF_CHANCE, Curves, Finding, lr_note

_LEARNED_BY_HEART = 0.8
"""Share of the chance line below which a training loss has left it."""


def collapsed(curves: Curves) -> Finding | None:
    """A signal that fell to where its task has collapsed."""
    fallen = []
    for signal in curves.signals:
        value = curves.last(f"valid/{signal.metric}")
        if signal.collapsed_below is not None and value is not None:
            fallen += [signal] if value < signal.collapsed_below else []
    return _finding(curves, fallen)


def alarmed(curves: Curves) -> Finding | None:
    """A signal that gives an alarm in two validations one after the other, where there are two: one
    may be a close call."""
    loud = []
    for signal in curves.signals:
        latest = curves.values(f"valid/{signal.metric}")[-2:]
        if signal.alarm_from is not None and latest and min(latest) >= signal.alarm_from:
            loud.append(signal)
    return _finding(curves, loud)


def _finding(curves: Curves, signals: list[Signal]) -> Finding | None:
    """One finding from signals that have the same name for it."""
    if not signals:
        return None
    name = signals[0].finding
    evidence = tuple(filled(s.evidence, curves) for s in signals if s.finding == name)
    return Finding(name, evidence, filled(signals[0].advice, curves))


def far_from_anything(curves: Curves) -> str:
    """The sentence for a signal that is worse than any fresh model; '' where none is."""
    worst: tuple[float, Signal] | None = None
    for signal in curves.signals:
        ratio = ratio_to_chance(curves, signal)
        if signal.worst_ratio is not None and ratio is not None and ratio > signal.worst_ratio:
            worst = max(worst or (0.0, signal), (ratio, signal), key=lambda found: found[0])
    if worst is None:
        return ""
    ratio, signal = worst
    return (
        f"The {signal.title} is {100 * ratio:.0f} % of what {signal.chance_of} reaches: a fresh "
        "model is nearer."
    )


def pretext_at_chance(curves: Curves) -> Finding | None:
    """A task that has learned nothing, by none of its signals."""
    evidence = []
    for signals in _by_task(curves).values():
        ratios = [(signal, ratio_to_chance(curves, signal)) for signal in signals]
        known = [(signal, ratio) for signal, ratio in ratios if ratio is not None]
        if known and all(ratio > MOST_OF_CHANCE for _, ratio in known):
            evidence += [_at_chance(curves, signal) for signal, _ in known]
    if not evidence or memorises_pretext(curves):
        return None
    norms = [(n.split("/")[1], curves.late(n)) for n in curves.names("grad_norm/")]
    if norms:
        listed = ", ".join(f"{part} {norm:.2g}" for part, norm in norms if norm is not None)
        evidence.append(f"Gradient norms: {listed}.")
    return Finding("at chance", tuple(evidence), CHANCE_ADVICE + lr_note(curves) + ".")


def _at_chance(curves: Curves, signal: Signal) -> str:
    value, chance = curves.last(f"valid/{signal.metric}"), curves.last(f"valid/{signal.chance}")
    return (
        f"The {signal.title} in validation is {value:.3f}; {signal.chance_of} reaches {chance:.3f}."
    )


def _by_task(curves: Curves) -> dict[str, list[Signal]]:
    """Signals that have a chance line, by task."""
    found: dict[str, list[Signal]] = {}
    for signal in curves.signals:
        if signal.chance and signal.better == "lower":
            found.setdefault(signal.task, []).append(signal)
    return found


def ratio_to_chance(curves: Curves, signal: Signal) -> float | None:
    """The latest value over its chance line; None where one was not logged or chance is 0."""
    if not signal.chance or signal.better == "higher":
        return None
    value, chance = curves.last(f"valid/{signal.metric}"), curves.last(f"valid/{signal.chance}")
    return None if value is None or not chance else value / chance


def memorises_pretext(curves: Curves) -> bool:
    """Whether a task's training loss fell far below a validation that is at chance."""
    for signals in _by_task(curves).values():
        for signal in signals:
            ratio = ratio_to_chance(curves, signal)
            chance = curves.last(f"valid/{signal.chance}")
            now = curves.late(signal.training) if signal.training else None
            if ratio is None or chance is None or now is None:
                continue
            if ratio > MOST_OF_CHANCE and now < _LEARNED_BY_HEART * chance:
                return True
    return False


def filled(text: str, curves: Curves) -> str:
    """``{NAME}`` replaced by the latest validation's value of a metric, else by a setting;
    ``{NAME:%}`` in percent."""

    def value(match: re.Match[str]) -> str:
        name, _, form = match[1].partition(":")
        found = curves.last(f"valid/{name}")
        if found is None:
            return str(curves.setting(name))
        return f"{100 * found:.1f} %" if form else f"{found:.3f}"

    return re.sub(r"\{([^{}]+)\}", value, text)
