"""An experiment in a moment, and what tells whether somebody is at work in a folder."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from speechssl.data.manifest import read_manifest
from speechssl.experiment import run_folder
from speechssl.model.config import ContextConfig, FilterbankEncoderConfig, ModelConfig
from speechssl.training import runfolder
from speechssl.training.loop import LoopConfig

MICRO = ModelConfig(
    encoder=FilterbankEncoderConfig(num_filters=8, stack=4),
    context=ContextConfig(
        dim=16, num_layers=1, num_heads=2, ffn_dim=16, pos_kernel=5, pos_groups=2, layerdrop=0.0
    ),
)

LOOP = LoopConfig(max_steps=2, num_validations=1, num_workers=0)


class Job:
    """A folder of recordings, of which some are transcribed."""

    def __init__(self, record, folder: Path) -> None:
        self.record, self.folder, self.out = record, folder, folder / "out"
        self.recordings = folder / "in"
        self.texts: dict[str, str] = {}

    def add(self, *names: str) -> None:
        for name in names:
            self.record(f"in/{name}.wav", 1.0)

    def transcribe(self, *names: str) -> None:
        self.texts |= {f"{name}.wav": f"sentence {name}" for name in names}

    def run(
        self,
        minutes: float = 5.0,
        init: str | None = None,
        size: str | None = "tiny",
        more_labels: Sequence[Path] = (),
    ) -> None:
        lines = (f"{path}\t{text}\n" for path, text in self.texts.items())
        table = self.folder / "texts.tsv"
        table.write_text("path\ttext\n" + "".join(lines))
        given = (self.recordings, table, self.out, minutes, size)
        assert run_folder(*given, init=init, more_labels=more_labels) == 0

    def transcribed(self, split: str, root: str = "data") -> set[str]:
        return {u.audio.name for u in read_manifest(self.out / root / f"{split}.jsonl") if u.text}

    def model(self, run: str) -> str:
        """What tells one model from another."""
        weights = self.out / run / "best" / "model.safetensors"
        return hashlib.sha256(weights.read_bytes()).hexdigest()

    def models(self) -> dict[str, str]:
        return {run: self.model(run) for run in ("pretrain", "pretrained", "from-scratch")}


def bytes_in(folder: Path) -> dict[Path, bytes]:
    """Everything in a folder but its locks."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in found}


TAKE = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def is_taken(folder: Path) -> bool:
    """Whether this process keeps others out of a folder."""
    other = [sys.executable, "-c", TAKE, str(folder / ".lock")]
    return subprocess.run(other, check=False, capture_output=True).returncode != 0


@contextmanager
def taken(folder: Path, monkeypatch) -> Iterator[None]:
    """Another process is at work in a folder, and nobody waits long for its end."""
    monkeypatch.setattr(runfolder, "_WAIT_S", 0.2)
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print(flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(folder / ".lock")], **pipes) as other:
        other.stdout.readline()
        yield
