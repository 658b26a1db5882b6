"""The last thing a fine-tuning does: its best model learns from the validation set how probable it
is that a word is right (:mod:`speechssl.scoring.calibration`)."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechssl.checkpoint import add_to_meta, load_model
from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import PlannedBatches, Waves
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.greedy import Hypothesis, greedy_decode
from speechssl.decoding.lm import CHARACTER_ORDER, train_lm
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.speech_model import CTCModel
from speechssl.scoring.calibration import (
    GREEDY,
    NOTE,
    WITH_LM,
    NotCalibratedError,
    calibration_sentences,
    fit_calibration,
)
from speechssl.scoring.confidence import JudgedWords, judge
from speechssl.text import WORD_MARK, Tokenizer

_BATCH_S = 60.0
_MOST_LM_CHARACTERS = 1_000_000
"""Training transcripts for the language model, so that it takes seconds."""
_MOST_LM_WORDS = 1500
"""Words of the validation set that are decoded with it."""


def calibrate_best(
    folder: Path, waves: Waves, train_texts: Sequence[str], device: torch.device
) -> None:
    """Fit on the validation set, greedily and with a language model of the training transcripts,
    and keep it in the model folder's meta.json, or why that was not possible; say so on stderr.

    A model that has it keeps it.
    """
    checkpoint = load_model(folder)
    if "calibration" in checkpoint.meta:
        return
    model, tokenizer = checkpoint.require_ctc()
    accelerate(model.to(device).eval())
    found: dict[str, Any]
    if not any(WORD_MARK in spelling for spelling in tokenizer.spellings):
        found = {
            NOTE: "Confidences are not calibrated: the model emits no spaces, and so no words."
        }
    else:
        found = _calibrations(model, tokenizer, waves, train_texts)
    add_to_meta(folder, "calibration", found)
    for sentence in calibration_sentences({"calibration": found}):
        print(sentence, file=sys.stderr, flush=True)


def _calibrations(
    model: CTCModel, tokenizer: Tokenizer, waves: Waves, train_texts: Sequence[str]
) -> dict[str, Any]:
    """For meta.json: one for each way of decoding, or a note."""
    try:
        greedy = fit_calibration(_judged(model, tokenizer, waves, greedy_decode), "greedy")
    except NotCalibratedError as error:
        return {NOTE: str(error)}
    found = {GREEDY: greedy.to_json()}
    config = BeamConfig()
    decoding = (
        f"beam {config.width}, {CHARACTER_ORDER}-gram of the training transcripts' characters, "
        f"weight {config.lm_weight}, bonus {config.bonus}"
    )
    # ValueError: a language model of characters does not fit the symbols, or too few words are left
    with contextlib.suppress(ValueError):
        lm = train_lm(_some(train_texts), order=CHARACTER_ORDER, unit="char")
        decode = BeamDecoder(tokenizer, config, lm)
        words = _judged(model, tokenizer, waves, decode, most_words=_MOST_LM_WORDS)
        found[WITH_LM] = fit_calibration(words, decoding).to_json()
    return found


@torch.no_grad()
def _judged(
    model: CTCModel,
    tokenizer: Tokenizer,
    waves: Waves,
    decode: Callable[[Tensor, Tensor], list[Hypothesis]],
    most_words: float = math.inf,
) -> JudgedWords:
    """The words of the validation set, as transcripts have them, against what was said; of the
    batches until there are `most_words`."""
    device, hop_s = next(model.parameters()).device, model.hop_s
    plan = BatchPlan(waves.lengths_s(), batch_s=_BATCH_S, seed=0, shuffle=False)
    batches = PlannedBatches(waves, plan, seed=0)
    texts: list[str] = []
    words: list[list[tuple[str, float]]] = []
    speakers: list[str | None] = []
    for index in range(plan.num_batches):
        batch = batches[index]
        log_probs, lengths = model(batch.distorted.to(device), batch.lengths.to(device))
        for hypothesis in decode(log_probs, lengths):
            end_s = hop_s * hypothesis.num_frames
            said = hypothesis.words(tokenizer, hop_s=hop_s, duration_s=end_s)
            words.append([(word.text, word.confidence) for word in said])
        texts += batch.texts
        speakers += [waves.utterances[item].speaker for item in batch.items]
        if sum(map(len, words)) >= most_words:
            break
    return judge(texts, words, speakers)


def _some(texts: Sequence[str]) -> Iterator[str]:
    """The first of them, up to a million characters."""
    left = _MOST_LM_CHARACTERS
    for text in texts:
        if left <= 0:
            return
        yield text
        left -= len(text)
