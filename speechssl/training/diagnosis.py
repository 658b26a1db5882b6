"""Numbers that tell a healthy run from a sick one, measured while it runs; verdict.py reads them.

Shapes: B batch, S samples, T frames, C latent channels, D width, N valid frames of the batch.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

import torch
from torch import Tensor, nn

from speechssl import distributed, shapes
from speechssl.data.dataset import Batch
from speechssl.device import double
from speechssl.model.speech_model import SpeechOutput
from speechssl.rng import rng
from speechssl.scoring.wer import character_errors

_MOST_FRAMES = 4096
_BETWEEN = ("latent_norm", "project", "mask_embedding")
"""What lies between encoder and context network, and is one part with it."""
_LOWEST_DB = -120.0
"""Level of digital silence, and of anything below."""
_NEIGHBOURS = 2
"""On each side: utterances of about the same length whose transcripts are compared."""
_MIN_COMPARED = 8
"""Utterances below which the comparison is not made."""


def level_db(batches: Iterable[Batch]) -> float:
    """Level of the undistorted waves of some batches, root mean square in dB of full scale; -120
    for digital silence."""
    energy, num_samples = 0.0, 0
    for batch in batches:
        energy += float(double(batch.clean).square().sum())  # the padding is zero
        num_samples += batch.num_samples
    power = energy / max(num_samples, 1)
    return max(10 * math.log10(power), _LOWEST_DB) if power > 0 else _LOWEST_DB


def permuted_errors(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """Whether the hypotheses depend on the recordings: how well each fits its own transcript, and
    how well those of other utterances.

    A model that ignores the recordings outputs what fits its own transcript no better than the
    next, whatever language model of the transcripts it has learned; a loss below the unigram
    entropy does not show that. Each hypothesis is compared with the transcripts of the utterances
    next to it in length (where they differ from its own), so that a model that only knows how long
    a recording is gains nothing. Under that null hypothesis own and other transcripts are
    exchangeable, and the mean difference of errors is zero.

    Returns:
        ``permuted/cer``, the character error rate (a fraction) against the transcripts of the
        others, and ``permuted/z``, the mean difference to the own one (errors per character) over
        its standard error. Empty for fewer than 8 utterances with another transcript beside them.
    """
    ties = rng(0, "permuted").random(len(references))  # equal lengths in random order
    order = sorted(range(len(references)), key=lambda i: (len(references[i]), ties[i]))
    pairs: list[tuple[int, int]] = []  # hypothesis, transcript
    for place, own in enumerate(order):
        near = order[max(place - _NEIGHBOURS, 0) : place + _NEIGHBOURS + 1]
        pairs += [(own, i) for i in near if references[i] != references[own]]
    compared = sorted({own for own, _ in pairs})
    if len(compared) < _MIN_COMPARED:
        return {}
    pairs += [(own, own) for own in compared]
    errors = character_errors(
        [references[i] for _, i in pairs], [hypotheses[own] for own, _ in pairs]
    )
    others: dict[int, list[int]] = {own: [] for own in compared}
    correct: dict[int, int] = {}
    for (own, i), num in zip(pairs, errors, strict=True):
        if i == own:
            correct[own] = num
        else:
            others[own].append(num)
    sizes = {own: max(len(references[own]), 1) for own in compared}
    gains = [(fmean(others[own]) - correct[own]) / sizes[own] for own in compared]
    error = max(stdev(gains) / math.sqrt(len(gains)), 1e-3)  # so that z is finite
    return {
        "permuted/cer": sum(fmean(others[own]) for own in compared) / sum(sizes.values()),
        "permuted/z": fmean(gains) / error,
    }


@torch.no_grad()
def frame_health(output: SpeechOutput) -> dict[str, float]:
    """Size and spread of the latents and of the context network's frames.

    A pretraining loss can fall while the residual stream runs away: its root mean square grows
    before the first layer, the layers above add little, and the effective rank of the output
    falls. Neither shows in the loss; both show here.

    Args:
        output: with `hidden`.

    Returns:
        ``health/rms_first`` and ``health/rms_last`` of the first layer's input and the last layer's
        output, ``health/rank`` and ``health/latent_rank`` the effective ranks of context and
        latents, ``health/spread`` and ``health/latent_spread`` which share of their mean square
        differs between frames (0: all frames are the same), ``health/similarity`` mean cosine of
        neighbours in time.
    """
    valid = shapes.length_mask(output.lengths, output.context.shape[1])
    context, latents = output.context[valid].float(), output.latents[valid].float()  # (N, D or C)
    centred = context - context.mean(0)
    similarity = torch.cosine_similarity(centred[:-1], centred[1:], dim=1).mean()
    return {
        "health/rms_first": float(output.hidden[0][valid].float().square().mean().sqrt()),
        "health/rms_last": float(context.square().mean().sqrt()),
        "health/rank": effective_rank(context),
        "health/spread": share_that_varies(context),
        "health/latent_rank": effective_rank(latents),
        "health/latent_spread": share_that_varies(latents),
        "health/similarity": float(similarity.nan_to_num()),
    }


def effective_rank(frames: Tensor) -> float:
    """exp of the entropy of the singular values of centred frames (N, D), which are normalised to
    a sum of one (Roy and Vetterli 2007): how many directions they fill, from 1 to D."""
    share = torch.linalg.svdvals((frames - frames.mean(0))[:_MOST_FRAMES])
    return float(torch.special.entr(share / share.sum().clamp_min(1e-9)).sum().exp())


def share_that_varies(frames: Tensor) -> float:
    """Share of the mean square of frames (N, D) that differs from frame to frame, in [0, 1]."""
    varies = (frames - frames.mean(0)).square().mean()
    return float(varies / frames.square().mean().clamp_min(1e-12))


@torch.no_grad()
def gradient_norms(modules: nn.Module) -> dict[str, float]:
    """Norm of the gradient of each part that has one: ``grad_norm/encoder``, ``project`` (what lies
    between encoder and context), ``context``, and each head."""
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in modules.named_parameters():
        if parameter.grad is not None:
            words = name.split(".")
            part = words[1] if words[0] in ("model", "speech") else words[0]
            part = "project" if part in _BETWEEN else part
            parts.setdefault(part, []).append(parameter.grad)
    if not parts:
        return {}
    norms = [distributed.whole(nn.utils.get_total_norm(grads)) for grads in parts.values()]
    values = torch.stack(norms).tolist()  # in one transfer
    return {f"grad_norm/{part}": value for part, value in zip(parts, values, strict=True)}
