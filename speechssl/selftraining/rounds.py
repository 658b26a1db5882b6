"""The rounds: label the pool, choose, train a student, score it, perhaps stop.

A round is a function of the settings, the sets and the models before it, and each of its parts
writes what it makes, so that a command that was stopped goes on: the labels batch by batch
(``round-N/hypotheses.jsonl``), the student as every run, its scores and all that is decided in
``selftrain.json``.
"""

import copy
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from speechssl import torchrun
from speechssl.checkpoint import Checkpoint, load_model, save_model, sweep
from speechssl.config.json import differences, to_json
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.decoding.greedy import greedy_decode
from speechssl.files import writing
from speechssl.inference.decoders import Decoder
from speechssl.inference.evaluate import infer
from speechssl.scoring.wer import EvalResult, character_errors, score
from speechssl.selftraining.config import SelfTrainConfig
from speechssl.selftraining.gate import UNSURE, Gated, Label, Range, gate
from speechssl.selftraining.labelling import label_pool, pairs_with_text
from speechssl.selftraining.result import (
    Round,
    State,
    decide,
    read_state,
    scored,
    write_state,
)
from speechssl.selftraining.sets import Sets, choose_sets, mixed, pseudo_labeled
from speechssl.spelling import name_key
from speechssl.text import normalize
from speechssl.training.adapt import fitting_dropout
from speechssl.training.finetune import finetune
from speechssl.training.inputs import changed, digest_of_model, finetuning_inputs
from speechssl.training.interrupts import preemptible
from speechssl.training.loop_config import FREE_TO_CHANGE
from speechssl.training.processes import Processes
from speechssl.training.runfolder import run_lock, write_config
from speechssl.training.start_kinds import with_start_settings

LEAST_DROPOUT = 0.2
"""Of a student whose model was pretrained without any: noise is what it learns by."""


@dataclass(frozen=True)
class Decoding:
    """How a teacher's output becomes text."""

    make: Callable[[Checkpoint], Decoder] = lambda _: greedy_decode
    """The decoder for a model."""
    key: str = "greedy"
    """Tells it from others: what goes on must be decoded as it was."""


def selftrain(
    config: SelfTrainConfig,
    model: Checkpoint,
    unlabeled: Sequence[Utterance],
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    run: Path,
    *,
    init: Checkpoint | None,
    decoding: Decoding = Decoding(),
    score_pool: bool = False,
    resume: bool = True,
    processes: Processes = 1,
) -> State:
    """Run it: `run/best` is the model with the lowest CER on the validation set afterwards, which
    is the given one where no round is better.

    Args:
        config: the run.
        model: the first teacher, with a CTC head.
        unlabeled: the pool. Its transcripts, if it has any, are not learned from.
        labeled: utterances with transcripts, which every student learns from.
        valid: the same, never learned from.
        run: folder; a run that lies there is gone on with, unless `resume` is False.
        init: what each student starts from; None: fresh weights.
        decoding: of the labels. The validation is always decoded greedily, as students are chosen.
        score_pool: also compare the labels with the pool's transcripts.
        processes: that share the training of a student.

    Raises ValueError for a model without a CTC head, sets that overlap or are of no use, and where
    another run lies in `run`; InterruptedRunError on SIGINT in the updates, after saving.
    """
    if torchrun.num_processes() > 1:
        raise ValueError("selftrain runs in one process: start it without torchrun.")
    _, tokenizer = model.require_ctc()
    config = resolved(config, init or model)
    with run_lock(run), preemptible():
        sets = choose_sets(unlabeled, labeled, valid, tokenizer, score_pool=score_pool, say=_say)
        inputs = _inputs(sets, model, init, decoding, score_pool)
        before = _state_in(run, resume)
        if before is not None:
            _check_same(run, before, config, inputs)
        write_config(run, to_json(config))
        if before is None:
            before = State(inputs)
            write_state(run, before)
        sweep(run)
        job = _Job(config, model, init, sets, run, decoding, score_pool, processes)
        return job.go(before)


def resolved(config: SelfTrainConfig, start: Checkpoint) -> SelfTrainConfig:
    """With the student's model, dropout where it would have none, and what the kind of start
    wants."""
    student = replace(config.student, model=start.speech.config)
    if student.dropout is None and fitting_dropout(start.speech.config, 0.0) is not None:
        student = replace(student, dropout=LEAST_DROPOUT)
    return replace(config, student=with_start_settings(student, start, 0.0))


