"""What can be wrong with a pretraining, from its curves: a codebook that has collapsed, a loss at
chance, a reconstruction that copies. Needs no torch.
"""

import math

from speechssl.training.curves import (
    CHANCE_ADVICE,
    MOST_OF_CHANCE,
    Curves,
    Finding,
    chance_line,
    features,
    lr_note,
    share_of_mean,
)

_DENOISES = 0.1
"""Share of the distortion that a reconstruction must have removed, to be no copy of its input."""


def codebook_collapse(curves: Curves) -> Finding | None:
    """Few codes in use."""
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


def pretext_at_chance(curves: Curves) -> Finding | None:
    """Predictions that are no better than without the audio."""
    evidence = []
    loss, chance = curves.last("valid/contrastive"), chance_line(curves)
    contrasts = loss is not None and chance is not None
    if loss is not None and chance is not None and loss > MOST_OF_CHANCE * chance:
        evidence.append(
            f"The contrastive loss in validation is {loss:.3f}; a model that knows how frequent "
            f"the targets are, and ignores the audio, reaches {chance:.3f}."
        )
        used = curves.last("valid/quantizer/predicted_perplexity")
        if used is not None:
            evidence.append(
                f"Its guesses are spread over {used:.1f} codes (perplexity), the targets over "
                f"{math.exp(chance):.1f}."
            )
    for feature in features(curves):
        shares = [share_of_mean(curves, feature, where) for where in ("masked", "unmasked")]
        told = [share for share in shares if share is not None]
        if told and min(told) > MOST_OF_CHANCE and (evidence or not contrasts):
            evidence.append(
                f"The {feature} is rebuilt no better than by the mean of each bin (distance "
                f"{100 * min(told):.0f} % of its)."
            )
    if not evidence or memorises_pretext(curves):
        return None
    norms = [(n.split("/")[1], curves.late(n)) for n in curves.names("grad_norm/")]
    if norms:
        listed = ", ".join(f"{part} {norm:.2g}" for part, norm in norms if norm is not None)
        evidence.append(f"Gradient norms: {listed}.")
    return Finding("at chance", tuple(evidence), CHANCE_ADVICE + lr_note(curves) + ".")


def memorises_pretext(curves: Curves) -> bool:
    """Whether training fell far below a validation that is at chance."""
    chance, loss = chance_line(curves), curves.last("valid/contrastive")
    now = curves.late("loss/contrastive")
    if chance is None or now is None or loss is None:
        return False
    return loss > MOST_OF_CHANCE * chance and now < 0.8 * chance


def copy(curves: Curves) -> Finding | None:
    """A reconstruction that passes its input on."""
    for feature in features(curves):
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
