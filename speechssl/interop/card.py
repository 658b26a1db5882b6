"""The README.md of an exported folder: a model card, filled from what the run knew."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speechssl import __version__
from speechssl.checkpoint import Checkpoint
from speechssl.interop.folders import leaves_heads_out
from speechssl.interop.proof import Proof
from speechssl.model.config import ConvEncoderConfig
from speechssl.model.speech_model import CTCModel

_OPEN = {
    "hf": """```python
from transformers import pipeline

print(pipeline("automatic-speech-recognition", "THIS FOLDER")("recording.wav")["text"])
```""",
    "hf body": """```python
from transformers import AutoFeatureExtractor, AutoModel

model = AutoModel.from_pretrained("THIS FOLDER")
prepare = AutoFeatureExtractor.from_pretrained("THIS FOLDER")
```""",
    "onnx": "`model.onnx` runs in onnxruntime, `symbols.json` names the symbol of each row:\n"
    "inputs `wave` (batch, samples) float32 and `lengths` (batch,) int64, in samples.",
    "fairseq": "`model.pt` holds `model` (tensors) and `cfg`, named as in fairseq's wav2vec 2.0.",
}


@dataclass(frozen=True)
class CardFields:
    """What only a person knows of a model."""

    license: str | None = None
    """An SPDX name."""
    languages: Sequence[str] = ()
    """ISO 639 codes."""

    def __post_init__(self) -> None:
        """ValueError where a name has signs that none has: they would end the front matter."""
        for name in (*filter(None, [self.license]), *self.languages):
            if not re.fullmatch(r"[\w.+-]+", name):
                raise ValueError(
                    f"{name!r} is no licence (SPDX, e.g. CC-BY-4.0) and no language (ISO 639, e.g. "
                    "wo) for the model card."
                )


def model_card(checkpoint: Checkpoint, kind: str, proof: Proof | None, fields: CardFields) -> str:
    """The card as Markdown, with the front matter that model hubs read.

    Args:
        checkpoint: the exported model.
        kind: ``hf``, ``onnx`` or ``fairseq``.
        proof: that the export computes the same, if it was asked for.
        fields: licence and languages.
    """
    is_ctc = isinstance(checkpoint.model, CTCModel)
    own = checkpoint.meta.get("language")  # of an MMS model
    languages = fields.languages or ([own] if own else [])
    parts = [
        _front_matter(kind, is_ctc, fields.license, languages),
        f"# {'Transcriber' if is_ctc else 'Speech representation'} made with speechssl",
        _OPEN["hf body" if kind == "hf" and not is_ctc else kind],
        f"## Languages\n\n{', '.join(languages) or 'Not stated.'}",
        "## Training\n\n" + "\n".join(f"- {line}" for line in _history(checkpoint.meta)),
    ]
    if scores := _scores(checkpoint.meta):
        parts.append("## Scores\n\n" + scores)
    parts.append("## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(checkpoint, kind)))
    license_ = fields.license or "Not stated: ask those who trained it before you use it."
    parts.append(f"## Licence\n\n{license_}")
    proved = proof.describe() if proof else "Not verified: it was exported with --no-verify."
    parts.append(f"## Proof of the export\n\n```\n{proved}\n```")
    return "\n\n".join(parts) + "\n"


def _front_matter(kind: str, is_ctc: bool, license_: str | None, languages: Sequence[str]) -> str:
    task = "automatic-speech-recognition" if is_ctc else "feature-extraction"
    library = {"hf": "transformers"}.get(kind, kind)
    lines = ["---", f"library_name: {library}", f"pipeline_tag: {task}"]
    lines.append(f"license: {(license_ or 'unknown').lower()}")  # hubs know them in lower case
    if languages:
        lines += ["language:", *(f"- {code}" for code in languages)]
    return "\n".join([*lines, "tags:", "- speech", "- speechssl", "---"])


def _history(meta: Mapping[str, Any]) -> Iterator[str]:
    """Each stage in its order."""
    for stage in _stages(meta) or [{}]:
        yield _stage(stage)
    yield f"Written by speechssl {__version__}."


def _stages(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was done to the model, the earliest first."""
    stages: list[Mapping[str, Any]] = []
    stage: Mapping[str, Any] | None = meta
    while stage:
        stages.insert(0, stage)
        stage = stage.get("init")
    return stages


