"""Scoring: transcribe manifests, and say how far the transcripts are from what was said."""

import json
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from speechssl.audio import AudioWarning
from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import Utterance
from speechssl.data.unknown import find_unknown
from speechssl.decoding.greedy import greedy_decode
from speechssl.files import writing
from speechssl.inference.batching import BATCH_S, InferencePrecision, Unreadable
from speechssl.inference.confidence import calibration_of, whole_words
from speechssl.inference.decoders import Decoder
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import transcribe_all, transcribe_files
from speechssl.scoring.calibration import Calibration, confidence_json, describe_confidence
from speechssl.scoring.confidence import JudgedWords, judge
from speechssl.scoring.wer import EvalResult, format_alignment, score
from speechssl.spelling import is_blank, name_key
from speechssl.text import normalize
from speechssl.workers import Processes


@dataclass(frozen=True)
class Evaluation:
    """A model's transcripts of some utterances, and what they cost."""

    utterances: tuple[Utterance, ...]
    """Those with a transcript."""
    hypotheses: tuple[str, ...]
    num_untranscribed: int
    """Utterances left out because nobody wrote down what was said: no transcript, or a blank
    one."""
    elapsed_s: float
    words: tuple[tuple[tuple[str, float], ...], ...] = ()
    """Of each utterance (text, CTC's own confidence)."""
    calibration: Calibration | None = None
    """The model's, for the way in which it decoded."""

    @property
    def audio_s(self) -> float:
        return sum(u.duration_s for u in self.utterances)

    def score(self, normalizer: str = "none") -> EvalResult:
        """WER and CER through a normaliser; see :func:`speechssl.scoring.wer.score`.

        Utterances of whose transcript the normaliser leaves nothing (punctuation alone) are left
        out, as those without one are. Raises ValueError where none is left.
        """
        pairs = zip(self.utterances, self.hypotheses, strict=True)
        kept = [(u, h) for u, h in pairs if not _is_emptied(u, normalizer)]
        if not kept:
            raise ValueError(
                f"The normaliser {normalizer!r} leaves nothing of any of the "
                f"{len(self.utterances)} transcripts: give --normalize none, or look at them."
            )
        return score(
            [u.text or "" for u, _ in kept],
            [hypothesis for _, hypothesis in kept],
            ids=[u.id for u, _ in kept],
            speakers=[name_key(u.speaker or "") or None for u, _ in kept],
            normalizer=normalizer,
        )

    def judged_words(self, normalizer: str = "none") -> JudgedWords:
        """The words, and whether they are right through a normaliser, of the utterances that
        :meth:`score` scores."""
        rows = zip(self.utterances, self.words, strict=False)
        kept = [(u, words) for u, words in rows if not _is_emptied(u, normalizer)]
        return judge(
            [u.text or "" for u, _ in kept],
            [words for _, words in kept],
            [name_key(u.speaker or "") or None for u, _ in kept],
            normalizer=normalizer,
        )

    def emptied_by(self, normalizer: str) -> list[str]:
        """Ids of the utterances of whose transcript a normaliser leaves nothing."""
        return [u.id for u in self.utterances if _is_emptied(u, normalizer)]


def _is_emptied(utterance: Utterance, normalizer: str) -> bool:
    return is_blank(normalize(utterance.text or "", normalizer))


def evaluate(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    *,
    normalizer: str = "none",
    decode: Decoder = greedy_decode,
    precision: InferencePrecision = "auto",
) -> EvalResult:
    """WER and CER of a model on the transcribed ones of `utterances`; errors as in `infer`."""
    return infer(checkpoint, utterances, decode=decode, precision=precision).score(normalizer)


