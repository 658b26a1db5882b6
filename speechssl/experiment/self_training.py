"""The last training of an experiment: the best model transcribes what nobody has, and a student
learns from the surest of that beside the labels."""

from collections.abc import Sequence
from pathlib import Path

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.data.manifest import Utterance
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.experiment.splits import minutes_of, say
from speechssl.experiment.with_lm import LM_FILE, labels_lm
from speechssl.files import sha256
from speechssl.rng import rng
from speechssl.selftraining.config import SelfTrainConfig
from speechssl.selftraining.rounds import Decoding, selftrain
from speechssl.selftraining.sets import in_both
from speechssl.training.processes import Processes

MOST = 40.0
"""Minutes of recordings that are transcribed for each minute that the student learns: of more a
random part. One core transcribes some 200 minutes in one."""


def self_train(
    run: Path,
    teacher: Path,
    *,
    init: Checkpoint,
    unlabeled: Sequence[Utterance],
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    config: SelfTrainConfig,
    processes: Processes,
) -> bool:
    """Train a student in the folder `run` -> whether there is one, and it has fewer errors on
    `valid` than its teacher.

    Args:
        run: a self-training that lies there is gone on with.
        teacher: folder of the fine-tuning whose model transcribes, with a language model of
            `labeled` where there can be one.
        init: what the student begins with.
        unlabeled: of which those that are in `labeled` are left out.
        labeled: each with a transcript, like those of `valid`.
        valid: by which the student is judged.
        config: of one round.
        processes: that share the training.
    """
    pool = _pool(unlabeled, labeled, config)
    if not pool:
        say("\nNo self-training: every recording has a transcript.")
        return False
    say(
        f"\nSelf-training: {teacher.name} transcribes {minutes_of(pool):.0f} minutes without "
        "transcripts, and a model learns from the surest of them too ..."
    )
    model = load_model(teacher)
    state = selftrain(
        config,
        model,
        pool,
        labeled,
        valid,
        run,
        init=init,
        decoding=_decoding(model, labeled, run.parent / LM_FILE),
        processes=processes,
    )
    if not state.best:
        say(f"The student is not kept: {state.ended}.")
    return bool(state.best)


def _pool(
    unlabeled: Sequence[Utterance], labeled: Sequence[Utterance], config: SelfTrainConfig
) -> list[Utterance]:
    known = {u.id for u in in_both(unlabeled, labeled)}
    pool = [u for u in unlabeled if u.id not in known]
    loop = config.student.loop
    most = MOST * loop.budget_minutes if loop.budget_minutes else float("inf")
    if minutes_of(pool) <= most:
        return pool
    chosen, left_s = [], 60 * most
    for i in rng(loop.seed, "self-training-pool").permutation(len(pool)).tolist():
        if left_s < pool[i].duration_s:
            break
        chosen.append(i)
        left_s -= pool[i].duration_s
    return [pool[i] for i in sorted(chosen)]


def _decoding(teacher: Checkpoint, labeled: Sequence[Utterance], path: Path) -> Decoding:
    """With a language model of the labels, greedy where there can be none."""
    _, tokenizer = teacher.require_ctc()
    try:
        decoder = BeamDecoder(tokenizer, BeamConfig(), labels_lm(labeled, path))
    except ValueError as error:
        say(f"Transcribed without a language model: {error}")
        return Decoding()
    return Decoding(lambda _: decoder, f"lm {sha256(path)[:16]}")
