"""How a pretrained model is adapted: which parts are fresh, which learn and how fast, and which
rows of an old head are kept.

Shapes: D width, V symbols.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speechssl.checkpoint import Checkpoint
from speechssl.interop.vocabulary import NEVER
from speechssl.model.config import ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.text import (
    Tokenizer,
    shared_symbols,
)
from speechssl.training.learning import (
    check_something_learns,
    freeze,
    freeze_all_but_adapters,
    with_adapters,
)
from speechssl.training.lora import add_lora
from speechssl.training.optim import Part

if TYPE_CHECKING:
    from speechssl.training.finetune import FinetuneConfig

_MOST_SHOWN = 40
"""New symbols that are said one by one."""


def build_speech(config: "FinetuneConfig", init: Checkpoint | None) -> SpeechModel:
    """A fresh model, or the given one with its upper `fresh_layers` (and final norm) made anew."""
    speech = _with_dropout(
        SpeechModel(config.model) if init is None else init.speech, config.dropout
    )
    if init is None:
        return speech
    if config.learns == "adapters":
        return with_adapters(speech, config.adapter_dim)
    num_layers = speech.config.context.num_layers
    if config.fresh_layers > num_layers:
        raise ValueError(
            f"fresh_layers must be at most the model's {num_layers} layers, got "
            f"{config.fresh_layers}."
        )
    if config.fresh_layers:
        fresh = SpeechModel(speech.config)
        first = num_layers - config.fresh_layers
        speech.context.layers[first:].load_state_dict(fresh.context.layers[first:].state_dict())
        if speech.config.context.norm_order == "pre":
            speech.context.norm.load_state_dict(fresh.context.norm.state_dict())
    return speech


@dataclass(frozen=True)
class HeadOrigin:
    """Where the rows of a new head over an old one come from."""

    kept: list[str]
    """Symbols that are written as before."""
    fresh: list[str]
    """The others."""
    reason: str = ""
    """Why nothing was kept, where that was not for the symbols."""

    def sentence(self) -> str:
        """For the person."""
        if self.reason:
            return f"Head: fresh, as {self.reason}."
        new = ", ".join(repr(s) for s in self.fresh[:_MOST_SHOWN]) or "none"
        more = ", ..." if len(self.fresh) > _MOST_SHOWN else ""
        return (
            f"Head: {len(self.kept)} of {len(self.kept) + len(self.fresh)} symbols are written as "
            f"before (the blank among them); new: {new}{more}."
        )


def build_head(
    config: "FinetuneConfig", speech: SpeechModel, tokenizer: Tokenizer, init: Checkpoint | None
) -> tuple[CTCHead, HeadOrigin | None]:
    """A fresh head, or one with the rows of the symbols that the old vocabulary shares; and which
    these are, None where there was no head."""
    head = CTCHead(speech.config.context.dim, tokenizer.vocab_size, config.upsample)
    if init is None or not isinstance(init.model, CTCModel) or init.tokenizer is None:
        return head, None
    symbols, old = list(tokenizer.symbols), init.model.head
    if config.fresh_head:
        return head, HeadOrigin([], symbols, "--fresh_head asks for it")
    if old.upsample != config.upsample:
        reason = f"the old one writes {old.upsample} rows a frame and this one {config.upsample}"
        return head, HeadOrigin([], symbols, reason)
    bias = old.linear.bias.unflatten(0, (old.upsample, -1))[0]  # (V,)
    places = [
        None if place is None or bias[place] <= NEVER else place
        for place in shared_symbols(tokenizer, init.tokenizer)
    ]
    head.take_rows(old, places)
    found = list(zip(symbols, places, strict=True))
    kept = [symbol for symbol, place in found if place is not None]
    return head, HeadOrigin(kept, [symbol for symbol, place in found if place is None])


def choose_learning(model: CTCModel, config: "FinetuneConfig", *, pretrained: bool) -> None:
    """Freeze what does not learn in this run, and add LoRA where the config asks for it.

    Raises ValueError where a name pattern matches nothing or nothing is left to learn, and where a
    model from scratch is to learn in part.
    """
    if config.learns != "all" and not pretrained:
        raise ValueError(
            f"learns {config.learns!r} adapts a pretrained model: give one with --init."
        )
    freeze(model, config.freeze)
    if pretrained and config.freeze_encoder_share == 1:
        model.speech.encoder.requires_grad_(False)
    if config.learns == "adapters":
        freeze_all_but_adapters(model)
    if config.learns == "lora":
        add_lora(model, config.lora)
    check_something_learns(model)


def fitting_dropout(model: ModelConfig, minutes: float) -> float | None:
    """Dropout for a pretrained model and the minutes of labels; None to leave it as it is.

    The CPU sizes are pretrained without any. A pretrained one then overfits few labels; one from
    scratch learns more slowly with dropout than it overfits without (docs/log).
    """
    if model.context.dropout > 0:
        return None
    return 0.4 if minutes < 30 else 0.2 if minutes < 120 else None


def _with_dropout(speech: SpeechModel, dropout: float | None) -> SpeechModel:
    """The same weights in a model with that dropout."""
    if dropout is None:
        return speech
    context = replace(speech.config.context, dropout=dropout)
    model = SpeechModel(replace(speech.config, context=context))
    model.load_state_dict(speech.state_dict())
    return model


def learning_parts(model: CTCModel, layer_lr_decay: float) -> list[Part]:
    """Head, layers from the top down, and the rest, each with its learning-rate factor."""
    speech, context = model.speech, model.speech.context
    parts = [Part((model.head,)), Part((context.norm,))]
    num = len(context.layers)
    for number, layer in enumerate(context.layers):
        parts.append(Part((layer,), layer_lr_decay ** (num - number)))
    lowest = layer_lr_decay ** (num + 1)
    below = (speech.encoder, speech.latent_norm, speech.project, context.position)
    distance = (context.distance,) if context.config.rel_buckets else ()
    return [*parts, Part((*below, context.position_norm, *distance), lowest)]
