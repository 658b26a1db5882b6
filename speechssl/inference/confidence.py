"""The confidence of transcripts: calibrated where the model is, and how good it is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from speechssl.checkpoint import Checkpoint, add_to_meta
from speechssl.decoding.align import Word
from speechssl.scoring.calibration import (
    GREEDY,
    NOTE,
    WITH_LM,
    Calibration,
    fit_calibration,
    stored_calibration,
)
from speechssl.scoring.confidence import JudgedWords


def calibration_of(checkpoint: Checkpoint, decode: Callable[..., object]) -> Calibration | None:
    """What was fitted for this way of decoding; None where the model was not calibrated.

    Raises ValueError where it is damaged.
    """
    return stored_calibration(checkpoint.meta, _kind(decode))


def why_not_calibrated(checkpoint: Checkpoint) -> str:
    """A sentence for the person."""
    stored = checkpoint.meta.get("calibration")
    if isinstance(stored, dict) and isinstance(note := stored.get(NOTE), str):
        return note
    return (
        "Confidences are not calibrated: they rank words, and say nothing of how many are right "
        "(`speechssl evaluate MODEL DEV --calibrate` with the same decoding adds it)."
    )


def calibrated(words: Sequence[Word], calibration: Calibration | None) -> list[Word]:
    """The words with the probability that each is right as confidence, and their own as
    `raw_confidence`; as they are without a calibration."""
    if calibration is None:
        return list(words)
    return [
        replace(
            word, confidence=calibration(word.confidence, word.text), raw_confidence=word.confidence
        )
        for word in words
    ]


def calibrate(
    checkpoint: Checkpoint, words: JudgedWords, decode: Callable[..., object], decoding: str
) -> Calibration:
    """Fit on `words`, decoded by `decode`, which `decoding` describes, and write it into the model
    folder in place of an earlier one.

    Raises NotCalibratedError, and ValueError as :func:`check_can_keep`.
    """
    folder = check_can_keep(checkpoint)
    calibration = fit_calibration(words, decoding)
    stored = checkpoint.meta.get("calibration")
    kept = {k: v for k, v in stored.items() if k != NOTE} if isinstance(stored, dict) else {}
    add_to_meta(folder, "calibration", {**kept, _kind(decode): calibration.to_json()})
    return calibration


def check_can_keep(checkpoint: Checkpoint) -> Path:
    """The folder of a model that a calibration can be written into; ValueError where it is not in a
    folder of ours."""
    folder = checkpoint.folder
    if folder is None or not (folder / "meta.json").exists():
        raise ValueError(
            "--calibrate writes into a model folder of speechssl, and this model is of another "
            "kind: make one of it with `speechssl import`."
        )
    return folder


def whole_words(words: Sequence[Word]) -> list[tuple[str, float]]:
    """(text, own confidence of CTC) of each word, those that were cut for subtitles whole again."""
    found: list[tuple[str, float, int]] = []
    for word in words:
        raw = word.confidence if word.raw_confidence is None else word.raw_confidence
        size = max(len(word.parts), 1)
        if word.joined and found:
            text, before, num = found.pop()
            mean = max(before, 1e-30) ** (num / (num + size)) * max(raw, 1e-30) ** (
                size / (num + size)
            )
            found.append((text + word.text, mean, num + size))
        else:
            found.append((word.text, raw, size))
    return [(text, confidence) for text, confidence, _ in found]


def _kind(decode: Callable[..., object]) -> str:
    return WITH_LM if getattr(decode, "uses_lm", False) else GREEDY
