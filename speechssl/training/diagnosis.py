"""Numbers that tell a healthy run from a sick one, measured while it runs; verdict.py reads them.

Shapes: B batch, T frames, C latent channels, D width, N valid frames of the batch.
"""

import torch
from torch import Tensor, nn

from speechssl import distributed, shapes
from speechssl.model.speech_model import SpeechOutput
from speechssl.objectives.contrastive import perplexity
from speechssl.objectives.features import CleanSpeech
from speechssl.objectives.reconstruction import ReconstructionTask

_MOST_FRAMES = 4096
_BETWEEN = ("latent_norm", "project", "mask_embedding")
"""What lies between encoder and context network, and is one part with it."""


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
        "health/spread": spread(context),
        "health/latent_rank": effective_rank(latents),
        "health/latent_spread": spread(latents),
        "health/similarity": float(similarity.nan_to_num()),
    }


def effective_rank(frames: Tensor) -> float:
    """exp of the entropy of the singular values of centred frames (N, D), which are normalised to
    a sum of one (Roy and Vetterli 2007): how many directions they fill, from 1 to D."""
    share = torch.linalg.svdvals((frames - frames.mean(0))[:_MOST_FRAMES])
    return float(torch.special.entr(share / share.sum().clamp_min(1e-9)).sum().exp())


def spread(frames: Tensor) -> float:
    """Share of the mean square of frames (N, D) that differs from frame to frame, in [0, 1]."""
    varies = (frames - frames.mean(0)).square().mean()
    return float(varies / frames.square().mean().clamp_min(1e-12))


def code_health(tallies: dict[str, Tensor]) -> dict[str, float]:
    """What the counts of codes over a whole validation say; see :class:`..loss.TaskLoss`.

    Fixed codes: ``contrastive/chance``, the loss of whoever knows how frequent each code is but
    does not listen (the entropy of the targets, nats), and ``quantizer/predicted_perplexity``.
    Learned ones: ``quantizer/perplexity_group_N`` and ``quantizer/used_group_N`` of each group.
    """
    found = {}
    for name, tally in tallies.items():
        if name == "targets":
            found["contrastive/chance"] = float(perplexity(tally).log())
        elif name == "predicted":
            found["quantizer/predicted_perplexity"] = float(perplexity(tally))
        else:
            found[f"quantizer/perplexity_{name}"] = float(perplexity(tally))
            found[f"quantizer/used_{name}"] = float((tally > 0).sum())
    return found


@torch.no_grad()
def reconstruction_health(
    task: ReconstructionTask,
    output: SpeechOutput,
    mask: Tensor,
    clean: CleanSpeech,
    heard: CleanSpeech,
) -> dict[str, float]:
    """How far the rebuilt features are from the clean ones, beside what needs no learning.

    Args:
        task, output, mask: as in its loss; `output` is of the distorted speech.
        clean, heard: the speech before and after the distortion.

    Returns:
        Mean absolute distances, by ``reconstruction/FEATURE_...``: ``masked`` and ``unmasked``
        (rebuilt to clean), ``masked_mean`` and ``unmasked_mean`` (the mean of each bin to clean;
        it is zero, as features are centred), ``copy`` (heard to clean) and ``to_heard`` (rebuilt to
        heard), both on unmasked frames.
    """
    mask = mask.to(output.context.device)
    unmasked = shapes.length_mask(output.lengths, mask.shape[1]) & ~mask
    found = {}
    for name in task.config.features:
        target, given = clean.features(name), heard.features(name)  # (B, T, dim)
        rebuilt = task.rebuild(name, output.context)
        distances = {
            "masked": (rebuilt - target)[mask],
            "masked_mean": target[mask],
            "unmasked": (rebuilt - target)[unmasked],
            "unmasked_mean": target[unmasked],
            "copy": (given - target)[unmasked],
            "to_heard": (rebuilt - given)[unmasked],
        }
        for what, values in distances.items():
            if values.numel():
                found[f"reconstruction/{name}_{what}"] = float(values.abs().mean())
    return found


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
