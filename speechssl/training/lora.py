"""Low-rank adaptation (LoRA, arXiv:2106.09685) through peft: a few weights learn, and are then
added to those that they adapt, so that what is saved is a plain model.

peft puts its layers into the model in place: a Linear ``NAME`` becomes ``NAME.base_layer`` with
``NAME.lora_A`` and ``NAME.lora_B`` beside it.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor, nn

from speechssl.checkpoint import build_empty, fill
from speechssl.config.bounds import Count, NotEmpty, Positive, Probability, check_fields
from speechssl.model.speech_model import CTCModel
from speechssl.training.learning import chosen

_ADAPTER = "default"
"""peft's name for the one set of weights that a model gets here."""


@dataclass(frozen=True)
class LoraConfig:
    """Which weights are adapted, and how freely: W + alpha / rank * B A."""

    rank: Count = 8
    """Of the product B A that is added to a weight."""
    alpha: Positive = 16.0
    """What is added is scaled by alpha / rank, so that another rank needs no other learning
    rate (section 4.1)."""
    dropout: Probability = 0.05
    """On the input of A."""
    modules: Annotated[tuple[str, ...], NotEmpty()] = ("speech.context.layers.*",)
    """Name patterns; every Linear that one of them matches is adapted. The default takes the
    projections of the attention and the feed-forward parts in all layers."""

    def __post_init__(self) -> None:
        check_fields(self, "lora")


def add_lora(model: CTCModel, config: LoraConfig) -> None:
    """Give the chosen Linears of the speech model LoRA weights, in place; they and the head learn.

    A Linear whose weight is frozen is left alone. Fresh LoRA weights add nothing: the model
    computes what it did. Raises ValueError where a pattern matches no Linear or nothing is left to
    adapt, ImportError where peft is missing.
    """
    linears = {
        f"speech.{name}": module
        for name, module in model.speech.named_modules()
        if isinstance(module, nn.Linear)
    }
    names = chosen(config.modules, linears, "lora.modules")
    targets = [name for name in names if linears[name].weight.requires_grad]
    if not targets:
        raise ValueError("lora.modules: every Linear that it names is frozen by freeze.")
    peft = _import_peft()
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
    )
    head = [p for p in model.head.parameters() if p.requires_grad]
    peft.inject_adapter_in_model(settings, model, adapter_name=_ADAPTER)
    for parameter in head:
        parameter.requires_grad_(True)  # peft freezes everything else


def without_lora(model: CTCModel) -> CTCModel:
    """A plain model, on the CPU, that computes the same: what was learned is added to the weights;
    `model` stays as it is."""
    tensors = {
        name.replace(".base_layer.", "."): value.cpu()
        for name, value in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, learned in _learned(model).items():
        tensors[name] = tensors[name] + learned.cpu()
    plain = build_empty(model.speech.config, model.head.vocab_size, model.head.upsample)
    assert isinstance(plain, CTCModel)
    fill(plain, tensors)
    return plain


def _learned(model: CTCModel) -> dict[str, Tensor]:
    """Name of an adapted weight -> alpha / rank * B A."""
    layer = _import_peft().tuners.lora.LoraLayer
    return {
        f"{name}.weight": module.get_delta_weight(_ADAPTER).detach()
        for name, module in model.named_modules()
        if isinstance(module, layer)
    }


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError(
            "--learns lora needs the package peft: pip install 'speechssl[lora]'."
        ) from error
    return peft
