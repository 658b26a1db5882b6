"""The corpus on the disk: shards, each spoken by a process, and the manifests."""

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.data.manifest import Utterance, write_manifest
from speechssl.data.synthetic.espeak import SAMPLE_RATE, espeak_loader, wav_path
from speechssl.data.synthetic.voices import SPLITS, Script, scripts
from speechssl.files import writing

SHARD_UTTERANCES = 64

MEAN_UTTERANCE_S = 2.8  # only to plan how many shards to start with

# sha256 over the samples of the first `REFERENCE_UTTERANCES` of each split with seed 0, as made by
# espeakng-loader 0.2.4 on Linux x86_64.
REFERENCE_VERSION = "0.2.4"

REFERENCE_UTTERANCES = 4

REFERENCE_SHA256 = "75f8161780153dce6276525d569107441f69b5b01ee09f0d3b0c30a8c353121f"


@dataclass(frozen=True)
class CorpusPaths:
    """A finished corpus on disk."""

    unlabeled: Path
    """Manifest without text."""
    train: Path
    """Manifest with text, from the speakers of `unlabeled`."""
    dev: Path
    """Manifest with text; speakers and sentences of its own."""
    test: Path
    """Manifest with text; speakers and sentences of its own."""
    sha256: str
    """Over the int16 samples of all utterances in manifest order: equal corpora, equal digests."""
    note: str | None
    """A sentence for the person if the audio is not known to be the reference audio."""


@dataclass(frozen=True)
class Spoken:
    """What came of a script: the written file's length and the digest of its samples."""

    script: Script
    num_samples: int
    sha256: str

    @property
    def duration_s(self) -> float:
        return self.num_samples / SAMPLE_RATE


def make_corpus(
    out: str | Path,
    *,
    unlabeled_minutes: float,
    labeled_minutes: float,
    dev_minutes: float,
    test_minutes: float,
    seed: int = 0,
    num_workers: int = 2,
) -> CorpusPaths:
    """Write the corpus into the folder `out` and return where its manifests are.

    Each split is the shortest beginning of its endless list that holds the asked minutes. A
    finished corpus with the same settings is used again; one with other settings is replaced.
    Raises ValueError for impossible sizes, for a missing espeakng-loader, and for failed speech.
    """
    minutes = dict(
        zip(SPLITS, (unlabeled_minutes, labeled_minutes, dev_minutes, test_minutes), strict=True)
    )
    for split, value in minutes.items():
        if not 0 < value <= 6000:
            raise ValueError(f"the {split} minutes are {value}; give more than 0, at most 6000")
    if num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}; give 1 or more")
    out = Path(out).resolve()
    version = espeak_loader()[2]
    settings = {"minutes": minutes, "seed": seed, "espeakng_loader": version, "format": 1}
    marker = out / "corpus.json"
    known = _read_marker(marker)
    if known is not None and known["settings"] == settings and _is_complete(out, known):
        return _paths(out, known["sha256"], known["note"])
    if known is not None:  # ours, but unfinished or of other settings
        for file in _wav_files(out):
            file.unlink()
    out.mkdir(parents=True, exist_ok=True)
    _write_marker(marker, {"settings": settings, "files": None, "sha256": None, "note": None})
    with ThreadPoolExecutor(num_workers) as pool:
        spoken = speak_splits(out, minutes, seed, pool)
    for split, utterances in spoken.items():
        _write_manifest(out, split, utterances)
    digest = _digest(s for split in SPLITS for s in spoken[split])
    note = compare(spoken, seed, version)
    files = sum(map(len, spoken.values()))
    _write_marker(marker, {"settings": settings, "files": files, "sha256": digest, "note": note})
    return _paths(out, digest, note)


