"""The door to the fast forms: plain parts of a model are exchanged for fast ones, and back.

A fast part is a subclass of the plain one with another way to compute the same numbers (up to the
order of sums; dropout draws other random numbers of the same distribution). It has the same
weights under the same names, so that states, copies and optimizers know no difference. It falls
back to the plain form for what it does not suit (another device or dtype, short inputs, while
``torch.compile`` traces it), so that an accelerated model works anywhere.
"""

from typing import TypeVar

from torch import nn

from speechssl.model.attention import SelfAttention
from speechssl.model.dropout import Dropout
from speechssl.model.encoder import ConvEncoder
from speechssl.model.fast.attention import FastSelfAttention
from speechssl.model.fast.conv_encoder import FastConvEncoder
from speechssl.model.fast.dropout import FastDropout
from speechssl.model.fast.gru import FastGRULayer
from speechssl.model.fast.int8 import int8_is_fast, quantized
from speechssl.model.fast.spectral_conv import FastPositionalConv
from speechssl.model.fast.transformer import FastTransformerLayer
from speechssl.model.layers import GRULayer, TransformerLayer
from speechssl.model.position import PositionalConv
from speechssl.model.speech_model import CTCModel, SpeechModel

__all__ = ["FAST", "accelerate", "in_8_bits", "int8_is_fast", "plain"]

FAST: dict[type[nn.Module], type[nn.Module]] = {
    ConvEncoder: FastConvEncoder,
    PositionalConv: FastPositionalConv,
    GRULayer: FastGRULayer,
    TransformerLayer: FastTransformerLayer,
    SelfAttention: FastSelfAttention,
    Dropout: FastDropout,
}
"""Each plain part that has a fast form."""

PLAIN = {fast: plain for plain, fast in FAST.items()}

Model = TypeVar("Model", bound=nn.Module)
SpeechOrCTC = TypeVar("SpeechOrCTC", SpeechModel, CTCModel)


def accelerate(model: Model) -> Model:
    """Give every part of a model its fast form, in place, where the model is put to work."""
    return _exchange(model, FAST)


def in_8_bits(model: SpeechOrCTC) -> SpeechOrCTC:
    """A copy for inference on a CPU whose matrix products are of 8 bits; see :mod:`.int8`.

    It is kept until a weight of the given model changes. Its numbers are about the same: of all
    fast forms it is the only one that rounds more. Raises ValueError where the model is not on a
    CPU.
    """
    return quantized(accelerate(model))


def plain(model: Model) -> Model:
    """Give every part its plain form again, in place: for export, and to compare."""
    return _exchange(model, PLAIN)


def _exchange(model: Model, forms: dict[type[nn.Module], type[nn.Module]]) -> Model:
    for module in model.modules():
        module.__class__ = forms.get(type(module), type(module))
    return model