@dataclass(frozen=True)
class _Job:
    """One self-training, as it is given."""

    config: SelfTrainConfig
    model: Checkpoint
    init: Checkpoint | None
    sets: Sets
    run: Path
    decoding: Decoding
    score_pool: bool
    processes: Processes

    def go(self, state: State) -> State:
        """From `state` to the end."""
        if state.is_final or len(state.rounds) > self.config.rounds:
            _say(f"The run has ended after round {state.rounds[-1].number}.")
        elif state.rounds:
            _say(f"Going on after round {state.rounds[-1].number}.")
        else:
            state = self._note(state, scored(0, self._score(self.model, 0)), self.model)
            _say(f"Round 0, the given model: {_cer(state.rounds[0])}.")
        while not state.is_final and len(state.rounds) <= self.config.rounds:
            state = self._round(state)
        if not state.is_final:
            state = replace(state, ended=f"all {self.config.rounds} rounds are done")
            write_state(self.run, state)
        return state

    def _round(self, state: State) -> State:
        """One round more; or the end, where the gate keeps nothing."""
        number = len(state.rounds)
        teacher = self._model_of(state.best)
        gated = self._label(teacher, number, state.best)
        if not gated.kept:
            state = replace(state, ended=nothing_kept(gated, number), is_final=True)
            write_state(self.run, state)
            return state
        student = self._train(gated, number)
        result = self._score(student, number)
        made = replace(
            scored(number, result, self._score(teacher, state.best)),
            teacher=state.best,
            kept=len(gated.kept),
            refused=gated.reasons(),
            threshold=gated.threshold,
            mean_weight=_mean_weight(pseudo_labeled(gated, self.config)),
            weights=str(student.meta.get("weights", "last")),
        )
        if self.score_pool:
            refused = [label for label, _ in gated.refused if not label.error]
            made = replace(made, kept_cer=label_cer(gated.kept), refused_cer=label_cer(refused))
        _say(f"Round {number}: {_cer(made)}, {_compared(made)}.")
        shutil.rmtree(self._folder(number) / "student" / "cache", ignore_errors=True)
        return self._note(state, made, student)

    def _label(self, teacher: Checkpoint, number: int, teacher_round: int) -> Gated:
        """The pool through the teacher and the gate, and what came of it on the disk."""
        pool, folder = self.sets.pool, self._folder(number)
        _say(
            f"Round {number}: the model of round {teacher_round} labels {len(pool)} utterances "
            f"({sum(u.duration_s for u in pool) / 60:.1f} minutes) ..."
        )
        labels = label_pool(
            teacher,
            pool,
            folder / "hypotheses.jsonl",
            decode=self.decoding.make(teacher),
            say=_say,
        )
        gated = gate(labels, self.config, Range.of(self.sets.labeled), number)
        _write_labels(folder, gated, self.config, digest_of_model(teacher))
        reasons = ", ".join(f"{reason} {num}" for reason, num in gated.reasons().items())
        _say(f"  kept {len(gated.kept)}; refused: {reasons or 'none'}.")
        return gated

    def _train(self, gated: Gated, number: int) -> Checkpoint:
        """The student of a round: its best model."""
        student, folder = self.config.student, self._folder(number) / "student"
        pseudo = pseudo_labeled(gated, self.config)
        seed = student.loop.seed + number
        train_set = mixed(self.sets.labeled, pseudo, self.config.labeled_share, seed)
        finetune(
            replace(student, loop=replace(student.loop, seed=seed)),
            train_set,
            self.sets.valid,
            folder,
            init=None if self.init is None else _fresh(self.init),
            announce=True,
            processes=self.processes,
        )
        return load_model(folder)

    def _score(self, model: Checkpoint, number: int) -> EvalResult:
        """Of a round's model on the validation set, greedily; its texts are kept on the disk."""
        valid, path = self.sets.valid, self._folder(number) / "valid.json"
        if path.exists():
            texts = json.loads(path.read_text(encoding="utf-8"))
        else:
            texts = list(infer(model, valid, precision="fp32").hypotheses)
            with writing(path) as file:
                file.write(json.dumps(texts, ensure_ascii=False, indent=0) + "\n")
        speakers = [name_key(u.speaker or "") or None for u in valid]
        return score(
            [u.text or "" for u in valid], texts, ids=[u.id for u in valid], speakers=speakers
        )

    def _note(self, state: State, made: Round, model: Checkpoint) -> State:
        """With a round and its model more, and what follows from it; written."""
        rounds = (*state.rounds, made)
        best, ended = decide(rounds, min_gain=self.config.min_gain, patience=self.config.patience)
        state = replace(state, rounds=rounds, best=best, ended=ended, is_final=bool(ended))
        if best == made.number:  # before the state: a round whose state is missing is done again
            minutes = round(sum(u.duration_s for u in self.sets.labeled) / 60, 2)
            meta = {**model.meta, "selftraining_round": best, "label_minutes": minutes}
            save_model(self.run / "best", replace(model, meta=meta, pretraining={}))
        write_state(self.run, state)
        return state

    def _model_of(self, number: int) -> Checkpoint:
        """The model of a round."""
        return load_model(self._folder(number) / "student") if number else self.model

    def _folder(self, number: int) -> Path:
        return self.run / f"round-{number}"


