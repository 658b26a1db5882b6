"""The proof that ends a conversion: the same sound through both models, and how far they differ."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.checkpoint import Checkpoint
from speechssl.interop.folders import vocabulary_of
from speechssl.interop.vocabulary import NEVER, TheirVocabulary
from speechssl.model.quantizer import GumbelQuantizer
from speechssl.model.speech_model import CTCModel
from speechssl.rng import rng
from speechssl.text import BLANK_ID, UNKNOWN, UNKNOWN_ID

TOLERANCE = 1e-4
"""Of the largest magnitude of an output, or of 1 where that is larger."""
_TIE = 1e-3
LENGTHS_S = (2.0, 1.37, 0.6)


class UnequalOutputsError(RuntimeError):
    """The two models do not compute the same."""


@dataclass(frozen=True)
class Gap:
    """How far one output of both models differs."""

    name: str
    largest: float
    mean: float
    bound: float


@dataclass(frozen=True)
class Proof:
    """What was compared."""

    peer: str
    gaps: tuple[Gap, ...]
    transcripts: tuple[str, str] | None = None
    """(ours, theirs) of the test sound; the texts of a CTC model."""

    def describe(self) -> str:
        """Some lines for a person."""
        lines = [f"The same {sum(LENGTHS_S):.1f} s of sound through speechssl and {self.peer}:"]
        lines += [
            f"  {g.name}: largest difference {g.largest:.2g}, mean {g.mean:.2g} "
            f"(allowed {g.bound:.2g})"
            for g in self.gaps
        ]
        if self.transcripts is not None:
            lines += [f"  ours:   {self.transcripts[0]!r}", f"  theirs: {self.transcripts[1]!r}"]
        return "\n".join(lines)

    def as_data(self) -> dict[str, Any]:
        """For meta.json."""
        return {
            "peer": self.peer,
            "largest_differences": {g.name: g.largest for g in self.gaps},
            "bounds": {g.name: g.bound for g in self.gaps},
        }

    def check(self, *, same_text: bool = True) -> None:
        """Raise :class:`UnequalOutputsError` where a difference is above its bound or, with
        `same_text`, a transcript is another one."""
        wrong = [g for g in self.gaps if not g.largest <= g.bound]
        other = same_text and self.transcripts and self.transcripts[0] != self.transcripts[1]
        if wrong or other:
            raise UnequalOutputsError(
                f"The converted model does not compute the same, so nothing was written.\n"
                f"{self.describe()}"
            )


@dataclass
class Compared:
    """Collects the gaps of several sounds by output."""

    bound: float = TOLERANCE
    _differences: dict[str, list[np.ndarray]] = field(default_factory=dict)
    _scale: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, ours: Tensor | np.ndarray, theirs: Tensor | np.ndarray) -> None:
        """Two outputs of one shape; another shape is an infinite difference. Rows that are never
        emitted are equal: float32 keeps three digits of their -1e4 behind the point."""
        a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        gap = np.array([np.inf])
        if a.shape == b.shape:
            never = (a < NEVER / 2) & (b < NEVER / 2)
            gap = np.where(never, 0.0, np.abs(a - b)).ravel()
        self._differences.setdefault(name, []).append(gap)
        emitted = b[b > NEVER / 2]
        self._scale[name] = max(self._scale.get(name, 1.0), np.abs(emitted).max(initial=0.0))

    def gaps(self) -> tuple[Gap, ...]:
        """One for each name, in the order of their first sound."""
        return tuple(
            Gap(name, float(all_.max()), float(all_.mean()), self.bound * self._scale[name])
            for name, parts in self._differences.items()
            for all_ in (np.concatenate(parts),)
        )


def proof_sounds(sample_rate: int) -> list[np.ndarray]:
    """Three sounds (S,) float32 that change in pitch and loudness, always the same."""
    waves = []
    for number, seconds in enumerate(LENGTHS_S):
        generator = rng(0, "proof", number)
        time_s = np.arange(round(seconds * sample_rate)) / sample_rate
        pitch = 120 + 60 * np.sin(2 * np.pi * 1.3 * time_s + number)
        voice = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / sample_rate) / k for k in range(1, 9))
        loud = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time_s)
        noise = generator.standard_normal(len(time_s))
        waves.append((0.1 * loud * voice + 0.02 * noise).astype(np.float32))
    return waves


@torch.no_grad()
def ours_of(checkpoint: Checkpoint, wave: np.ndarray) -> tuple[Tensor, Tensor | None]:
    """``(context (T, D), log-probabilities (T, V) or None)`` of one sound."""
    sound, lengths = torch.from_numpy(wave)[None], torch.tensor([len(wave)])
    model = checkpoint.model.cpu().eval()
    context = checkpoint.speech(sound, lengths).context[0]
    if not isinstance(model, CTCModel):
        return context, None
    return context, model(sound, lengths)[0][0]


def spelled(checkpoint: Checkpoint, log_probs: Tensor | np.ndarray) -> str:
    """The greedy transcript of (T, V), in our order of symbols, without what is unknown."""
    _, tokenizer = checkpoint.require_ctc()
    best = np.asarray(log_probs).argmax(1)
    ids = [int(i) for n, i in enumerate(best) if i != BLANK_ID and (n == 0 or best[n - 1] != i)]
    return " ".join(tokenizer.decode(ids).replace(UNKNOWN, "").split())


def against_transformers(
    checkpoint: Checkpoint, folder: Path, language: str | None = None
) -> Proof:
    """A model of ours against the folder of transformers that it was read from or written to.

    `language` is that of an MMS model. Raises ImportError naming the extra where transformers is
    not installed.
    """
    is_ctc = isinstance(checkpoint.model, CTCModel)
    quantizer = _own_quantizer(checkpoint) if not is_ctc and _has_heads(folder) else None
    loaded, tokenizer = _open_peer(checkpoint, folder, language, with_heads=quantizer is not None)
    peer = loaded if quantizer is None else loaded.wav2vec2
    compared = Compared()
    texts: list[tuple[str, str]] = []
    config = checkpoint.speech.config
    vocabulary, rows = vocabulary_of(checkpoint) if is_ctc else (None, [])
    known = [(ours, row) for ours, row in enumerate(rows) if row is not None]
    for wave in proof_sounds(config.sample_rate):
        normalized = wave
        if config.normalize_wave:
            normalized = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        with torch.no_grad():
            out = peer(torch.from_numpy(normalized)[None])
        context, log_probs = ours_of(checkpoint, wave)
        if log_probs is None or vocabulary is None:
            compared.add("context", context, out.last_hidden_state[0])
            if quantizer is not None:
                _compare_heads(compared, checkpoint, quantizer, wave, loaded, normalized)
            continue
        theirs = out.logits[0].log_softmax(1)  # (T, V), their order of symbols
        compared.add(
            "log-probabilities",
            log_probs[:, [ours for ours, _ in known]],
            theirs[:, [row for _, row in known]],
        )
        texts.append((spelled(checkpoint, log_probs), _their_text(tokenizer, vocabulary, theirs)))
    return Proof(
        f"transformers {require_transformers().__version__}", compared.gaps(), _joined(texts)
    )


def _open_peer(
    checkpoint: Checkpoint, folder: Path, language: str | None, *, with_heads: bool
) -> tuple[Any, Any]:
    """``(model, tokenizer or None)`` of transformers for a folder; `with_heads`: of pretraining."""
    transformers = require_transformers()
    is_ctc = isinstance(checkpoint.model, CTCModel)
    kind = transformers.AutoModelForCTC if is_ctc else transformers.AutoModel
    if with_heads:
        kind = transformers.Wav2Vec2ForPreTraining
    chosen = {} if language is None else {"target_lang": language}
    fitting = {"ignore_mismatched_sizes": True} if chosen else {}
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()  # it names heads that are not asked for
    try:
        loaded = kind.from_pretrained(folder, dtype=torch.float32, **chosen, **fitting).eval()
        if not is_ctc:
            return loaded, None
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **chosen)
    finally:
        transformers.logging.set_verbosity(verbosity)
    vocabulary, _ = vocabulary_of(checkpoint)
    if delimiter := vocabulary.special["word_delimiter_token"]:
        vars(tokenizer)["_word_delimiter_token"] = delimiter  # version 5 reads "|" always
    return loaded, tokenizer


def _their_text(tokenizer: Any, vocabulary: TheirVocabulary, log_probs: Tensor) -> str:
    """Their greedy transcript of (T, V), without special tokens."""
    # If it skips special tokens, it merges equal letters on both sides of an unknown one.
    text = str(
        tokenizer.decode(
            log_probs.argmax(1), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
    )
    for token in vocabulary.silent_tokens():
        text = text.replace(token, "")
    return " ".join(text.split())


def _has_heads(folder: Path) -> bool:
    """Whether a folder of transformers is of Wav2Vec2ForPreTraining."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return "Wav2Vec2ForPreTraining" in (config.get("architectures") or ())