def infer(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    *,
    decode: Decoder = greedy_decode,
    precision: InferencePrecision = "auto",
    batch_s: float = BATCH_S,
    normalizer: str = "none",
    say: Callable[[str], None] | None = None,
    source: str | None = None,
    processes: Processes = 1,
) -> Evaluation:
    """Transcribe the utterances that have a transcript to be compared with.

    `say` gets a sentence before the work begins, where transcripts hold characters that the model
    does not know, also after `normalizer`. Where `source` says where other processes open the
    model, `processes` share the work, see :func:`transcribe_files`.

    Raises ValueError where none has one. A recording that cannot be read is an error
    (FileNotFoundError or AudioError), as a score without it would be another one.
    """
    chosen = [u for u in utterances if u.is_labeled]
    if not chosen:
        raise ValueError(
            f"None of the {len(utterances)} utterances has a transcript to compare with."
        )
    tokenizer = checkpoint.tokenizer
    if say and tokenizer and (unknown := find_unknown(tokenizer, chosen, normalizer)):
        say(unknown.sentence())
    started = time.monotonic()
    clips = [Clip(u.id, Path(u.audio), u.start_s, u.duration_s) for u in chosen]
    transcribing = partial(
        transcribe_all, checkpoint, clips, decode=decode, precision=precision, batch_s=batch_s
    )
    if source is not None:
        transcribing = partial(
            transcribe_files,
            *transcribing.args,
            **transcribing.keywords,
            source=source,
            processes=processes,
            say=say or warnings.warn,
        )
    hypotheses, words = [], []
    with closing(transcribing()) as results:
        for result in results:
            if isinstance(result, Unreadable):
                raise result.error
            for note in result.notes:
                warnings.warn(note, AudioWarning, stacklevel=2)
            hypotheses.append(result.text)
            words.append(tuple(whole_words(result.words)))
    return Evaluation(
        tuple(chosen),
        tuple(hypotheses),
        len(utterances) - len(chosen),
        time.monotonic() - started,
        tuple(words),
        calibration_of(checkpoint, decode),
    )


def describe(evaluation: Evaluation, results: Sequence[EvalResult], num_worst: int = 5) -> str:
    """A short table, one row for each normaliser, and the worst utterances word under word."""
    first = results[0]
    speed = evaluation.audio_s / max(evaluation.elapsed_s, 1e-9)
    lines = [
        f"{first.num_utterances} utterances, {evaluation.audio_s / 60:.1f} minutes, "
        f"{first.num_words} words; {evaluation.elapsed_s:.1f} s ({speed:.0f} x real time)",
        "",
        f"  {'text':<8}{'WER [95 %]':<24}{'CER [95 %]':<24}words: sub / del / ins",
    ]
    for r in results:
        wer, cer = _rate(r.wer, r.wer_low, r.wer_high), _rate(r.cer, r.cer_low, r.cer_high)
        edits = f"{r.substitutions} / {r.deletions} / {r.insertions}"
        lines.append(f"  {_row_name(r):<8}{wer:<24}{cer:<24}{edits}")
    lines += ["", f"Intervals: bootstrap over {_units(first)}."]
    judged = evaluation.judged_words(results[-1].normalizer)
    if said := describe_confidence(judged, evaluation.calibration):
        lines.append(said)
    if evaluation.num_untranscribed:
        lines.append(f"Left out: {evaluation.num_untranscribed} utterances without a transcript.")
    for r in results:
        if empty := evaluation.emptied_by(r.normalizer):
            lines.append(
                f"Left out of {_row_name(r)}: {len(empty)} utterances (the first: {empty[0]}), as "
                "the normaliser leaves nothing of their transcripts."
            )
    worst = [u for u in results[-1].worst(num_worst) if u.words.errors]
    if worst:
        lines += ["", "Worst utterances:"]
    for u in worst:
        lines += [f"{u.id} (WER {100 * u.wer:.0f} %)", format_alignment(u.reference, u.hypothesis)]
    return "\n".join(lines)


def write_result(
    path: Path,
    result: EvalResult,
    evaluation: Evaluation,
    manifests: Sequence[str],
    decoding: str = "greedy",
) -> None:
    """Write the JSON of ``speechssl evaluate --out``; several manifests are a list."""
    data = result.to_json(
        manifest=manifests[0] if len(manifests) == 1 else list(manifests),
        audio_s=evaluation.audio_s,
        elapsed_s=evaluation.elapsed_s,
    )
    data["decoding"] = decoding
    data["confidence"] = confidence_json(
        evaluation.judged_words(result.normalizer), evaluation.calibration
    )
    with writing(path) as file:
        file.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


def _row_name(result: EvalResult) -> str:
    return "raw" if result.normalizer == "none" else result.normalizer


def _rate(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _units(result: EvalResult) -> str:
    if result.resampled == "speaker":
        return f"{len({u.speaker for u in result.utterances})} speakers"
    return f"{result.num_utterances} utterances"
