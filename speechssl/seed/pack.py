"""Make the seed of the package from a finished run: ``python -m speechssl.seed.pack RUN``.

The model is written in bfloat16, without what only going on with its run would need, and with its
card, its notice and digests. Nothing is written where bfloat16 changes what it computes by more
than :data:`MOST_CHANGED`.

Shapes: B batch, S samples, T frames, D width, V symbols.
"""

import argparse
import copy
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechssl import audio, seed
from speechssl.checkpoint import Checkpoint, load_model, replace_folder, save_model, sync_folder
from speechssl.files import sha256
from speechssl.model.config import nearest_size
from speechssl.model.speech_model import CTCModel
from speechssl.rng import rng
from speechssl.seed.card import SeedCard, model_card, notice, read_card

MOST_CHANGED = 0.02
"""What bfloat16 may change: the root mean square of the difference of a layer's outputs over that
of the outputs, and the share of probability that moves from one symbol to another, on average."""

_KEPT = (
    "speechssl",
    "task",
    "steps",
    "seed",
    "objectives",
    "train_utterances",
    "train_minutes",
    "corpora",
)
"""Of what a run wrote in meta.json."""


@dataclass(frozen=True)
class Change:
    """What bfloat16 changes, by :data:`MOST_CHANGED`."""

    of_layers: tuple[float, ...]
    """Of each layer's output, the first layer's input before them."""
    of_symbols: float | None
    """None without a CTC head."""

    @property
    def is_allowed(self) -> bool:
        found = (*self.of_layers, self.of_symbols or 0.0)
        return all(value <= MOST_CHANGED for value in found)  # NaN is not

    def sentence(self) -> str:
        """For a person."""
        symbols = "" if self.of_symbols is None else f", {self.of_symbols:.2%} of the probability"
        return (
            f"bfloat16 changes the layers by {max(self.of_layers):.2%}{symbols} "
            f"(allowed {MOST_CHANGED:.0%})"
        )


def pack(
    checkpoint: Checkpoint,
    card: SeedCard,
    folder: Path,
    *,
    best_layer: int,
    start: str = "supervised",
    waves: Sequence[np.ndarray] = (),
) -> Change:
    """Write a seed, whole or not at all; an older one in its place is replaced.

    Args:
        checkpoint: the trained model.
        card: what a person states of it.
        folder: where, e.g. :data:`speechssl.seed.FOLDER` / ``tiny``.
        best_layer: whose units teach continued pretraining; 1 is the first.
        start: the kind of start for fine-tuning, ``supervised`` or ``self_supervised``.
        waves: (S,) float32 at the model's rate, on which bfloat16 is compared; none: made ones.

    Raises ValueError where there is no such layer, where something that is no seed lies in
    `folder`, or where bfloat16 changes too much.
    """
    speech = checkpoint.speech
    num_layers = speech.config.context.num_layers
    if not 1 <= best_layer <= num_layers:
        raise ValueError(f"--best-layer must be from 1 to {num_layers}, got {best_layer}.")
    if folder.exists() and any(folder.iterdir()) and not (folder / seed.SUMS).exists():
        raise ValueError(f"{folder} exists and is no seed: name another place.")
    small = {name: _bfloat16(value) for name, value in checkpoint.model.state_dict().items()}
    change = compare(checkpoint, small, waves or made_waves(speech.config.sample_rate))
    if not change.is_allowed:
        raise ValueError(f"Nothing was written, since {change.sentence()}.")
    meta = {
        **_history(checkpoint.meta),
        "start": start,
        "best_layer": best_layer,
        "card": card.about(),
    }
    heads = {name: _bfloat16(value) for name, value in checkpoint.heads.items()}
    if heads:
        meta["heads"] = checkpoint.meta.get("heads", {})
    small_one = replace(checkpoint, meta=meta, pretraining={}, heads=heads)
    fresh = folder.with_name(f".{folder.name}.packing")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        save_model(fresh, small_one, small)
        _write(fresh / "README.md", model_card(card, _facts(checkpoint, best_layer)))
        _write(fresh / "NOTICE", notice(card))
        names = sorted(path.name for path in fresh.iterdir())
        _write(fresh / seed.SUMS, "".join(f"{sha256(fresh / n)}  {n}\n" for n in names))
        sync_folder(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    replace_folder(fresh, folder)
    return change


@torch.no_grad()
def compare(
    checkpoint: Checkpoint, small: Mapping[str, Tensor], waves: Iterable[np.ndarray]
) -> Change:
    """How far the model with the tensors `small`, read as float32, is from the model itself."""
    other = copy.deepcopy(checkpoint.model)
    other.load_state_dict(dict(small))
    squares: list[Tensor] = []  # of each sound (layers, 2): of the difference, of the output
    moved: list[Tensor] = []
    for wave in waves:
        outputs = [_outputs(m.eval(), wave) for m in (checkpoint.model, other)]
        (ours, symbols), (theirs, its_symbols) = outputs
        pairs = zip(ours, theirs, strict=True)
        squares.append(
            torch.stack([torch.stack([(a - b).square().sum(), a.square().sum()]) for a, b in pairs])
        )
        if symbols is not None and its_symbols is not None:
            moved.append((symbols.exp() - its_symbols.exp()).abs().sum(2).flatten() / 2)
    difference, size = torch.stack(squares).sum(0).unbind(1)
    layers = tuple((difference / size.clamp_min(1e-30)).sqrt().tolist())
    return Change(layers, float(torch.cat(moved).mean()) if moved else None)


def _outputs(model: Any, wave: np.ndarray) -> tuple[list[Tensor], Tensor | None]:
    """(1, T, D) of every layer, and the log-probabilities (1, T, V) of a CTC head."""
    batch, lengths = torch.from_numpy(wave)[None], torch.tensor([len(wave)])
    head = model.head if isinstance(model, CTCModel) else None
    out = (model if head is None else model.speech)(batch, lengths, keep_hidden=True)
    return list(out.hidden), None if head is None else head(out.context)


def made_waves(sample_rate: int) -> list[np.ndarray]:
    """Three sounds (S,) float32 of voice-like harmonics and noise, always the same."""
    waves = []
    for number, seconds in enumerate((3.0, 2.1, 0.7)):
        generator = rng(0, "seed-sounds", number)
        time_s = np.arange(round(seconds * sample_rate)) / sample_rate
        phase = 2 * np.pi * np.cumsum(110 + 70 * np.sin(3 * time_s + number)) / sample_rate
        voice = sum(np.sin(k * phase) / k for k in range(1, 12))
        loud = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time_s)
        wave = 0.1 * loud * voice + 0.01 * generator.standard_normal(len(time_s))
        waves.append(wave.astype(np.float32))
    return waves