def _inputs(
    sets: Sets, model: Checkpoint, init: Checkpoint | None, decoding: Decoding, score_pool: bool
) -> dict[str, str]:
    """Digests of what a run is started on, by name."""
    _, tokenizer = model.require_ctc()
    texts = [u.text if score_pool else "" for u in sets.pool]
    pool = [(u.id, u.start_s, u.duration_s, text) for u, text in zip(sets.pool, texts, strict=True)]
    found = finetuning_inputs(sets.labeled, sets.valid, init, tokenizer) | {
        "unlabeled recordings": _digest(pool),
        "model": digest_of_model(model),
        "decoding": decoding.key,
    }
    names = {"training": "labeled", "initial model": "--init"}
    for old, new in names.items():
        found = {name.replace(old, new): digest for name, digest in found.items()}
    return found


def _digest(values: Any) -> str:
    return blake2b(json.dumps(values).encode(), digest_size=16).hexdigest()


def _state_in(run: Path, resume: bool) -> State | None:
    """Where an earlier command left a run; None where one begins, and what there was is removed.

    Raises ValueError where the folder holds something else.
    """
    state = read_state(run)
    names = ("best", "model", "checkpoints", "metrics.jsonl")
    if state is None and (others := [name for name in names if (run / name).exists()]):
        raise ValueError(
            f"{run} holds {others[0]} of something else than a self-training: give another --out."
        )
    if state is not None and resume:
        return state
    for folder in run.glob("round-*"):
        shutil.rmtree(folder)
    return None


def _check_same(run: Path, before: State, config: SelfTrainConfig, inputs: dict[str, str]) -> None:
    """ValueError where a run has other inputs or settings than the one that lies in its folder."""
    if others := changed(before.inputs, inputs):
        raise ValueError(
            f"{run} holds a self-training that was started on other inputs ({', '.join(others)}): "
            "give those, another --out, or --resume never to begin anew."
        )
    try:
        there = json.loads((run / "config.json").read_text(encoding="utf-8"))
        old, new = _deciding(there), _deciding(json.loads(json.dumps(to_json(config))))
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{run / 'config.json'} is missing or damaged: give another --out, or --resume never "
            "to begin anew."
        ) from error
    if old != new:
        raise ValueError(
            f"{run} holds a self-training with other settings ({differences(old, new)}): give "
            "those settings, another --out, or --resume never to begin anew."
        )


def _deciding(config: dict[str, Any]) -> dict[str, Any]:
    """The settings on which the numbers of a round depend."""
    loop = {k: v for k, v in config["student"]["loop"].items() if k not in FREE_TO_CHANGE}
    others = {name: value for name, value in config.items() if name != "rounds"}
    return {**others, "student": {**config["student"], "loop": loop}}


def _fresh(init: Checkpoint) -> Checkpoint:
    """A copy that a student may change."""
    return replace(init, model=copy.deepcopy(init.model))


def _write_labels(folder: Path, gated: Gated, config: SelfTrainConfig, teacher: str) -> None:
    """``pseudo.jsonl``, a manifest with weights and where its texts are from, and ``refused.jsonl``
    with the others."""
    notes = [{"confidence": label.confidence, "teacher": teacher} for label in gated.kept]
    write_manifest(
        folder / "pseudo.jsonl", pseudo_labeled(gated, config), relative=False, notes=notes
    )
    with writing(folder / "refused.jsonl") as file:
        for label, reason in gated.refused:
            fields: dict[str, Any] = {
                "id": label.utterance.id,
                "reason": reason,
                "text": label.text,
            }
            fields |= {"confidence": label.confidence, "error": label.error}
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")


def nothing_kept(gated: Gated, number: int) -> str:
    """Why a round ends with its gate, for a person."""
    reasons = ", ".join(f"{reason} {num}" for reason, num in gated.reasons().items())
    surest = max(
        (label.confidence for label, reason in gated.refused if reason == UNSURE), default=None
    )
    advice = (
        "look at refused.jsonl there"
        if surest is None
        else f"the surest label has {surest:.3f}: lower --min-confidence, or raise --keep"
    )
    return f"the gate of round {number} keeps no label (refused: {reasons}); {advice}"


def _mean_weight(pseudo: Sequence[Utterance]) -> float:
    return round(sum(u.weight for u in pseudo) / len(pseudo), 6)


def label_cer(labels: Sequence[Label]) -> float | None:
    """Character error rate of the labels whose true transcript is known; None for none."""
    pairs = list(pairs_with_text(labels))
    if not pairs:
        return None
    errors = character_errors([true for true, _ in pairs], [text for _, text in pairs])
    return sum(errors) / sum(len(normalize(true, "none")) for true, _ in pairs)


def _cer(made: Round) -> str:
    return f"CER {100 * made.cer.value:.1f} %, WER {100 * made.wer.value:.1f} %"


def _compared(made: Round) -> str:
    assert made.cer_change is not None
    change = made.cer_change
    return (
        f"CER {100 * change.difference:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}] "
        f"points against its teacher (round {made.teacher})"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
