"""The models of an experiment once more, with a language model of what they learned from: nothing
but the labelled transcripts, so that what it gains costs no other text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.data.manifest import Utterance
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.lm import CHARACTER_ORDER, NgramLM, estimate, write_arpa
from speechssl.experiment.results import Row
from speechssl.inference.evaluate import evaluate
from speechssl.inference.tune_lm import tune_lm
from speechssl.inference.tuned import write_tuned
from speechssl.report.results import WITH_LM

LM_FILE = "labels.arpa"


def score_with_lm(
    rows: Sequence[Row],
    best: Row,
    *,
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    test: Sequence[Utterance],
    out: Path,
) -> list[Row]:
    """Score each model on `test` with a language model of the characters of `labeled`.

    Its weight and bonus are those with the fewest errors on `valid`; where that is what is scored
    they stay as they are.

    The language model is kept in `out`, and the weights of `best` beside it, so that ``transcribe
    --lm`` takes them.

    Raises ValueError where a language model of characters does not fit the models' symbols, or the
    transcripts are too few for one.
    """
    path = out / LM_FILE
    lm = labels_lm(labeled, path)
    can_tune = not {u.id for u in valid} & {u.id for u in test}
    found = []
    for row in rows:
        checkpoint = load_model(row.run)
        _, tokenizer = checkpoint.require_ctc()
        decoder = BeamDecoder(tokenizer, BeamConfig(), lm)
        if can_tune:
            decoder = _tuned(checkpoint, decoder, valid, path if row is best else None)
        result = evaluate(checkpoint, test, decode=decoder)
        found.append(replace(row, name=row.name + WITH_LM, result=result))
    return found


def labels_lm(labeled: Sequence[Utterance], path: Path) -> NgramLM:
    """A language model of the characters of `labeled`, which is written to `path`; errors as in
    :func:`score_with_lm`."""
    table = estimate(
        [u.text or "" for u in labeled if u.is_labeled], order=CHARACTER_ORDER, unit="char"
    )
    write_arpa(table, path)
    return table.to_lm()


def _tuned(
    checkpoint: Checkpoint, decoder: BeamDecoder, valid: Sequence[Utterance], lm: Path | None
) -> BeamDecoder:
    """With the best weights on `valid`, which are kept beside the file `lm`."""
    found = tune_lm(checkpoint, valid, decoder, normalizer="none")
    if lm is not None:
        report = found.report(decoder, "the validation set of this comparison")
        write_tuned(checkpoint, lm, None, report)
    return decoder.rescaled(found.config)
