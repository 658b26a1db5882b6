"""What can be wrong with any training, from its curves. Needs no torch."""

import math
from statistics import median

from speechssl.training.curves import Curves, Finding, levels_text, lr_note
from speechssl.training.findings_ctc import (
    MOST_UNKNOWN,
    ctc_at_chance,
    guessing_evidence,
    ignores_audio,
    memorises_ctc,
    only_blanks,
    score_still_falls,
    unknown_share,
)
from speechssl.training.findings_pretext import (
    collapsed,
    far_from_anything,
    memorises_pretext,
    pretext_at_chance,
)

_LEAST_SPREAD = 0.01
"""Frames that differ by less of their mean square are all the same."""

_LEAST_RANK = 2.0

_SILENCE_DB = -75.0
"""Level below which 16 bits hold little but rounding."""

_OTHER_LEVEL_DB = 25.0

_MUCH_WAITING = 0.3


def diverging(curves: Curves) -> Finding | None:
    """A loss that is not finite, rises, or gives back what it had learned."""
    name = curves.loss
    steps = [step for step, _ in curves.points("faults/not_finite")]
    steps += [s for n in curves.names("loss/") for s, v in curves.points(n) if not math.isfinite(v)]
    advice = f"Lower the learning rate, e.g. to a third{lr_note(curves)}, or lengthen the warm-up."
    if steps:
        reason = f"At update {min(steps)} the loss or its gradient was not a finite number."
        return Finding("diverging", (reason,), f"{advice} Look at the recordings it named.")
    if reason := far_from_anything(curves):
        return Finding("diverging", (reason,), advice)
    first, low, last = curves.early(name), curves.lowest(name), curves.late(name)
    if first is None or low is None or last is None or len(curves.values(name)) < 5:
        return None
    learned, most = first - low, max(curves.values(name))
    given_back = learned > 0.2 * abs(first) and last > low + 0.5 * learned
    blew_up = most > 3 * abs(first) and any(check(curves) for check in _NOTHING_LEARNED)
    rose = last > first + 0.1 * abs(first) + 0.05
    if any(signal.moving for signal in curves.signals):  # it may rise while the model learns
        rose = given_back = False
    if not rose and not given_back and not blew_up:
        return None
    evidence = [
        f"The training loss began at {first:.3g}, was between {low:.3g} and {most:.3g}, and is "
        f"{last:.3g} now."
    ]
    if (norm := curves.late("grad_norm")) is not None:
        evidence.append(
            f"The gradient's norm was {curves.early('grad_norm'):.3g} at first and is {norm:.3g}."
        )
    return Finding("diverging", tuple(evidence), advice)


def silent(curves: Curves) -> Finding | None:
    """Training or validation without any sound."""
    train, valid = curves.late("data/level_db"), curves.last("valid/data/level_db")
    levels = {"training": train, "validation": valid}
    silent = [what for what, db in levels.items() if db is not None and db < _SILENCE_DB]
    if not silent:
        return None
    evidence = [
        f"The recordings of the {' and the '.join(silent)} set are silent: {levels_text(curves)}."
    ]
    return Finding(
        "silent recordings",
        tuple(evidence),
        "Listen to a few of them and look at their paths, channels and sample format; then run "
        "`prepare` again, which leaves out what is silent.",
    )


def other_level(curves: Curves) -> Finding | None:
    """Training and validation of different loudness; only where something else is wrong, as most
    models normalise their input."""
    train, valid = curves.late("data/level_db"), curves.last("valid/data/level_db")
    if train is None or valid is None or abs(train - valid) < _OTHER_LEVEL_DB:
        return None
    if silent(curves) or not (at_chance(curves) or overfitting(curves)):
        return None
    return Finding(
        "levels differ",
        (f"Training and validation recordings differ in level: {levels_text(curves)}.",),
        "Look whether both sets come from the same recordings and through the same conversion; "
        "bring them to about the same level.",
    )


def latents_collapsed(curves: Curves) -> Finding | None:
    """Frames that are all the same, or fill few directions."""
    evidence = []
    for what, stem in (("latents", "valid/health/latent_"), ("context", "valid/health/")):
        varies, rank = curves.last(f"{stem}spread"), curves.last(f"{stem}rank")
        if varies is not None and varies < _LEAST_SPREAD:
            evidence.append(
                f"Of the mean square of the {what}, {100 * varies:.2g} % differs between frames: "
                "all frames are nearly the same."
            )
        elif rank is not None and rank < _LEAST_RANK:
            evidence.append(f"The {what} fill {rank:.1f} directions (effective rank).")
    if not evidence:
        return None
    return Finding(
        "latents collapsed",
        tuple(evidence),
        "Listen to a few recordings: silence gives such latents. Else lower the learning rate, "
        "the weight decay and a feature penalty (--contrastive.feature-penalty), which pull "
        "everything to zero.",
    )


def at_chance(curves: Curves) -> Finding | None:
    return ctc_at_chance(curves) if curves.is_finetuning else pretext_at_chance(curves)


def overfitting(curves: Curves) -> Finding | None:
    """Validation gets worse, or learns nothing, while training gets better."""
    points = curves.points("valid/loss")
    if len(points) < 2 or silent(curves) or unknown_share(curves) > MOST_UNKNOWN:
        return None
    at, lowest = min(points, key=lambda point: point[1])
    last_step, last = points[-1]
    then, now = curves.near(curves.loss, at), curves.late(curves.loss)
    evidence = []
    parts = last > 1.15 * lowest and not any(signal.moving for signal in curves.signals)
    if then is not None and now is not None and parts and now < 0.9 * then:
        evidence.append(
            f"The validation loss was lowest at update {at} ({lowest:.3g}) and is {last:.3g} at "
            f"update {last_step}, while training went from {then:.3g} to {now:.3g}."
        )
    elif _memorises(curves):
        evidence.append(
            f"The training loss fell to {now:.3g}, and validation is no better than chance "
            f"(loss {last:.3g})."
        )
    if not evidence or score_still_falls(curves, at):
        return None
    advice = (
        "The best model is kept. More recordings or transcripts help most; else fewer updates, "
        "more dropout and masks, speeds and distortion"
        + (", or a pretrained model." if curves.is_finetuning else ", or a smaller model.")
    )
    if curves.is_finetuning and ignores_audio(curves):
        evidence += guessing_evidence(curves)
        advice = f"Check that the transcripts belong to the recordings. {advice}"
    return Finding("overfitting", tuple(evidence), advice)


def _memorises(curves: Curves) -> bool:
    return memorises_ctc(curves) if curves.is_finetuning else memorises_pretext(curves)


def starved(curves: Curves) -> Finding | None:
    """Updates that wait for data."""
    waits = curves.values("speed/wait_share")
    if not waits:
        return None
    waiting = median(waits[len(waits) // 2 :])
    if waiting < _MUCH_WAITING:
        return None
    workers = curves.setting("loop.num_workers")
    return Finding(
        "starved of data",
        (f"The training waits for data in {100 * waiting:.0f} % of its time.",),
        f"Raise --loop.num_workers (now {'chosen' if workers is None else workers}), put the run "
        "on a quicker disk with room for its cache, or leave out slow distortions (reverb, "
        "codecs).",
    )


_NOTHING_LEARNED = (collapsed, latents_collapsed, only_blanks, at_chance)
"""Where a loss that blew up and came back leads."""
