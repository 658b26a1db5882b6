"""A job is a folder: what it is to do (job.json), what it does, what came of it (done.json).

What decides a job's numbers is its spec, and a folder with another spec is of another comparison.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from speechssl.config.json import differences
from speechssl.files import writing

Kind = Literal["pretrain", "finetune", "probe"]
JOB, DONE, LOG, SCORES = "job.json", "done.json", "log.txt", "scores"


@dataclass(frozen=True)
class Job:
    """One process of a comparison."""

    name: str
    """Its folder below that of the comparison: ``finetune/wav2vec-10-min-seed-0``."""
    kind: Kind
    entry: str
    spec: dict[str, Any]
    """All that its numbers depend on, as JSON."""
    after: tuple[str, ...] = ()
    """Jobs that must be done before it."""
    minutes: float = 0.0
    """About how long it takes."""
    labels: str = ""
    """Of a fine-tuning: its label budget."""
    seed: int = 0
    conditions: tuple[str, ...] = field(default=())
    """Of a fine-tuning: what is scored. More may be asked for later."""

    def folder(self, out: Path) -> Path:
        return out / self.name

    def is_done(self, out: Path) -> bool:
        """Whether nothing is left to do."""
        folder = self.folder(out)
        scores = (folder / SCORES / f"{condition}.json" for condition in self.conditions)
        return (folder / DONE).exists() and all(path.exists() for path in scores)

    def result(self, out: Path) -> dict[str, Any]:
        """What it has written to done.json."""
        found: dict[str, Any] = _read(self.folder(out) / DONE)
        return found

    def write(self, out: Path) -> None:
        """Make its folder, and say there what is to be done."""
        data = {
            "kind": self.kind,
            "entry": self.entry,
            "labels": self.labels,
            "seed": self.seed,
            "after": list(self.after),
            "conditions": list(self.conditions),
            "spec": self.spec,
        }
        with writing(self.folder(out) / JOB) as file:
            file.write(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def read_job(out: Path, name: str) -> Job:
    """A job that :meth:`Job.write` wrote."""
    data = _read(out / name / JOB)
    return Job(
        name,
        data["kind"],
        data["entry"],
        data["spec"],
        tuple(data["after"]),
        labels=data["labels"],
        seed=data["seed"],
        conditions=tuple(data["conditions"]),
    )


def write_done(folder: Path, result: dict[str, Any]) -> None:
    """A job's last act."""
    with writing(folder / DONE) as file:
        file.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def check_same_comparison(out: Path, jobs: Iterable[Job]) -> None:
    """ValueError where a job's folder is of a job with other settings, before any has begun."""
    for job in jobs:
        path = job.folder(out) / JOB
        if not path.exists():
            continue
        before = _read(path)["spec"]
        now = json.loads(json.dumps(job.spec))
        if before != now:
            raise ValueError(
                f"{out} holds a comparison with other settings ({job.name}: "
                f"{_short(differences(before, now))}): give those, or another --out."
            )


def others_there(out: Path, jobs: Sequence[Job]) -> list[str]:
    """Names of jobs in the folder that are not among these."""
    known = {job.name for job in jobs}
    found = sorted(path.parent for path in out.glob(f"*/*/{JOB}"))
    names = [path.relative_to(out).as_posix() for path in found]
    return [name for name in names if name not in known]


def minutes_of_jobs(jobs: Sequence[Job], num_processes: int) -> float:
    """About how long so many processes take for these jobs."""
    if not jobs:
        return 0.0
    first = max((job.minutes for job in jobs if not job.after), default=0.0)
    later = max((job.minutes for job in jobs if job.after), default=0.0)
    return max(sum(job.minutes for job in jobs) / num_processes, first + later)


def last_sentence(out: Path, name: str) -> str:
    """The last line of a job's log, without the command's name."""
    try:
        text = (out / name / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "it left no log."
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("speechssl: ") if lines else "its log is empty."


def _short(text: str) -> str:
    return text if len(text) < 300 else f"{text[:300]} ..."


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete its folder, or restore it."
        ) from error
