"""Recordings to prepare, and what became of them."""

import json
from pathlib import Path

import numpy as np
import soundfile

from speechssl.data.layouts import Recording
from speechssl.data.manifest import Utterance, read_manifest

RATE = 16000


def speech(duration_s: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise that stands for speech: (S,) float, within half of full scale, all bands."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(duration_s * rate))


def record(folder: Path, name: str, wave: np.ndarray, rate: int = RATE, **known: str) -> Recording:
    path = folder / f"{name}.wav"
    soundfile.write(path, wave, rate, subtype="FLOAT")
    return Recording(name, path, **known)  # type: ignore[arg-type]


def many(folder: Path, count: int, seed: int = 0) -> list[Recording]:
    return [record(folder, f"r{i}", speech(0.5, seed=seed + i)) for i in range(count)]


def dropped(out: Path) -> dict[str, str]:
    lines = (out / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, lines)}


def manifests(out: Path) -> dict[str, list[Utterance]]:
    return {
        name: read_manifest(out / f"{name}.jsonl")
        for name in ("train", "dev", "test")
        if (out / f"{name}.jsonl").exists()
    }


def everything(out: Path) -> list[Utterance]:
    return [utterance for utterances in manifests(out).values() for utterance in utterances]