def _bfloat16(value: Tensor) -> Tensor:
    return value.bfloat16() if value.is_floating_point() else value


def _history(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's meta.json a seed keeps, of the runs before it too."""
    kept = {name: meta[name] for name in _KEPT if name in meta}
    before = meta.get("init")
    return kept | ({"init": _history(before)} if isinstance(before, dict) else {})


def _facts(checkpoint: Checkpoint, best_layer: int) -> dict[str, str]:
    config, meta = checkpoint.speech.config, checkpoint.meta
    num = sum(p.numel() for p in checkpoint.model.parameters())
    facts = {
        "Form": f"{nearest_size(config)}, {num / 1e6:.1f} M parameters, "
        f"{config.context.num_layers} layers of width {config.context.dim}",
        "Input": f"{config.sample_rate} Hz; a frame is {1000 * checkpoint.speech.hop_s:g} ms",
        "Best layer": str(best_layer),
    }
    if meta.get("objectives"):
        facts["Objectives"] = ", ".join(meta["objectives"])
    if updates := _updates(meta):
        facts["Updates"] = ", then ".join(f"{number:,}" for number in updates)
    return facts


def _updates(meta: Mapping[str, Any]) -> list[int]:
    """Of each stage, the first one first; what does not say is left out."""
    before = meta.get("init")
    earlier = _updates(before) if isinstance(before, dict) else []
    return [*earlier, meta["steps"]] if meta.get("steps") else earlier


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; what is wrong is one sentence on stderr, and the exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m speechssl.seed.pack", description="Make a seed of a finished run."
    )
    parser.add_argument("run", metavar="RUN", help="a run folder (its best model) or model folder")
    parser.add_argument(
        "--card",
        type=Path,
        required=True,
        metavar="FILE.json",
        help="license, sources (name, url, license, hours, languages, transcripts, attribution), "
        "writes, scores (what, value) and limits",
    )
    parser.add_argument(
        "--best-layer",
        type=int,
        required=True,
        metavar="K",
        help="whose units teach continued pretraining; speechssl probe finds it",
    )
    parser.add_argument(
        "--start",
        choices=("supervised", "self_supervised"),
        default="supervised",
        help="how it was trained, which chooses the fine-tuning settings: with transcripts "
        "(default) or without",
    )
    parser.add_argument(
        "--audio", nargs="+", default=[], metavar="FILE", help="recordings to compare bfloat16 on"
    )
    parser.add_argument(
        "--size", default=seed.DEFAULT_SIZE, metavar="NAME", help="default %(default)s"
    )
    args = parser.parse_args(argv)
    try:
        checkpoint, card = load_model(args.run), read_card(args.card)
        rate = checkpoint.speech.config.sample_rate
        waves = [audio.read(path, sample_rate=rate) for path in args.audio]
        change = pack(
            checkpoint,
            card,
            seed.FOLDER / args.size,
            best_layer=args.best_layer,
            start=args.start,
            waves=waves,
        )
    except (ValueError, OSError) as error:
        print(f"speechssl: {error}", file=sys.stderr)
        return 2
    folder = seed.FOLDER / args.size
    if checkpoint.pretraining:
        print("Left out: the quantizer and projections, from which only its own run would go on.")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB; {change.sentence()}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
