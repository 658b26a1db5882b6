"""torchaudio's pretrained bundles: ``torchaudio:WAV2VEC2_BASE`` and its siblings.

torchaudio's model has the same parts as that of transformers under other names. It is imported
here and in a function only, since a torchaudio that does not fit the torch beside it fails to load.
"""

import pickle
import urllib.error
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.checkpoint import Checkpoint
from speechssl.interop import huggingface as hf
from speechssl.interop.imported import body_checkpoint, ctc_checkpoint
from speechssl.interop.vocabulary import symbol_texts
from speechssl.text import BLANK, UNKNOWN, VocabularyTokenizer

PREFIX = "torchaudio:"
_BLANK, _DELIMITER = "-", "|"

# torchaudio's names -> transformers', by their beginning.
_PARTS = (
    ("feature_extractor.", "feature_extractor."),
    ("encoder.feature_projection.", "feature_projection."),
    ("encoder.transformer.", "encoder."),
    ("aux.", "lm_head."),
)
_FIELDS = {  # transformers' -> wav2vec2_model's arguments
    "hidden_size": "encoder_embed_dim",
    "num_hidden_layers": "encoder_num_layers",
    "num_attention_heads": "encoder_num_heads",
    "intermediate_size": "encoder_ff_interm_features",
    "hidden_dropout": "encoder_dropout",
    "attention_dropout": "encoder_attention_dropout",
    "activation_dropout": "encoder_ff_interm_dropout",
    "layerdrop": "encoder_layer_drop",
    "feat_proj_dropout": "encoder_projection_dropout",
    "conv_bias": "extractor_conv_bias",
    "num_conv_pos_embeddings": "encoder_pos_conv_kernel",
    "num_conv_pos_embedding_groups": "encoder_pos_conv_groups",
    "do_stable_layer_norm": "encoder_layer_norm_first",
    "num_buckets": "encoder_num_buckets",
    "max_bucket_distance": "encoder_max_distance",
}
_CONV_DEFAULT = [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2]


def read_bundle(source: str) -> tuple[Checkpoint, nn.Module]:
    """``(ours, theirs)`` for ``torchaudio:NAME``; torchaudio fetches what its cache lacks.

    Where waves are normalised, both do it as transformers does: torchaudio adds 1e-5 to the
    variance, transformers and we 1e-7, which only very quiet recordings tell apart.

    Raises ValueError for a name that is no such bundle, ImportError with a sentence where
    torchaudio does not load.
    """
    pipelines = require_torchaudio().pipelines
    known = sorted(n for n in dir(pipelines) if n.isupper() and _is_wav2vec2(getattr(pipelines, n)))
    name = source.removeprefix(PREFIX)
    if name not in known:
        raise ValueError(
            f"torchaudio has no bundle {name!r} of this family; it has {', '.join(known)}."
        )
    bundle = getattr(pipelines, name)
    try:
        theirs = bundle.get_model()
    except urllib.error.URLError as error:
        raise FileNotFoundError(
            f"{source} lies neither in torchaudio's cache ({torch.hub.get_dir()}) nor can it be "
            f"fetched ({error.reason}): fetch it with a network."
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"What torchaudio's cache ({torch.hub.get_dir()}/checkpoints) holds of {source} is "
            "damaged, perhaps by a download that broke off: delete it, and it is fetched again."
        ) from error
    labels = bundle.get_labels() if hasattr(bundle, "get_labels") else None
    normalize = bool(getattr(bundle, "_normalize_waveform", False))
    inner = theirs.model if normalize and hasattr(theirs, "model") else theirs
    checkpoint = from_torchaudio(
        inner.state_dict(),
        bundle._params,
        labels=labels,
        normalize=normalize,
        sample_rate=int(bundle.sample_rate),
    )
    meta = {**checkpoint.meta, "source": source}
    peer = _Normalising(inner) if normalize else inner
    return Checkpoint(checkpoint.model, checkpoint.tokenizer, meta), peer.eval()


