"""Numbers that tell a healthy run from a sick one."""

import torch

from speechssl import shapes
from speechssl.model.speech_model import SpeechOutput


@torch.no_grad()
def context_health(output: SpeechOutput) -> dict[str, float]:
    """Size and spread of the context network's frames.

    A pretraining loss can fall while the residual stream runs away: its root mean square grows
    before the first layer, the layers above add little, and the effective rank of the output
    falls. Neither shows in the loss; both show here.

    Args:
        output: with `hidden`.

    Returns:
        ``health/rms_first`` and ``health/rms_last`` of the first layer's input and the last layer's
        output, ``health/rank`` the effective rank of the context (exp of the entropy of its
        normalised singular values, Roy and Vetterli 2007), ``health/similarity`` mean cosine of
        neighbours in time.
    """
    valid = shapes.length_mask(output.lengths, output.context.shape[1])
    frames = output.context[valid].float()  # (N, D)
    centred = frames - frames.mean(0)
    share = torch.linalg.svdvals(centred[:4096])
    share = share / share.sum().clamp_min(1e-9)
    rank = torch.exp(-(share * torch.log(share + 1e-12)).sum())
    similarity = torch.cosine_similarity(centred[:-1], centred[1:], dim=1).mean()
    return {
        "health/rms_first": float(output.hidden[0][valid].float().square().mean().sqrt()),
        "health/rms_last": float(frames.square().mean().sqrt()),
        "health/rank": float(rank),
        "health/similarity": float(similarity),
    }
