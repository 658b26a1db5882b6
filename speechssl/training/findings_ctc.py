"""What can be wrong with a fine-tuning, from its curves: characters that the model does not know,
only blanks, output that ignores the audio. Needs no torch.
"""

from speechssl.training.curves import (
    CHANCE_ADVICE,
    MOST_OF_CHANCE,
    Curves,
    Finding,
    late_change,
    lr_note,
)

UNKNOWN_CHARACTERS = "unknown characters in validation"

_ONLY_BLANKS = 0.97

NOTHING_RIGHT = 0.9
"""Character error rate from which on nothing has been learned."""

_LITTLE_RIGHT = 0.8
"""What guessing the commonest letters can reach."""

_LISTENS = 4.0
"""Standard errors by which the hypotheses must fit their own transcripts better than those of
other utterances, in one validation of the run, to say that they depend on the recordings."""

_FEWER = 0.7
"""Share of the errors against other transcripts, below which the own ones are clearly fewer."""

_MANY_UNKNOWN = 0.02
"""Share of the characters in validation that the model cannot output, from which on it is said."""

MOST_UNKNOWN = 0.3
"""Share from which on error rates say nothing else."""


def unknown_characters(curves: Curves) -> Finding | None:
    """Validation transcripts with characters that the vocabulary lacks."""
    share, utterances = unknown_share(curves), curves.last("valid/unknown/utterances") or 0.0
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


def unknown_share(curves: Curves) -> float:
    """Share of the characters in validation that the model does not know."""
    return curves.last("valid/unknown/characters") or 0.0


def only_blanks(curves: Curves) -> Finding | None:
    """Hardly any output."""
    blanks, cer = curves.last("valid/blank_rate"), curves.last("valid/cer")
    if blanks is None or cer is None or blanks < _ONLY_BLANKS or cer < NOTHING_RIGHT:
        return None
    step = curves.points("valid/cer")[-1][0]
    evidence = [
        f"{100 * blanks:.1f} % of the frames are blank and the character error rate is "
        f"{100 * cer:.0f} % after {step} updates."
    ]
    if (change := late_change(curves, curves.loss)) is not None:
        evidence.append(f"The loss changed by {100 * change:.1f} % in the last third of the run.")
    return Finding(
        "only blanks",
        tuple(evidence),
        "Every CTC model begins on this plateau. Give it more updates, a higher learning rate"
        f"{lr_note(curves)}, more transcripts or a pretrained model; use no masks and no dropout "
        "until it outputs text (mask_from_share, dropout). Check that the transcripts belong to "
        "the recordings.",
    )


def ctc_at_chance(curves: Curves) -> Finding | None:
    """Output that has nothing to do with the recordings, and no sign that this changes."""
    best, change = min(curves.values("valid/cer"), default=0.0), late_change(curves, curves.loss)
    guesses = best >= NOTHING_RIGHT or ignores_audio(curves)
    if not guesses or change is None or memorises_ctc(curves):
        return None
    if unknown_share(curves) > MOST_UNKNOWN:
        return None
    if change < -0.03 and not _standstill(curves) and not _only_spells(curves):
        return None
    evidence = [
        f"The best character error rate is {100 * best:.0f} %: the output has nothing to do with "
        "what was said."
    ]
    if ignores_audio(curves):
        evidence += guessing_evidence(curves)
    evidence.append(
        f"The training loss changed by {100 * change:.1f} % in the last third of the run."
    )
    advice = _SWAPPED_ADVICE if _only_spells(curves) else CHANCE_ADVICE + lr_note(curves) + "."
    return Finding("at chance", tuple(evidence), advice)


def _standstill(curves: Curves) -> bool:
    """Whether the validation loss has stopped falling while the output ignores the audio."""
    change = late_change(curves, "valid/loss")
    return ignores_audio(curves) and change is not None and change > -0.02


def _only_spells(curves: Curves) -> bool:
    """Whether several validation losses are below the unigram entropy although the output ignores
    the audio: it has learned how transcripts are spelled, and goes on learning that."""
    chance = curves.last("valid/ctc/chance") or 0.0
    below = [loss for loss in curves.values("valid/loss") if loss < MOST_OF_CHANCE * chance]
    return len(below) >= 3 and ignores_audio(curves)


def ignores_audio(curves: Curves) -> bool:
    """Whether the output never depended on the audio in any validation.

    It depends on it where the hypotheses fit their own transcripts better than those of other
    utterances: by some standard errors, or, as few utterances show no more, by three tenths of
    the errors. Runs of earlier versions did not compare them; there the sign is a CTC loss below
    the unigram entropy of the symbols, which swapped transcripts of a closed set of words reach
    too, as their letters predict each other.
    """
    names = ("valid/permuted/z", "valid/permuted/cer", "valid/cer")
    compared = list(zip(*map(curves.values, names), strict=False))
    if compared:
        return not any(z >= _LISTENS or own < _FEWER * other for z, other, own in compared)
    return curves.is_finetuning and _above_chance(curves)  # the task ctc logs the same names


def _above_chance(curves: Curves) -> bool:
    """Whether the CTC loss in validation was never below the unigram entropy of the symbols."""
    chance, lowest = curves.last("valid/ctc/chance"), min(curves.values("valid/loss"), default=0.0)
    return chance is not None and lowest > MOST_OF_CHANCE * chance


def guessing_evidence(curves: Curves) -> list[str]:
    """The evidence of :func:`ignores_audio`."""
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
            "per symbol; a model that knows when each is said, and of the symbols only how "
            f"frequent they are, reaches {curves.last('valid/ctc/chance'):.3f}."
        )
    return evidence


def score_still_falls(curves: Curves, step: int) -> bool:
    """Whether the character error rate went on falling after `step`: then a rising loss only says
    that the model is surer of its errors."""
    before = [value for at, value in curves.points("valid/cer") if at <= step]
    after = [value for at, value in curves.points("valid/cer") if at > step]
    return bool(before and after) and min(after) < min(0.95 * min(before), _LITTLE_RIGHT)


def memorises_ctc(curves: Curves) -> bool:
    """Whether training fell far below a validation that has learned nothing."""
    best, loss = min(curves.values("valid/cer"), default=0.0), curves.last("valid/loss")
    now = curves.late("loss/ctc")
    if now is None or loss is None:
        return False
    return (best > _LITTLE_RIGHT or ignores_audio(curves)) and now < 0.5 * loss


_SWAPPED_ADVICE = (
    "Check that the transcripts belong to the recordings, in training and in validation: listen to "
    "a few of each. If they do, give it more updates."
)
