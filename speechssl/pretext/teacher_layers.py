"""The layers of a network as targets: normalised over time, and averaged (data2vec).

arXiv:2202.03555, section 3.3 and appendix: without the norm a layer of large values rules the mean,
and constant channels make the targets easy to predict.

Shapes: B batch, T frames, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from speechssl import shapes
from speechssl.device import send

_EPS = 1e-5
"""Added to the variance, as in torch's instance norm."""


def normalized_over_time(values: Tensor, frames: Tensor) -> Tensor:
    """Mean 0 and variance 1 of every channel over each utterance's valid frames: instance norm that
    does not look at the padding.

    Args:
        values: (B, T, D).
        frames: (B,) valid frames, at least 1 each; best on the host.

    Returns:
        (B, T, D) float32, 0 in the padding; 0 everywhere in an utterance of one frame.
    """
    frames = send(frames, values.device)
    num = frames[:, None, None]
    values = shapes.zero_padding(values.float(), frames)
    centred = shapes.zero_padding(values - values.sum(1, keepdim=True) / num, frames)
    variance = centred.square().sum(1, keepdim=True) / num  # (B, 1, D)
    return centred * torch.rsqrt(variance + _EPS)


def layer_targets(layers: Sequence[Tensor], frames: Tensor) -> Tensor:
    """(B, T, D) float32: the mean of the layers, each after :func:`normalized_over_time`.

    Args:
        layers: outputs of the layers to average, each (B, T, D).
        frames: (B,) valid frames.
    """
    targets = torch.zeros((), device=layers[0].device)
    for layer in layers:
        targets = targets + normalized_over_time(layer, frames) / len(layers)
    return targets
