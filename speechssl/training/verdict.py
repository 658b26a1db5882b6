"""What a run's curves say: a named verdict, its evidence, and what to change. Needs no torch.

It reads what is logged (diagnosis.py measures it) and the run's settings, so a run can be judged
at any time, also while it goes on and long after.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

HEALTHY, TOO_EARLY = "healthy", "too early to tell"
UNKNOWN_CHARACTERS = "unknown characters in validation"

_MOST_OF_CHANCE = 0.98
"""A loss above this share of the chance line is at chance."""
_LEAST_SPREAD = 0.01
"""Frames that differ by less of their mean square are all the same."""
_LEAST_RANK = 2.0
_ONLY_BLANKS = 0.97
_NOTHING_RIGHT = 0.9
"""Character error rate from which on nothing has been learned."""
_LITTLE_RIGHT = 0.8
"""What guessing the commonest letters can reach."""
_FAR_FROM_ANYTHING = 2.0
"""A fresh model, which rebuilds about nothing, is at 1."""
_LISTENS = 4.0
"""Standard errors by which the hypotheses must fit their own transcripts better than those of
other utterances, in one validation of the run, to say that they depend on the recordings."""
_FEWER = 0.8
"""Share of the errors against other transcripts, below which the own ones are clearly fewer."""
_SILENCE_DB = -75.0
"""Level below which 16 bits hold little but rounding."""
_OTHER_LEVEL_DB = 25.0
_MANY_UNKNOWN = 0.02
"""Share of the characters in validation that the model cannot output, from which on it is said."""
_MOST_UNKNOWN = 0.3
"""Share from which on error rates say nothing else."""
_DENOISES = 0.1
"""Share of the distortion that a reconstruction must have removed, to be no copy of its input."""
_MUCH_WAITING = 0.3
_MUCH_PADDING = 0.25


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    name: str
    evidence: tuple[str, ...]
    """Sentences with the numbers."""
    advice: str
    """What to change."""


@dataclass(frozen=True)
class Verdict:
    """What is to be said about a run."""

    findings: tuple[Finding, ...]
    """The gravest first; none: healthy, or too early."""
    name: str
    """That of the gravest finding, ``healthy`` or ``too early to tell``."""
    measures: tuple[tuple[str, str], ...]
    """What was measured, for a person: name and value."""


def judge(records: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> Verdict:
    """The verdict on a run, from the lines of its metrics.jsonl and its resolved config."""
    curves = Curves(records, config)
    found = tuple(f for check in _CHECKS if (f := check(curves)) is not None)
    name = found[0].name if found else HEALTHY if _has_begun(curves) else TOO_EARLY
    return Verdict(found, name, tuple(_measures(curves)))


def _has_begun(curves: "Curves") -> bool:
    """Whether there is a validation, and in fine-tuning one whose output depends on the audio."""
    best = min(curves.values("valid/cer"), default=0.0)
    return bool(curves.points("valid/loss")) and best < _NOTHING_RIGHT and not _ignores(curves)


class Curves:
    """The logged numbers by name, and the settings they were logged under."""

    def __init__(self, records: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> None:
        self.config = config
        self._series: dict[str, list[tuple[int, float]]] = {}
        for record in records:
            for name, value in record.items():
                is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
                if is_number and name not in ("step", "time_s"):
                    self._series.setdefault(name, []).append((int(record["step"]), float(value)))

    @property
    def is_finetuning(self) -> bool:
        return "loss/ctc" in self._series or "tokenizer" in self.config

    @property
    def loss(self) -> str:
        """The name of what is minimised."""
        return "loss/ctc" if self.is_finetuning else "loss/total"

    def names(self, prefix: str) -> list[str]:
        return [name for name in self._series if name.startswith(prefix)]

    def points(self, name: str) -> list[tuple[int, float]]:
        """``(step, value)``; empty where it was not logged."""
        return self._series.get(name, [])

    def values(self, name: str) -> list[float]:
        return [value for _, value in self.points(name)]

    def last(self, name: str) -> float | None:
        values = self.values(name)
        return values[-1] if values else None

    def late(self, name: str) -> float | None:
        """Median of the last fifth."""
        values = self.values(name)
        return median(values[-max(len(values) // 5, 1) :]) if values else None

    def early(self, name: str) -> float | None:
        """Median of the first tenth."""
        values = self.values(name)
        return median(values[: max(len(values) // 10, 1)]) if values else None

    def lowest(self, name: str) -> float | None:
        """The smallest median of a tenth of the run."""
        values = self.values(name)
        size = max(len(values) // 10, 1)
        starts = range(0, len(values) - size + 1)
        return min((median(values[i : i + size]) for i in starts), default=None)

    def near(self, name: str, step: int) -> float | None:
        """The median of the few values logged closest to a step."""
        points = sorted(self.points(name), key=lambda point: abs(point[0] - step))[:5]
        return median(value for _, value in points) if points else None

    def setting(self, name: str) -> Any:
        """A setting by its dotted name; None where it is not there."""
        place: Any = self.config
        for part in name.split("."):
            place = place.get(part) if isinstance(place, Mapping) else None
        return place


# ---- checks, the gravest first ------------------------------------------------------------------


def _diverging(curves: Curves) -> Finding | None:
    name = curves.loss
    steps = [step for step, _ in curves.points("faults/not_finite")]
    steps += [s for n in curves.names("loss/") for s, v in curves.points(n) if not math.isfinite(v)]
    advice = f"Lower the learning rate, e.g. to a third{_lr(curves)}, or lengthen the warm-up."
    if steps:
        reason = f"At update {min(steps)} the loss or its gradient was not a finite number."
        return Finding("diverging", (reason,), f"{advice} Look at the recordings it named.")
    far = [(_share_of_mean(curves, f, "unmasked") or 0.0, f) for f in _features(curves)]
    if far and max(far)[0] > _FAR_FROM_ANYTHING:
        share, feature = max(far)
        reason = (
            f"The rebuilt {feature} is {100 * share:.0f} % as far from the clean speech as the "
            "mean of each bin is: a fresh model is nearer."
        )
        return Finding("diverging", (reason,), advice)
    first, low, last = curves.early(name), curves.lowest(name), curves.late(name)
    if first is None or low is None or last is None or len(curves.values(name)) < 5:
        return None
    learned, most = first - low, max(curves.values(name))
    given_back = learned > 0.2 * abs(first) and last > low + 0.5 * learned
    blew_up = most > 3 * abs(first) and any(check(curves) for check in _NOTHING_LEARNED)
    if last <= first + 0.1 * abs(first) + 0.05 and not given_back and not blew_up:
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


def _silent(curves: Curves) -> Finding | None:
    train, valid = curves.late("data/level_db"), curves.last("valid/data/level_db")
    levels = {"training": train, "validation": valid}
    silent = [what for what, db in levels.items() if db is not None and db < _SILENCE_DB]
    if not silent:
        return None
    evidence = [
        f"The recordings of the {' and the '.join(silent)} set are silent: {_levels(curves)}."
    ]
    return Finding(
        "silent recordings",
        tuple(evidence),
        "Listen to a few of them and look at their paths, channels and sample format; then run "
        "`prepare` again, which leaves out what is silent.",
    )


def _other_level(curves: Curves) -> Finding | None:
    """Only where something else is wrong: most models normalise their input."""
    train, valid = curves.late("data/level_db"), curves.last("valid/data/level_db")
    if train is None or valid is None or abs(train - valid) < _OTHER_LEVEL_DB:
        return None
    if _silent(curves) or not (_at_chance(curves) or _overfitting(curves)):
        return None
    return Finding(
        "levels differ",
        (f"Training and validation recordings differ in level: {_levels(curves)}.",),
        "Look whether both sets come from the same recordings and through the same conversion; "
        "bring them to about the same level.",
    )


def _levels(curves: Curves) -> str:
    levels = {"training": curves.late("data/level_db")}
    levels["validation"] = curves.last("valid/data/level_db")
    return ", ".join(f"{what} {db:.0f} dB" for what, db in levels.items() if db is not None) + (
        " of full scale (speech is between -40 and -15)"
    )


def _unknown_characters(curves: Curves) -> Finding | None:
    share, utterances = _unknown(curves), curves.last("valid/unknown/utterances") or 0.0
    if share < _MANY_UNKNOWN:
        return None
    return Finding(
        UNKNOWN_CHARACTERS,
        (
            f"{100 * share:.1f} % of the characters in the validation transcripts are not in the "
            f"model's vocabulary ({100 * utterances:.0f} % of the utterances hold some). It cannot "
            "output them, so the character error rate cannot fall below that.",
        ),
        "Bring the transcripts of both sets into the same form (case, alphabet, digits, "
        "punctuation, Unicode form), or train on transcripts that hold these characters.",
    )


def _unknown(curves: Curves) -> float:
    """Share of the characters in validation that the model does not know."""
    return curves.last("valid/unknown/characters") or 0.0


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


def _codebook_collapse(curves: Curves) -> Finding | None:
    entries = curves.setting("contrastive.entries") or 320
    evidence = []
    for name in curves.names("valid/quantizer/perplexity_"):
        value, group = curves.last(name), name.rsplit("_", 1)[1]
        if value is not None and value < max(2.0, 0.03 * entries):
            evidence.append(
                f"Group {group} of the codebook uses {value:.1f} of its {entries} codes "
                "(perplexity over the validation set)."
            )
    if not evidence:
        return None
    return Finding(
        "codebook collapse",
        tuple(evidence),
        "Raise contrastive.diversity_weight "
        f"(now {curves.setting('contrastive.diversity_weight')}; 0.1 is usual), lower the learning "
        "rate, or take fixed targets, which cannot collapse: --contrastive.quantizer kmeans.",
    )


def _latents_collapsed(curves: Curves) -> Finding | None:
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
        "the weight decay and contrastive.feature_penalty, which pull everything to zero.",
    )


def _only_blanks(curves: Curves) -> Finding | None:
    blanks, cer = curves.last("valid/blank_rate"), curves.last("valid/cer")
    if blanks is None or cer is None or blanks < _ONLY_BLANKS or cer < _NOTHING_RIGHT:
        return None
    step = curves.points("valid/cer")[-1][0]
    evidence = [
        f"{100 * blanks:.1f} % of the frames are blank and the character error rate is "
        f"{100 * cer:.0f} % after {step} updates."
    ]
    if (change := _late_change(curves, curves.loss)) is not None:
        evidence.append(f"The loss changed by {100 * change:.1f} % in the last third of the run.")
    return Finding(
        "only blanks",
        tuple(evidence),
        "Every CTC model begins on this plateau. Give it more updates, a higher learning rate"
        f"{_lr(curves)}, more transcripts or a pretrained model; leave masks and dropout out until "
        "it writes (mask_from_share, dropout). Check that the transcripts belong to the "
        "recordings.",
    )


def _at_chance(curves: Curves) -> Finding | None:
    return _ctc_at_chance(curves) if curves.is_finetuning else _pretext_at_chance(curves)


def _ctc_at_chance(curves: Curves) -> Finding | None:
    best, change = min(curves.values("valid/cer"), default=0.0), _late_change(curves, curves.loss)
    guesses = best >= _NOTHING_RIGHT or _ignores(curves)
    if not guesses or change is None or _unknown(curves) > _MOST_UNKNOWN or _memorises(curves):
        return None
    if change < -0.03 and not _standstill(curves) and not _only_spells(curves):
        return None
    evidence = [
        f"The best character error rate is {100 * best:.0f} %: the output has nothing to do with "
        "what was said."
    ]
    if _ignores(curves):
        evidence += _guessing(curves)
    evidence.append(
        f"The training loss changed by {100 * change:.1f} % in the last third of the run."
    )
    advice = _SWAPPED_ADVICE if _only_spells(curves) else _CHANCE_ADVICE + _lr(curves) + "."
    return Finding("at chance", tuple(evidence), advice)


def _standstill(curves: Curves) -> bool:
    """Whether the validation loss has stopped falling while the output ignores the audio."""
    change = _late_change(curves, "valid/loss")
    return _ignores(curves) and change is not None and change > -0.02


def _only_spells(curves: Curves) -> bool:
    """Whether several validation losses are below the unigram entropy although the output ignores
    the audio: it has learned how transcripts are spelled, and goes on learning that."""
    chance = curves.last("valid/ctc/chance") or 0.0
    below = [loss for loss in curves.values("valid/loss") if loss < _MOST_OF_CHANCE * chance]
    return len(below) >= 3 and _ignores(curves)


def _ignores(curves: Curves) -> bool:
    """Whether the output never depended on the audio in any validation.

    It does where the hypotheses fit their own transcripts better than those of other utterances: by
    some standard errors, or, as few utterances show no more, by a fifth of the errors. In a run of
    an earlier version, which did not compare them, it does where the CTC loss fell below the
    unigram entropy of the symbols. (Of a closed set of words letters predict each other, and
    swapped transcripts reach that as well.)
    """
    names = ("valid/permuted/z", "valid/permuted/cer", "valid/cer")
    compared = list(zip(*map(curves.values, names), strict=False))
    if compared:
        return not any(z >= _LISTENS or own < _FEWER * other for z, other, own in compared)
    return _above_chance(curves)


def _above_chance(curves: Curves) -> bool:
    """Whether the CTC loss in validation was never below the unigram entropy of the symbols."""
    chance, lowest = curves.last("valid/ctc/chance"), min(curves.values("valid/loss"), default=0.0)
    return chance is not None and lowest > _MOST_OF_CHANCE * chance


def _guessing(curves: Curves) -> list[str]:
    """The evidence of :func:`_ignores`."""
    evidence = []
    own, other = curves.last("valid/cer"), curves.last("valid/permuted/cer")
    if own is not None and other is not None:
        evidence.append(
            f"The output fits the transcripts of other utterances (character error rate "
            f"{100 * other:.0f} %) as well as its own ({100 * own:.0f} %): it does not depend on "
            "the recording."
        )
        if _only_spells(curves):
            evidence.append(
                f"The CTC loss in validation ({curves.last('valid/loss'):.3f} per symbol) is below "
                f"the entropy of the symbols ({curves.last('valid/ctc/chance'):.3f}) all the same: "
                "the model has learned how the transcripts are spelled."
            )
    if _above_chance(curves):
        evidence.append(
            f"The CTC loss in validation was never below {min(curves.values('valid/loss')):.3f} "
            "per symbol; who knows when each is said, and of the symbols only how frequent they "
            f"are, has {curves.last('valid/ctc/chance'):.3f}."
        )
    return evidence


_SWAPPED_ADVICE = (
    "Check that the transcripts belong to the recordings, in training and in validation: listen to "
    "a few of each. If they do, give it more updates."
)
_CHANCE_ADVICE = (
    "Give it more updates; if the loss does not move at all, raise the learning rate. Check that "
    "targets and recordings belong together"
)


def _pretext_at_chance(curves: Curves) -> Finding | None:
    evidence = []
    loss, chance = curves.last("valid/contrastive"), chance_line(curves)
    contrasts = loss is not None and chance is not None
    if loss is not None and chance is not None and loss > _MOST_OF_CHANCE * chance:
        evidence.append(
            f"The contrastive loss in validation is {loss:.3f}; who knows how frequent the targets "
            f"are, and does not listen, has {chance:.3f}."
        )
        used = curves.last("valid/quantizer/predicted_perplexity")
        if used is not None:
            evidence.append(
                f"Its guesses are spread over {used:.1f} codes (perplexity), the targets over "
                f"{math.exp(chance):.1f}."
            )
    for feature in _features(curves):
        shares = [_share_of_mean(curves, feature, where) for where in ("masked", "unmasked")]
        told = [share for share in shares if share is not None]
        if told and min(told) > _MOST_OF_CHANCE and (evidence or not contrasts):
            evidence.append(
                f"The {feature} is rebuilt no better than by the mean of each bin (distance "
                f"{100 * min(told):.0f} % of its)."
            )
    if not evidence or _memorises(curves):
        return None
    norms = [(n.split("/")[1], curves.late(n)) for n in curves.names("grad_norm/")]
    if norms:
        listed = ", ".join(f"{part} {norm:.2g}" for part, norm in norms if norm is not None)
        evidence.append(f"Gradient norms: {listed}.")
    return Finding("at chance", tuple(evidence), _CHANCE_ADVICE + _lr(curves) + ".")


def chance_line(curves: Curves) -> float | None:
    """The contrastive loss of whoever does not listen, nats; as logged, else from the settings."""
    if (logged := curves.last("valid/contrastive/chance")) is not None:
        return logged
    if not curves.points("valid/contrastive"):
        return None
    if curves.setting("contrastive.quantizer") == "gumbel":
        return math.log(1 + (curves.setting("contrastive.num_negatives") or 100))
    if (used := curves.last("valid/quantizer/perplexity")) is not None:  # version 0.1 logged this
        return math.log(used)
    return math.log(curves.setting("contrastive.entries") or 320)


def _copy(curves: Curves) -> Finding | None:
    for feature in _features(curves):
        stem = f"valid/reconstruction/{feature}_"
        names = ("unmasked", "to_heard", "copy", "unmasked_mean", "masked", "masked_mean")
        validations = list(zip(*(curves.values(stem + name) for name in names), strict=False))
        # In two validations one after the other, where there are two: one may be a close call.
        if not validations or not all(_is_copy(*values) for values in validations[-2:]):
            continue
        error, given, copied, _, hidden, hidden_mean = validations[-1]
        return Finding(
            "reconstruction is a copy",
            (
                f"On frames that are not masked, the rebuilt {feature} is {given:.3f} from the "
                f"input and {error:.3f} from the clean speech; copying the input would give "
                f"{copied:.3f}.",
                f"On masked frames it is no help: {100 * hidden / hidden_mean:.0f} % of the "
                "distance that the mean of each bin has.",
            ),
            "Give it something to repair: raise reconstruction.masked_weight and mask_share, and "
            "distort the input (distortion).",
        )
    return None


def _is_copy(
    error: float, given: float, copied: float, mean: float, hidden: float, hidden_mean: float
) -> bool:
    """Whether what is rebuilt follows the input on unmasked frames and nothing on masked ones.

    All are distances: rebuilt to clean, rebuilt to input, input to clean and mean to clean on
    unmasked frames, rebuilt and mean to clean on masked ones. By the triangle inequality ``given -
    error`` lies between ``-copied`` (a copy) and ``copied`` (all distortion is removed), which is
    the scale on which a reconstruction that repairs is told from one that copies; how near it comes
    to either says how well it is trained.
    """
    if not mean or not hidden_mean:
        return False
    follows, guesses = 1 - error / mean, 1 - hidden / hidden_mean
    return follows >= 0.1 and guesses <= 0.5 * follows and given - error <= _DENOISES * copied


def _overfitting(curves: Curves) -> Finding | None:
    points = curves.points("valid/loss")
    if len(points) < 2 or _silent(curves) or _unknown(curves) > _MOST_UNKNOWN:
        return None
    at, lowest = min(points, key=lambda point: point[1])
    last_step, last = points[-1]
    then, now = curves.near(curves.loss, at), curves.late(curves.loss)
    evidence = []
    if then is not None and now is not None and last > 1.15 * lowest and now < 0.9 * then:
        evidence.append(
            f"The validation loss was lowest at update {at} ({lowest:.3g}) and is {last:.3g} at "
            f"update {last_step}, while training went from {then:.3g} to {now:.3g}."
        )
    elif _memorises(curves):
        evidence.append(
            f"The training loss fell to {now:.3g}, and validation is no better than chance "
            f"(loss {last:.3g})."
        )
    if not evidence or _score_still_falls(curves, at):
        return None
    advice = (
        "The best model is kept. More recordings or transcripts help most; else fewer updates, "
        "more dropout and masks, speeds and distortion"
        + (", or a pretrained model." if curves.is_finetuning else ", or a smaller model.")
    )
    if curves.is_finetuning and _ignores(curves):
        evidence += _guessing(curves)
        advice = f"Check that the transcripts belong to the recordings. {advice}"
    return Finding("overfitting", tuple(evidence), advice)


def _score_still_falls(curves: Curves, step: int) -> bool:
    """Whether the character error rate went on falling after `step`: then a rising loss only says
    that the model is surer of its errors."""
    before = [value for at, value in curves.points("valid/cer") if at <= step]
    after = [value for at, value in curves.points("valid/cer") if at > step]
    return bool(before and after) and min(after) < min(0.95 * min(before), _LITTLE_RIGHT)


def _memorises(curves: Curves) -> bool:
    """Whether training fell far below a validation that has learned nothing."""
    if curves.is_finetuning:
        best, loss = min(curves.values("valid/cer"), default=0.0), curves.last("valid/loss")
        now = curves.late("loss/ctc")
        if now is None or loss is None:
            return False
        return (best > _LITTLE_RIGHT or _ignores(curves)) and now < 0.5 * loss
    chance, loss = chance_line(curves), curves.last("valid/contrastive")
    now = curves.late("loss/contrastive")
    if chance is None or now is None or loss is None:
        return False
    return loss > _MOST_OF_CHANCE * chance and now < 0.8 * chance


def _starved(curves: Curves) -> Finding | None:
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
        f"Raise --loop.num_workers (now {workers}), put the run on a quicker disk with room for "
        "its cache, or leave out slow distortions (reverb, codecs).",
    )


_NOTHING_LEARNED = (_codebook_collapse, _latents_collapsed, _only_blanks, _at_chance)
"""Where a loss that blew up and came back leads."""
_CHECKS: tuple[Callable[[Curves], Finding | None], ...] = (
    _diverging,
    _silent,
    _unknown_characters,
    _codebook_collapse,
    _only_blanks,
    _latents_collapsed,
    _at_chance,
    _copy,
    _other_level,
    _overfitting,
    _starved,
)


# ---- what was measured --------------------------------------------------------------------------


def _measures(curves: Curves) -> list[tuple[str, str]]:
    """Every measure that the run has, for a person."""
    rows: list[tuple[str, str]] = []

    def add(title: str, name: str, form: Callable[[float], str]) -> None:
        if (value := curves.last(name)) is not None:
            rows.append((title, form(value)))

    chance = chance_line(curves)
    if chance is not None:
        add("contrastive loss", "valid/contrastive", lambda v: f"{v:.3f}, at chance {chance:.3f}")
    add("codes guessed", "valid/quantizer/predicted_perplexity", lambda v: f"{v:.1f} (perplexity)")
    for name in curves.names("valid/quantizer/perplexity_"):
        group, used = name.rsplit("_", 1)[1], name.replace("/perplexity_", "/used_")
        add(
            f"codes of group {group}",
            name,
            lambda v, used=used: f"{v:.1f} (perplexity), {curves.last(used):.0f} used",  # type: ignore[misc]
        )
    add("masked frames", "mask/share", _percent)
    for feature in _features(curves):
        rows.append((f"rebuilt {feature}", _rebuilt(curves, feature)))
    add("latents, rank", "valid/health/latent_rank", lambda v: f"{v:.1f}")
    add("latents, share that varies", "valid/health/latent_spread", _percent)
    add("context, rank", "valid/health/rank", lambda v: f"{v:.1f}")
    add("context, share that varies", "valid/health/spread", _percent)
    for name in curves.names("grad_norm/"):
        rows.append((f"gradient of {name.split('/')[1]}", f"{curves.late(name):.3g}"))
    if curves.is_finetuning:
        level = curves.last("valid/ctc/chance")
        beside = "" if level is None else f", at chance {level:.3f}"
        add("CTC loss in validation", "valid/loss", lambda v: f"{v:.3f}{beside}")
    add("character error rate", "valid/cer", _percent)
    z = curves.last("valid/permuted/z")
    add(
        "of other utterances' text",
        "valid/permuted/cer",
        lambda v: f"{_percent(v)} ({z or 0:.1f} standard errors apart)",
    )
    add("unknown characters", "valid/unknown/characters", _percent)
    add("word error rate", "valid/wer", _percent)
    add("blank frames", "valid/blank_rate", _percent)
    if curves.points("data/level_db"):
        rows.append(("level of the recordings", _levels(curves).partition(" of full")[0]))
    for title, name in (("waiting for data", "wait_share"), ("padding", "padding_share")):
        if (value := curves.late(f"speed/{name}")) is not None:
            much = " (much: sort by length, or smaller batches)" if value > _MUCH_PADDING else ""
            rows.append((title, _percent(value) + (much if name == "padding_share" else "")))
    return rows


def _rebuilt(curves: Curves, feature: str) -> str:
    """The distances of a feature, beside the baselines."""
    stem = f"valid/reconstruction/{feature}_"
    parts = []
    for where, baselines in (("masked", ("mean",)), ("unmasked", ("mean", "copy"))):
        if (error := curves.last(stem + where)) is None:
            continue
        names = {"mean": f"{where}_mean", "copy": "copy"}
        found = [(b, curves.last(stem + names[b])) for b in baselines]
        beside = ", ".join(f"{b} {value:.3f}" for b, value in found if value is not None)
        parts.append(f"{where} {error:.3f} ({beside})")
    return ", ".join(parts)


def _features(curves: Curves) -> list[str]:
    names = curves.names("valid/reconstruction/")
    stems = [n.rsplit("/", 1)[1] for n in names if n.endswith(("_masked", "_unmasked"))]
    return list(dict.fromkeys(stem.rsplit("_", 1)[0] for stem in stems))


def _share_of_mean(curves: Curves, feature: str, where: str) -> float | None:
    """The distance of what is rebuilt over that of each bin's mean."""
    stem = f"valid/reconstruction/{feature}_{where}"
    error, mean = curves.last(stem), curves.last(f"{stem}_mean")
    return None if error is None or not mean else error / mean


def _late_change(curves: Curves, name: str) -> float | None:
    """Relative change of the median from the middle third to the last one."""
    values = curves.values(name)
    third = len(values) // 3
    if third < 2:
        return None
    middle, last = median(values[third : 2 * third]), median(values[-third:])
    return (last - middle) / max(abs(middle), 1e-9)


def _lr(curves: Curves) -> str:
    lr = curves.setting("optim.lr")
    return f" (optim.lr is {lr:g})" if isinstance(lr, (int, float)) else ""


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
