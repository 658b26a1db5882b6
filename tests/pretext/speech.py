"""Small models and micro-batches for the tests of pretext tasks."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import shapes
from speechssl.data.dataset import Batch
from speechssl.model.config import (
    ContextConfig,
    ConvEncoderConfig,
    FilterbankEncoderConfig,
    ModelConfig,
)
from speechssl.model.ema import EMA
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.heads import CTCHead
from speechssl.model.masking import span_mask
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.pretext.info_nce import draw_negatives
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.task import MaskConfig, PretextTask, Resources, TaskConfig
from speechssl.pretext.teacher import Recogniser, Teacher
from speechssl.rng import rng
from speechssl.text import CharTokenizer, PhoneTokenizer

CONTEXT = ContextConfig(
    dim=16,
    num_layers=2,
    num_heads=2,
    ffn_dim=24,
    norm_order="pre",
    pos_kernel=8,
    pos_groups=2,
    dropout=0.0,
    attention_dropout=0.0,
    layerdrop=0.0,
)
MODELS = {
    "conv": ModelConfig(encoder=ConvEncoderConfig((8,) * 7), context=CONTEXT),
    "filterbank": ModelConfig(encoder=FilterbankEncoderConfig(num_filters=10), context=CONTEXT),
}
LENGTHS = (9000, 4000, 7000, 2500)
TEXTS = {9000: "bad cab", 4000: "", 7000: "face", 2500: "be"}
"""By the length of the wave."""
TOKENIZER = CharTokenizer.train(TEXTS.values())
PHONES = {length: " ".join(text.replace(" ", "")) for length, text in TEXTS.items()}
PHONE_TOKENIZER = PhoneTokenizer.train(PHONES.values())


def waves(lengths=LENGTHS) -> tuple[Tensor, Tensor]:
    """(B, S) noise, (B,) lengths."""
    generator = torch.Generator().manual_seed(1)
    wave = 0.2 * torch.randn(len(lengths), max(lengths), generator=generator)
    return shapes.zero_padding(wave, torch.tensor(lengths)), torch.tensor(lengths)


class GivenInputs(Inputs):
    """Inputs whose masks and draws depend on each utterance alone, whatever the batch; units as the
    task computes them; texts by the lengths of the waves; the moving average is another model."""

    def __init__(self, model, wave, lengths, *, distorted=None, mask=None, task=None, again=None):
        distorted = wave if distorted is None else distorted
        texts = tuple(TEXTS.get(length, "") for length in lengths.tolist())
        phones = tuple(PHONES.get(length, "") for length in lengths.tolist())
        batch = Batch(0, ("",), texts, distorted, wave, lengths, distorted2=again, ipa=phones)
        units = None if task is None else lambda name, x: task.offline_units(x)[name]
        needs = None if task is None else task.needs
        uses_ema = needs is not None and any(view.network == "ema" for view in needs.views)
        super().__init__(
            model,
            batch,
            device=torch.device("cpu"),
            seed=0,
            mask=MaskConfig(),
            units=units,
            keep_hidden=needs is not None and needs.hidden,
            ema=EMA(a_model_like(model, 3)) if uses_ema else None,
            tokenizer=TOKENIZER,
        )
        self._given = mask

    def rng_of(self, purpose, row):
        return rng(0, purpose, int(self.lengths[row]))

    def _draw_mask(self, config):
        if config is None or self._given is None:
            drawn = super()._draw_mask(config) if config is None else by_utterance(self.frames)
            return F.pad(drawn, (0, self.num_frames - drawn.shape[1]))
        return self._given


def by_utterance(frames: Tensor) -> Tensor:
    """(B, T) bool: a mask that is a function of each utterance's length."""
    mask = np.zeros((len(frames), int(frames.max())), dtype=bool)
    for row, length in enumerate(frames.tolist()):
        mask[row, :length] = span_mask(
            [length], length, share=0.5, span=3, generator=rng(0, "mask", length)
        )[0]
    return torch.from_numpy(mask)


def negatives_by_utterance(mask: np.ndarray, num: int, _generator: object) -> np.ndarray:
    """In the place of :func:`draw_negatives`: a function of each utterance's own mask."""
    parts, offset = [], 0
    for row in mask:
        key = ",".join(map(str, np.flatnonzero(row)))
        own = draw_negatives(row[None], num, rng(0, "negatives", key))
        parts.append(np.where(own < 0, -1, own + offset))
        offset += int(row.sum())
    return np.concatenate(parts)


def a_model(kind: str, seed: int = 0) -> SpeechModel:
    return a_model_of(MODELS[kind], seed)


def a_model_of(config: ModelConfig, seed: int = 0) -> SpeechModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return accelerate(SpeechModel(config)).eval()  # as in training


def a_model_like(model: SpeechModel, seed: int) -> SpeechModel:
    """With other weights."""
    return a_model_of(model.config, seed)


def model_and_task(
    config: TaskConfig, kind: str = "conv", teacher_layer: int | None = None
) -> tuple[SpeechModel, PretextTask]:
    """A small model, causal where the task must not see the future, and a task on it, fitted."""
    model = a_model(kind)
    teacher = None if teacher_layer is None else Teacher(a_model(kind, 7), teacher_layer)
    resources = replace(some_resources(kind), teacher=teacher)
    if config.build(model, resources).needs.causal:
        context = replace(MODELS[kind].context, causal=True)
        model = a_model_of(replace(MODELS[kind], context=context, running_norm=True))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        task = config.build(model, resources).eval()
    wave, lengths = waves()
    each = [
        GivenInputs(model, wave[i : i + 1, :n], lengths[i : i + 1])
        for i, n in enumerate(lengths.tolist())
    ]
    with torch.no_grad():
        task.fit(each, 0)
    return model, task


def some_resources(kind: str = "conv") -> Resources:
    """What any task may be built from: tokenizers, and a recogniser with other weights."""
    return Resources(
        tokenizer=TOKENIZER, phone_tokenizer=PHONE_TOKENIZER, recogniser=a_recogniser(kind)
    )


def a_recogniser(kind: str, upsample: int = 1) -> Recogniser:
    """A small model that transcribes, and is sure of what it emits."""
    speech = a_model(kind, 5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        head = CTCHead(CONTEXT.dim, TOKENIZER.vocab_size, upsample)
        torch.nn.init.normal_(head.linear.weight)
        torch.nn.init.normal_(head.linear.bias)
    return Recogniser.frozen(CTCModel(speech, head), TOKENIZER)


def run(model, task, wave=None, lengths=None, **given):
    """The task's loss on a batch (all of :func:`waves` where none is given)."""
    if wave is None:
        wave, lengths = waves()
    return task(GivenInputs(model, wave, lengths, task=task, **given))


def gradient(model, task) -> dict[str, Tensor]:
    """The gradients by name, which are then cleared."""
    named = [*model.named_parameters(), *task.named_parameters()]
    grads = {name: p.grad.clone() for name, p in named if p.grad is not None}
    model.zero_grad(set_to_none=True)
    task.zero_grad(set_to_none=True)
    return grads