class _Normalising(nn.Module):
    """(1, S) wave -> what the model gives for it at zero mean and unit variance."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, wave: Tensor) -> Any:
        return self.model(F.layer_norm(wave, wave.shape, eps=1e-7))


def from_torchaudio(
    state: dict[str, Tensor],
    arguments: dict[str, Any],
    *,
    labels: Sequence[str] | None = None,
    normalize: bool = False,
    sample_rate: int = 16000,
) -> Checkpoint:
    """A model of ``torchaudio.models.wav2vec2_model`` or ``wavlm_model``.

    Args:
        state: its tensors.
        arguments: what it was built with, as torchaudio names it.
        labels: the symbols of the rows of its ``aux`` layer, the blank ``-`` first.
        normalize: whether waves are normalised before.
        sample_rate: in Hz.

    Raises ValueError naming what is missing or not known here.
    """
    fields: dict[str, Any] = {
        theirs: arguments[own] for theirs, own in _FIELDS.items() if own in arguments
    }
    fields["model_type"] = "wavlm" if "num_buckets" in fields else "wav2vec2"
    layers = arguments.get("extractor_conv_layer_config") or _CONV_DEFAULT
    fields["conv_dim"], fields["conv_kernel"], fields["conv_stride"] = zip(*layers, strict=True)
    mode = arguments.get("extractor_mode", "group_norm")
    fields["feat_extract_norm"] = "layer" if mode == "layer_norm" else "group"
    config = hf.model_config_from_hf(
        fields, {"do_normalize": normalize, "sampling_rate": sample_rate}
    )
    named = {_rename(name): value.float() for name, value in state.items()}
    weights = hf.from_hf_state(_split(named), config)
    meta: dict[str, Any] = {"task": "import"}
    if weights.head is None:
        return body_checkpoint(config, weights, meta)
    return ctc_checkpoint(
        config, weights, _tokenizer(labels, len(weights.head["linear.bias"])), meta
    )


def require_torchaudio() -> ModuleType:
    """The package; ImportError with a sentence where it does not load."""
    try:
        import torchaudio
    except (ImportError, OSError) as error:
        raise ImportError(
            "torchaudio does not load beside this torch: install a pair that belongs together, "
            f"pip install --upgrade torch torchaudio ({error})."
        ) from error
    return torchaudio


def _is_wav2vec2(bundle: Any) -> bool:
    return type(bundle).__name__ in ("Wav2Vec2Bundle", "Wav2Vec2ASRBundle") and (
        getattr(bundle, "_model_type", "Wav2Vec2") in ("Wav2Vec2", "WavLM")
    )


def _rename(name: str) -> str:
    for theirs, transformers in _PARTS:
        if name.startswith(theirs):
            return transformers + name.removeprefix(theirs)
    return name


def _split(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """WavLM's attention there is torch's own, which keeps queries, keys and values in one."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        whole, _, part = name.partition("attention.attention.")
        if part.startswith("in_proj_"):
            leaf = part.removeprefix("in_proj_")
            for kind, third in zip("qkv", value.chunk(3), strict=True):
                found[f"{whole}attention.{kind}_proj.{leaf}"] = third
        else:
            found[f"{whole}attention.{part}" if part else name] = value
    return found


def _tokenizer(
    labels: Sequence[str] | None, num_rows: int
) -> tuple[VocabularyTokenizer, list[int | None]]:
    """The symbols, and the row of each: torchaudio's bundles have none for the unknown."""
    if labels is None or len(labels) != num_rows or labels[0] != _BLANK:
        raise ValueError(
            f"The head has {num_rows} rows, the labels name {len(labels or ())}, of which the "
            f"first must be the blank {_BLANK!r}: they do not belong together."
        )
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"The labels name {twice} more than once: each row has its own.")
    named = dict(enumerate(labels[1:], 1))
    texts, mute = symbol_texts(named, _DELIMITER, ())
    letters = "".join(texts)
    uppercase = letters == letters.upper() != letters.lower()
    tokenizer = VocabularyTokenizer([BLANK, UNKNOWN, *texts], mute, uppercase=uppercase)
    return tokenizer, [0, None, *named]