def _own_quantizer(checkpoint: Checkpoint) -> GumbelQuantizer | None:
    """The quantizer that a model was pretrained with; None where it has none."""
    if not checkpoint.pretraining:
        return None
    settings, prefix = checkpoint.meta["pretraining"], "quantizer."
    quantizer = GumbelQuantizer(
        checkpoint.speech.config.latent_dim,
        groups=settings["groups"],
        entries=settings["entries"],
        dim=settings["target_dim"],
    )
    held = checkpoint.pretraining.items()
    quantizer.load_state_dict(
        {name.removeprefix(prefix): v for name, v in held if name.startswith(prefix)}
    )
    return quantizer.eval()


@torch.no_grad()
def _compare_heads(
    compared: Compared,
    checkpoint: Checkpoint,
    quantizer: GumbelQuantizer,
    wave: np.ndarray,
    peer: nn.Module,
    normalized: np.ndarray,
) -> None:
    """The two outputs of Wav2Vec2ForPreTraining. Frames whose two best codes are as good as tied
    are left out of the targets: rounding chooses there."""
    out = checkpoint.speech(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
    theirs = peer(torch.from_numpy(normalized)[None])
    held = checkpoint.pretraining

    def projected(name: str, frames: Tensor) -> Tensor:
        return F.linear(frames, held[f"project_{name}.weight"], held[f"project_{name}.bias"])

    predicted = projected("context", out.context[0])
    compared.add("projected context", predicted, theirs.projected_states[0])
    latents = out.latents[0]
    logits = quantizer.logits(latents).unflatten(1, (quantizer.groups, quantizer.entries))
    best = logits.topk(2, 2).values  # (T, G, 2)
    sure = (best[..., 0] - best[..., 1] > _TIE).all(1)
    targets = projected("target", quantizer(latents).vectors)
    compared.add("projected targets", targets[sure], theirs.projected_quantized_states[0][sure])


@torch.no_grad()
def against_module(checkpoint: Checkpoint, peer: nn.Module, name: str) -> Proof:
    """A model of ours against a module that gives ``(output (1, T, V or D), ...)`` for (1, S), its
    rows in our order without the unknown symbol."""
    compared = Compared()
    texts: list[tuple[str, str]] = []
    for wave in proof_sounds(checkpoint.speech.config.sample_rate):
        theirs = peer(torch.from_numpy(wave)[None])[0][0]  # (T, V) or (T, D)
        context, log_probs = ours_of(checkpoint, wave)
        if log_probs is None:
            compared.add("context", context, theirs)
            continue
        known = [i for i in range(log_probs.shape[1]) if i != UNKNOWN_ID]
        theirs = theirs.log_softmax(1)
        compared.add("log-probabilities", log_probs[:, known], theirs)
        in_ours = torch.full_like(log_probs, -torch.inf)
        in_ours[:, known] = theirs
        texts.append((spelled(checkpoint, log_probs), spelled(checkpoint, in_ours)))
    return Proof(name, compared.gaps(), _joined(texts))


def _joined(texts: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    if not texts:
        return None
    ours, theirs = (" ".join(" ".join(side).split()) for side in zip(*texts, strict=True))
    return ours, theirs


def require_transformers() -> Any:
    """The package; ImportError with the extra's name where it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "The proof runs the same sound through transformers: pip install 'speechssl[hf]', or "
            "give --no-verify."
        ) from error
    return transformers
