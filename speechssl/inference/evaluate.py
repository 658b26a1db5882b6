"""Word and character error rates of a model on transcribed utterances."""

from collections.abc import Sequence

from speechssl import audio
from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import Utterance
from speechssl.inference.transcribe import transcribe_waves
from speechssl.scoring.wer import EvalResult, score

_GROUP = 256
"""Utterances in memory at a time."""


def evaluate(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    *,
    normalizer: str = "none",
    seed: int = 0,
) -> EvalResult:
    """Transcribe (greedily) and score; see :func:`speechssl.scoring.wer.score` for the intervals.

    Raises ValueError where an utterance has no transcript, naming the first.
    """
    return score_texts(
        utterances, hypotheses(checkpoint, utterances), normalizer=normalizer, seed=seed
    )


def hypotheses(checkpoint: Checkpoint, utterances: Sequence[Utterance]) -> list[str]:
    """What the model writes for each utterance."""
    model, _ = checkpoint.require_ctc()
    rate = model.speech.config.sample_rate
    written: list[str] = []
    for first in range(0, len(utterances), _GROUP):
        waves = [
            audio.read(u.audio, sample_rate=rate, start_s=u.start_s, duration_s=u.duration_s)
            for u in utterances[first : first + _GROUP]
        ]
        written += [t.text for t in transcribe_waves(checkpoint, waves)]
    return written


def score_texts(
    utterances: Sequence[Utterance], written: Sequence[str], *, normalizer: str, seed: int = 0
) -> EvalResult:
    """Score what was written against the transcripts, under a named normaliser."""
    missing = [u.id for u in utterances if u.text is None]
    if missing:
        raise ValueError(
            f"{len(missing)} utterances have no transcript, the first is {missing[0]}."
        )
    speakers = [u.speaker for u in utterances]
    return score(
        [u.text or "" for u in utterances],
        list(written),
        ids=[u.id for u in utterances],
        speakers=None if None in speakers else [s or "" for s in speakers],
        normalizer=normalizer,
        seed=seed,
    )
