"""The models of an experiment once more, with a language model of what they learned from: nothing
but the labelled transcripts, so that what it gains costs no other text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechssl.checkpoint import load_model
from speechssl.data.manifest import Utterance
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.lm import CHARACTER_ORDER, NgramLM, estimate, write_arpa
from speechssl.experiment.results import Row, validation_cer
from speechssl.inference.evaluate import evaluate
from speechssl.inference.tune_lm import tune_lm
from speechssl.inference.tuned import write_tuned
from speechssl.report.results import WITH_LM

LM_FILE = "labels.arpa"


def score_with_lm(
    rows: Sequence[Row],
    best: Row | None,
    *,
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    test: Sequence[Utterance],
    out: Path,
) -> tuple[list[Row], Row]:
    """Score each model on `test` with a language model of the characters of `labeled` -> (the
    scores, `best`; where that is None the one of `rows` with the fewest errors on `valid`).

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
    scored, found = [], {}
    for row in rows:
        checkpoint = load_model(row.run)
        _, tokenizer = checkpoint.require_ctc()
        decoder = BeamDecoder(tokenizer, BeamConfig(), lm)
        if can_tune:
            tuned = found[row.name] = tune_lm(checkpoint, valid, decoder, normalizer="none")
            decoder = decoder.rescaled(tuned.config)
        result = evaluate(checkpoint, test, decode=decoder)
        scored.append(replace(row, name=row.name + WITH_LM, result=result))

    def errors(row: Row) -> float:
        return found[row.name].rates.cer if can_tune else validation_cer(row.run)

    best = best or min(rows, key=errors)
    if can_tune:
        report = found[best.name].report(decoder, "the validation set of this comparison")
        write_tuned(load_model(best.run), path, None, report)
    return scored, best


def labels_lm(labeled: Sequence[Utterance], path: Path) -> NgramLM:
    """A language model of the characters of `labeled`, which is written to `path`; errors as in
    :func:`score_with_lm`."""
    table = estimate(
        [u.text or "" for u in labeled if u.is_labeled], order=CHARACTER_ORDER, unit="char"
    )
    write_arpa(table, path)
    return table.to_lm()