def _stage(meta: Mapping[str, Any]) -> str:
    task = meta.get("task")
    if task == "import":
        left = "; left out: " + ", ".join(meta["left_out"]) if "left_out" in meta else ""
        return f"Imported from {meta.get('source', 'an unnamed source')}{left}."
    if task not in ("pretrain", "finetune"):
        return "Of its training nothing was written down."
    hours = meta.get("train_minutes", 0) / 60
    amount = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    what = (
        f"Pretraining on {amount} of audio without transcripts"
        if task == "pretrain"
        else f"CTC fine-tuning on {amount} of transcribed speech"
    )
    objective = ", ".join(meta.get("objectives", ()))
    return (
        f"{what} ({meta.get('train_utterances', '?')} utterances)"
        f"{f', objective: {objective}' if objective else ''}; {meta.get('steps', '?')} updates, "
        f"seed {meta.get('seed', '?')}.{_of_seed(meta)}"
    )


def _of_seed(meta: Mapping[str, Any]) -> str:
    """Of the weights that come with speechssl, whose licence asks to be stated."""
    card = meta.get("card")
    if not card:
        return ""
    return (
        f" These weights came with speechssl, under {card['license']}: its NOTICE names their "
        "sources."
    )


def _scores(meta: Mapping[str, Any]) -> str:
    valid = meta.get("valid", {})
    if "wer" not in valid:
        return ""
    intervals = meta.get("valid_intervals", {})
    rows = ["| measure | value | 95 % interval |", "|---|---|---|"]
    for name in ("wer", "cer"):
        low_high = intervals.get(name)
        interval = f"{100 * low_high[0]:.1f}-{100 * low_high[1]:.1f} %" if low_high else "not kept"
        rows.append(f"| {name.upper()} | {100 * valid[name]:.1f} % | {interval} |")
    rows.append(
        f"\nGreedy decoding, {meta.get('valid_utterances', '?')} utterances of the validation set, "
        "on which the best model was chosen: expect a little more on other speech."
    )
    rows += [f"\n{line}" for line in _confidence(meta)]
    return "\n".join(rows)


def _confidence(meta: Mapping[str, Any]) -> Iterator[str]:
    """How good the confidence in words is, by way of decoding; nothing where it was not measured or
    is damaged."""
    stored = meta.get("calibration")
    for kind, name in (("greedy", "greedy"), ("lm", "with a language model")):
        try:
            quality = stored[kind]["quality"]  # type: ignore[index]
            line = (
                f"Confidence of words, {name} decoding: expected calibration error "
                f"{quality['error_after']:.3f} ({quality['error_before']:.3f} before calibration), "
                f"{quality['num_bins']} bins, {quality['num_words']} words of the validation set, "
                "each half by a map fitted on the other"
            )
            if (found := quality["found_after"]) is not None:
                line += (
                    f"; the least confident 20 % of the words hold {100 * found:.1f} % of the "
                    "wrong ones"
                )
            yield line + "."
        except (KeyError, TypeError, ValueError):
            continue


def _limits(checkpoint: Checkpoint, kind: str) -> Iterator[str]:
    yield f"Audio of {checkpoint.speech.config.sample_rate} Hz; resample other recordings."
    if kind == "hf" and leaves_heads_out(checkpoint):
        yield "The quantizer and projections of its pretraining are left out: its form has none."
    encoder = checkpoint.speech.config.encoder
    if kind == "hf" and isinstance(encoder, ConvEncoderConfig) and encoder.norm == "group":
        yield (
            "One recording at a time (`batch_size=1`, the pipeline's default): in a batch, "
            "transformers takes the first layer's norm over the padding too, and the text changes."
        )
    meta = checkpoint.meta
    if isinstance(checkpoint.model, CTCModel):
        symbols = len(checkpoint.require_ctc()[1].symbols)
        yield f"It outputs {symbols} symbols and nothing else; no language model corrects it."
        if unseen := meta.get("valid_characters_unseen_in_training"):
            yield f"Characters of the validation set that it never learned: {' '.join(unseen)}"
    yield "Other speakers, rooms, microphones or languages than it learned from cost accuracy."