def speak_splits(
    out: Path, minutes: dict[str, float], seed: int, pool: ThreadPoolExecutor
) -> dict[str, list[Spoken]]:
    """All splits, shard by shard, until each has its minutes; files beyond them are removed."""
    streams = {split: scripts(split, seed) for split in SPLITS}
    spoken: dict[str, list[Spoken]] = {split: [] for split in SPLITS}
    wanted_s = {split: 60 * minutes[split] for split in SPLITS}
    while missing_s := {
        split: wanted_s[split] - sum(s.duration_s for s in spoken[split])
        for split in SPLITS
        if sum(s.duration_s for s in spoken[split]) < wanted_s[split]
    }:
        started = []
        for split, lack_s in missing_s.items():
            for _ in range(math.ceil(lack_s / (SHARD_UTTERANCES * MEAN_UTTERANCE_S))):
                shard = list(islice(streams[split], SHARD_UTTERANCES))
                started.append((split, pool.submit(speak_shard, out / "wav" / split, shard)))
        for split, shard_result in started:
            spoken[split] += shard_result.result()
    for split, utterances in spoken.items():
        ends_s = np.cumsum([s.duration_s for s in utterances])
        keep = int(np.searchsorted(ends_s, wanted_s[split])) + 1
        for extra in utterances[keep:]:
            wav_path(out / "wav" / split, extra.script.id).unlink()
        del utterances[keep:]
    return spoken


def speak_shard(folder: Path, shard: list[Script]) -> list[Spoken]:
    """Let a fresh process speak the shard into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    # -P keeps the caller's folder off the path; our own package is named instead.
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "speechssl.data.synthetic"],
        input=json.dumps({"folder": str(folder), "scripts": [asdict(s) for s in shard]}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ValueError(f"espeak-ng could not speak {shard[0].id} to {shard[-1].id}: {reason}")
    results = json.loads(done.stdout)
    return [Spoken(script, *result) for script, result in zip(shard, results, strict=True)]


def _write_manifest(out: Path, split: str, spoken: list[Spoken]) -> None:
    utterances = [
        Utterance(
            id=s.script.id,
            audio=wav_path(out / "wav" / split, s.script.id),
            start_s=0.0,
            duration_s=s.duration_s,
            sample_rate=SAMPLE_RATE,
            speaker=s.script.speaker,
            text=None if split == "unlabeled" else s.script.text,
        )
        for s in spoken
    ]
    write_manifest(out / f"{split}.jsonl", utterances)


def _digest(spoken: Iterable[Spoken]) -> str:
    return hashlib.sha256("".join(s.sha256 for s in spoken).encode()).hexdigest()


def compare(spoken: dict[str, list[Spoken]], seed: int, version: str) -> str | None:
    """None if the audio is the reference audio, or a sentence that says why it may differ."""
    first = [s for split in SPLITS for s in spoken[split][:REFERENCE_UTTERANCES]]
    if seed != 0 or len(first) < REFERENCE_UTTERANCES * len(SPLITS):
        return None  # nothing to compare with
    if _digest(first) == REFERENCE_SHA256:
        return None
    if version != REFERENCE_VERSION:
        return (
            f"espeakng-loader {version} is installed, the published numbers were made with "
            f"{REFERENCE_VERSION}: the speech differs a little, and so may the error rates"
        )
    return (
        f"the speech made by espeakng-loader {version} on {platform.system()} "
        f"{platform.machine()} is not sample for sample that of the published numbers (Linux "
        "x86_64): error rates may differ a little"
    )


def _paths(out: Path, digest: str, note: str | None) -> CorpusPaths:
    unlabeled, train, dev, test = (out / f"{split}.jsonl" for split in SPLITS)
    return CorpusPaths(unlabeled, train, dev, test, digest, note)


def _read_marker(marker: Path) -> dict[str, Any] | None:
    """The settings a corpus was started with, None if there is none."""
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    keys = {"settings", "files", "sha256", "note"}
    return found if isinstance(found, dict) and set(found) == keys else None


def _is_complete(out: Path, known: dict[str, Any]) -> bool:
    """Whether all that a finished corpus wrote is still there."""
    manifests = all((out / f"{split}.jsonl").is_file() for split in SPLITS)
    return manifests and known["files"] == len(_wav_files(out))


def _wav_files(out: Path) -> list[Path]:
    """The files under `out` that bear the name of an utterance."""
    return [file for split in SPLITS for file in (out / "wav" / split).glob(f"{split}_*.wav")]


def _write_marker(marker: Path, content: dict[str, Any]) -> None:
    with writing(marker) as file:
        file.write(json.dumps(content, indent=1) + "\n")
