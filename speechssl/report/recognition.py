"""How well the fine-tuned models write: error rates, and utterances with what was written of them.

Shapes: S samples, T rows of log-probabilities, V vocabulary.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch

from speechssl.checkpoint import Checkpoint, find_model, load_model
from speechssl.data.dataset import Waves
from speechssl.decoding.align import TokenSpan, align
from speechssl.decoding.greedy import greedy_decode
from speechssl.pretext.features import HOP_S, log_mel, power_spectrum
from speechssl.report.blocks import example_blocks
from speechssl.report.charts import number_text
from speechssl.report.opened import CannotShowError, gone, open_valid_set, read_wave
from speechssl.report.pictures import Frame, Label, colour_limits, spectrogram
from speechssl.report.results import Rate, Table
from speechssl.report.runs import Run
from speechssl.report.sound import player
from speechssl.report.transcripts import mark_differences
from speechssl.scoring.calibration import GREEDY, WITH_LM, stored_calibration
from speechssl.scoring.wer import EvalResult, UtteranceResult, score
from speechssl.text import SPACE, Tokenizer
from speechssl.training.runfolder import HYPOTHESES

_NUM_WORST = 5
_LONGEST_S = 15.0
"""Longer utterances have a spectrogram that nobody can read: they are passed over."""
_LEAST_WIDTH, _WIDTH_PER_S = 1120.0, 190.0


def validation_table(runs: Sequence[Run]) -> Table | None:
    """The error rates of the fine-tuned runs in validation; None where there are none."""
    rows: list[tuple[str | Rate, ...]] = []
    for run in runs:
        result = read_result(run)
        if result is not None:
            counts = (result.substitutions, result.deletions, result.insertions)
            edits = "\u00a0/\u00a0".join(f"{count:,}" for count in counts)  # in one line
            rates = (
                Rate(result.cer, result.cer_low, result.cer_high),
                Rate(result.wer, result.wer_low, result.wer_high),
            )
            rows.append((run.name, *rates, edits, f"{result.num_words:,}"))
        elif known := _rates_of_meta(run):
            rows.append((run.name, *known, "", ""))
    if not rows:
        return None
    heads = ("model", "character error rate", "word error rate", "wrong / missing / extra", "words")
    note = (
        "Of each run's best model on its validation set, by which it was chosen: the numbers to "
        "publish are those of a test set. Lines over the bars are 95 % intervals."
    )
    return Table("Validation", heads, tuple(rows), note)


def confidence_table(runs: Sequence[Run]) -> Table | None:
    """How good the fine-tuned runs' confidence in words is; None where it was not measured."""
    rows: list[tuple[str | Rate, ...]] = []
    for run in runs:
        for kind, name in ((GREEDY, "greedy"), (WITH_LM, "language model")):
            with contextlib.suppress(ValueError):
                if calibration := stored_calibration(run.meta, kind):
                    quality = calibration.quality
                    found, most = quality.found_after, quality.most_found
                    shares = f"{100 * found:.1f} % of {100 * most:.1f} %" if found and most else ""
                    errors = (f"{quality.error_before:.3f}", f"{quality.error_after:.3f}")
                    rows.append((run.name, name, *errors, shares, f"{quality.num_words:,}"))
    if not rows:
        return None
    heads = ("model", "decoding", "error before", "error after", "wrong words found", "words")
    note = (
        "Expected calibration error of the confidence in words, in ten bins, before and after "
        "calibration; measured on halves of the validation set, each by a map fitted on the other. "
        "Wrong words found: the share of the wrong words that is among the least confident 20 % of "
        "all words, and the most that any order of the words could give."
    )
    return Table("Confidence", heads, tuple(rows), note)


