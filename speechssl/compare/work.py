"""One job of a comparison, in a process of its own: ``python -m speechssl.compare.work OUT JOB``.

What is done is not done again: a training goes on from its newest state, and scores that are there
stay.
"""

import math
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.compare.config import ALL
from speechssl.compare.corpus import Corpus, read_written
from speechssl.compare.jobs import DONE, SCORES, Job, read_job, write_done
from speechssl.compare.plan import LOG_MEL, UNTRAINED
from speechssl.compare.robustness import clips
from speechssl.compare.scores import Scores
from speechssl.config.json import from_json
from speechssl.data.index import Corpora
from speechssl.data.manifest import Utterance
from speechssl.decoding.beam import BeamDecoder
from speechssl.decoding.greedy import greedy_decode
from speechssl.decoding.lm import CHARACTER_ORDER, train_lm
from speechssl.inference.batching import Unreadable
from speechssl.inference.decoders import Decoder
from speechssl.inference.transcribe import transcribe_all
from speechssl.interop.sources import open_model
from speechssl.model.config import ModelConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.probing.probe import make_task
from speechssl.probing.representation import log_mels, of_model, untrained
from speechssl.scoring.wer import score
from speechssl.spelling import name_key
from speechssl.system import end_with_parent, utf8_streams
from speechssl.training.finetune import FinetuneConfig, finetune
from speechssl.training.interrupts import InterruptedRunError
from speechssl.training.labels import take_minutes
from speechssl.training.loop import Outcome
from speechssl.training.pretrain import PretrainConfig, pretrain

DATA = "data"
"""The folder of the sets, in that of the comparison."""


def run_job(out: Path, name: str) -> None:
    """Do what is left of a job. Raises as the training, the scoring or the probing does."""
    job = read_job(out, name)
    corpus = read_written(out / DATA)
    {"pretrain": _pretrain, "finetune": _finetune, "probe": _probe}[job.kind](out, job, corpus)


def _pretrain(out: Path, job: Job, corpus: Corpus) -> None:
    folder = job.folder(out)
    train = [list(part) for part in corpus.train]
    if job.spec["labels"] is not None:  # the transcripts of the label budget, and no others
        shown = {u.id for u in choose_labels(corpus, job.spec["labels"], job.seed)}
        train = with_labels_of(train, shown)
    config = from_json(PretrainConfig, job.spec["config"])
    outcome = pretrain(config, Corpora(train), folder, valid_set=corpus.dev)
    _finish(folder, outcome)


def with_labels_of(train: list[list[Utterance]], shown: set[str]) -> list[list[Utterance]]:
    """The corpora, with the transcripts of the utterances `shown` (ids as of :class:`Corpora`) and
    no others, neither as letters nor as phones."""
    ids = iter([u.id for u in Corpora(train)])
    return [
        [u if next(ids) in shown else replace(u, text=None, ipa=None) for u in part]
        for part in train
    ]


def _finetune(out: Path, job: Job, corpus: Corpus) -> None:
    folder = job.folder(out)
    labeled = choose_labels(corpus, job.labels, job.seed)
    if not (folder / DONE).exists():
        config = from_json(FinetuneConfig, job.spec["config"])
        init = _initial(out, job.spec)
        _finish(folder, finetune(config, labeled, corpus.dev, folder, init=init))
    checkpoint = load_model(folder)
    decode: Decoder = greedy_decode
    if job.spec["lm"]:
        lm = train_lm([u.text or "" for u in labeled], order=CHARACTER_ORDER, unit="char")
        decode = BeamDecoder(checkpoint.require_ctc()[1], lm=lm)
    for condition in job.conditions:
        path = folder / SCORES / f"{condition}.json"
        if not path.exists():
            scores = score_under(checkpoint, corpus.test, condition, decode, job.spec["normalize"])
            scores.write(path)


def choose_labels(corpus: Corpus, budget: str, seed: int) -> list[Utterance]:
    """The transcripts of a label budget: the same for every entry."""
    return corpus.labeled if budget == ALL else take_minutes(corpus.labeled, float(budget), seed)


def score_under(
    checkpoint: Checkpoint,
    test: Sequence[Utterance],
    condition: Any,
    decode: Decoder,
    normalizer: str,
) -> Scores:
    """Errors on the distorted test set. A recording that cannot be read is an error, as a score
    without it would be another one."""
    hypotheses = []
    rate = checkpoint.speech.config.sample_rate
    for result in transcribe_all(checkpoint, clips(test, rate, condition), decode=decode):
        if isinstance(result, Unreadable):
            raise result.error
        hypotheses.append(result.text)
    found = score(
        [u.text or "" for u in test],
        hypotheses,
        ids=[u.id for u in test],
        speakers=[name_key(u.speaker or "") or None for u in test],
        normalizer=normalizer,
    )
    return Scores.of(found)


def _initial(out: Path, spec: dict[str, Any]) -> Checkpoint | None:
    """The model that a fine-tuning or a probe begins with; None: fresh weights."""
    if spec["from"]:
        return load_model(out / spec["from"])
    return open_model(spec["model"][0]) if spec["model"] else None


def _finish(folder: Path, outcome: Outcome) -> None:
    """Say that a training is done, and free what only going on would need."""
    result = {
        "steps": outcome.steps,
        "minutes": outcome.elapsed_s / 60,
        "best_step": outcome.best_step,
        "best_score": None if math.isnan(outcome.best_score or 0.0) else outcome.best_score,
    }
    write_done(folder, result)
    for name in ("cache", "checkpoints"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _probe(out: Path, job: Job, corpus: Corpus) -> None:
    spec, started = job.spec, time.monotonic()
    task = make_task(
        spec["task"],
        [u for part in corpus.train for u in part],
        corpus.dev,
        seed=spec["seed"],
        label_minutes=None if spec["task"] == "speaker" else spec["minutes"],
        steps=spec["steps"],
    )
    checkpoint = _initial(out, spec)
    if checkpoint is None:
        checkpoint = Checkpoint(SpeechModel(from_json(ModelConfig, spec["form"], "model")))
    if job.entry == LOG_MEL:
        source = log_mels(checkpoint.speech.hop_s, normalize=spec["task"] == "character")
    elif job.entry == UNTRAINED:
        source = untrained(UNTRAINED, checkpoint, spec["seed"])
    else:
        source = of_model(job.entry, checkpoint)
    rates = [[rate.value, rate.low, rate.high] for rate in task.judge(source)]
    result = {
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "about": task.describe(),
        "layers": rates,
        "minutes": (time.monotonic() - started) / 60,
    }
    write_done(job.folder(out), result)


def main() -> int:
    """Run the job that the command line names; its last line on stderr says what went wrong."""
    out, name = Path(sys.argv[1]), sys.argv[2]
    utf8_streams()
    end_with_parent()  # save and stop where the comparison was killed
    try:
        run_job(out, name)
    except InterruptedRunError:
        return 130
    except Exception as error:
        traceback.print_exc()
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"speechssl: {text}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