def read_result(run: Run) -> EvalResult | None:
    """What the best model wrote in validation, scored; None where the run does not tell."""
    if run.task != "finetune":
        return None
    try:
        text = (find_model(run.folder) / HYPOTHESES).read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        return score(
            [line["reference"] for line in lines],
            [line["hypothesis"] for line in lines],
            ids=[line["id"] for line in lines],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _rates_of_meta(run: Run) -> tuple[Rate, Rate] | None:
    try:
        valid, intervals = run.meta["valid"], run.meta["valid_intervals"]
        return Rate(valid["cer"], *intervals["cer"]), Rate(valid["wer"], *intervals["wer"])
    except (KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Written:
    """One utterance, and which symbol is where in it."""

    result: UtteranceResult
    sample_rate: int
    wave: np.ndarray
    """(S,)."""
    said: tuple[Label, ...]
    """The reference, aligned; empty where it does not fit."""
    written: tuple[Label, ...]
    """What the model writes."""


def utterances_section(runs: Sequence[Run]) -> str:
    """A typical and the worst utterances of the fine-tuned runs; '' where there is none."""
    blocks = example_blocks(runs, "finetune", _of_run)
    if not blocks:
        return ""
    note = (
        "Of the validation set: the one with the median character error rate, then the worst. Over "
        "the spectrogram what was said, where the best path of CTC has it, and what was "
        "written, where the model wrote it; a symbol often gets only the first frame of its sound."
    )
    return (
        '<section id="utterances"><h2>Typical and worst utterances</h2>'
        f'<p class="note">{note}</p>{blocks}</section>'
    )


def _of_run(run: Run) -> str:
    try:
        typical, worst = chosen_utterances(run)
    except CannotShowError as error:
        return f'<p class="note">{escape(str(error))}</p>'
    cards = [_card(u, "typical") for u in typical] + [_card(u, "worst") for u in worst]
    return f'<div class="stack">{"".join(cards)}</div>'


def chosen_utterances(run: Run) -> tuple[list[Written], list[Written]]:
    """The utterance with the median CER, and the worst ones.

    Raises CannotShowError where the run does not tell what its model wrote, or its recordings are
    gone.
    """
    result = read_result(run)
    if result is None:
        raise CannotShowError(
            f"{run.name} does not tell what its best model wrote: best/{HYPOTHESES} is written at "
            "a validation."
        )
    checkpoint, waves = open_recogniser(run)
    items = {u.id: item for item, u in enumerate(waves.utterances)}
    ranked = sorted(result.utterances, key=lambda u: (u.cer, u.id))
    middle = len(ranked) // 2
    worst = [u for u in result.worst(len(ranked)) if u.words.errors]
    found: tuple[list[Written], list[Written]] = ([], [])
    for into, most, candidates in (
        (found[0], 1, ranked[middle:]),
        (found[1], _NUM_WORST, worst),
    ):
        for candidate in candidates:
            item = items.get(candidate.id)
            if item is None or waves.utterances[item].duration_s > _LONGEST_S:
                continue
            if (wave := read_wave(waves, item)) is not None:
                into.append(_hear(checkpoint, candidate, wave))
            if len(into) == most:
                break
    if not any(found):
        raise gone(run, waves)
    return found


def open_recogniser(run: Run) -> tuple[Checkpoint, Waves]:
    """The best model of a fine-tuning run, and what it validates on.

    Raises CannotShowError where one of them is missing.
    """
    try:
        checkpoint = load_model(run.folder)
        checkpoint.require_ctc()
    except (OSError, ValueError) as error:
        raise CannotShowError(str(error)) from error
    return checkpoint, open_valid_set(run, checkpoint.speech.config.sample_rate)


@torch.no_grad()
def log_probs(checkpoint: Checkpoint, wave: np.ndarray) -> torch.Tensor:
    """(S,) -> (T, V) float32."""
    model, _ = checkpoint.require_ctc()
    found, lengths = model(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
    return found[0, : int(lengths)].float()


def _hear(checkpoint: Checkpoint, result: UtteranceResult, wave: np.ndarray) -> Written:
    model, tokenizer = checkpoint.require_ctc()
    probs = log_probs(checkpoint, wave)
    (hypothesis,) = greedy_decode(probs[None], torch.tensor([len(probs)]))
    try:
        said = align(probs.numpy(), tokenizer.encode(result.reference)).tokens
    except ValueError:  # more symbols than rows
        said = ()
    return Written(
        result=result,
        sample_rate=model.speech.config.sample_rate,
        wave=wave,
        said=_labels(said, tokenizer, model.hop_s, None),
        written=_labels(hypothesis.tokens, tokenizer, model.hop_s, said),
    )


def _labels(
    tokens: Sequence[TokenSpan],
    tokenizer: Tokenizer,
    hop_s: float,
    said: Sequence[TokenSpan] | None,
) -> tuple[Label, ...]:
    """Where each symbol is; with `said`, those that are not said about there are wrong."""
    return tuple(
        Label(
            tokenizer.symbols[token.id].replace(SPACE, "\N{OPEN BOX}"),
            token.start_frame * hop_s,
            token.end_frame * hop_s,
            said is not None and not any(_meet(token, other) for other in said),
        )
        for token in tokens
    )


def _meet(token: TokenSpan, other: TokenSpan) -> bool:
    """The same symbol, within a frame of the same place."""
    return (
        token.id == other.id
        and token.start_frame <= other.end_frame
        and other.start_frame <= token.end_frame
    )


def _card(utterance: Written, kind: str) -> str:
    u = utterance.result
    num_hops = max(len(utterance.wave) // round(HOP_S * utterance.sample_rate), 1)
    power = power_spectrum(torch.from_numpy(utterance.wave)[None], num_hops, utterance.sample_rate)
    mels = log_mel(power, utterance.sample_rate)[0].numpy()
    drawn = spectrogram(
        mels,
        limits=colour_limits(mels),
        sample_rate=utterance.sample_rate,
        hop_s=HOP_S,
        title=f"Spectrogram of {u.id}, with the symbols said and written",
        rows=[("said", utterance.said), ("written", utterance.written)],
        frame=Frame(width=max(_LEAST_WIDTH, num_hops * HOP_S * _WIDTH_PER_S), left=54),
    )
    rates = f"CER {number_text(u.cer, percent=True)}, WER {number_text(u.wer, percent=True)}"
    sound = player(utterance.wave, utterance.sample_rate, f"Listen to {u.id}")
    return (
        f'<article class="card utterance"><h4 class="id">{escape(u.id)}'
        f'<span class="tag">{kind} · {rates}</span></h4>'
        f'<div class="samples"><dl><dt>said</dt><dd dir="auto">{escape(u.reference)}</dd>'
        f'<dt>written</dt><dd dir="auto">{mark_differences(u.reference, u.hypothesis)}</dd></dl>'
        f'</div>{sound}<div class="scroll" tabindex="0" role="group" '
        f'aria-label="Spectrogram, scrolls sideways">{drawn}</div></article>'
    )
