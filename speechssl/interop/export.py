"""A model of ours, written so that other tools open it, after a proof that nothing changed."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from speechssl import __version__
from speechssl.checkpoint import Checkpoint, replace_folder
from speechssl.interop import onnx
from speechssl.interop.card import CardFields, model_card
from speechssl.interop.fairseq import read_fairseq, write_fairseq
from speechssl.interop.fairseq_dictionary import MADE_UP, rows_read_again
from speechssl.interop.folders import write_folder
from speechssl.interop.proof import (
    Compared,
    Proof,
    against_transformers,
    ours_of,
    proof_sounds,
    spelled,
)
from speechssl.interop.sources import through_transformers

Format = Literal["hf", "onnx", "fairseq"]


def export_model(
    checkpoint: Checkpoint,
    out: Path,
    kind: Format,
    *,
    verify: bool = True,
    int8: bool = False,
    card: CardFields | None = None,
) -> Proof | None:
    """Write `out` whole or not at all: the model for other tools, its card, and meta.json.

    Args:
        checkpoint: pretrained or fine-tuned.
        out: a folder that does not exist, is empty, or is an earlier export.
        kind: ``hf``, a folder of transformers, or ``fairseq``, both for models in the published
            form; ``onnx`` for every model.
        verify: run the same sound through both and compare; None is returned without.
        int8: onnx only: weights of 8 bits; the proof allows more, and another transcript is
            shown but not refused.
        card: for the card.

    Raises ValueError where the format cannot hold the model or `out` is something else,
    ImportError naming the extra, UnequalOutputsError; each leaves `out` as it was.
    """
    if int8 and kind != "onnx":
        raise ValueError("--int8 is for --format onnx.")
    _check_only_an_export(out)
    write, prove = _formats(int8)[kind]
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{out.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        write(checkpoint, fresh)
        proof = prove(checkpoint, fresh) if verify else None
        if proof is not None:
            proof.check(same_text=not int8)
        meta = {**checkpoint.meta, "speechssl_export": __version__, "format": kind}
        meta["verified"] = proof.as_data() if proof else "no: --no-verify"
        meta["files"] = sorted({*(path.name for path in fresh.iterdir()), "meta.json", "README.md"})
        text = json.dumps(meta, indent=2, ensure_ascii=False)
        (fresh / "meta.json").write_text(text + "\n", encoding="utf-8", newline="\n")
        text = model_card(checkpoint, kind, proof, card or CardFields())
        (fresh / "README.md").write_text(text, encoding="utf-8", newline="\n")
        replace_folder(fresh, out)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return proof


def _formats(
    int8: bool,
) -> dict[str, tuple[Callable[[Checkpoint, Path], None], Callable[[Checkpoint, Path], Proof]]]:
    return {
        "hf": (write_folder, against_transformers),
        "onnx": (partial(onnx.write_onnx, int8=int8), partial(onnx.against_onnxruntime, int8=int8)),
        "fairseq": (write_fairseq, _against_what_is_read),
    }


def _against_what_is_read(checkpoint: Checkpoint, folder: Path) -> Proof:
    """fairseq cannot be installed beside a torch of today: its file is read again and compared, and
    what was read is compared with transformers."""
    again = read_fairseq(folder / "model.pt")
    proof = through_transformers(again)
    compared, texts = Compared(), []
    for wave in proof_sounds(checkpoint.speech.config.sample_rate):
        (own, own_rows), (read, read_rows) = ours_of(checkpoint, wave), ours_of(again, wave)
        compared.add("context, read again", read, own)
        if own_rows is not None and read_rows is not None:
            found = [
                (i, row) for i, row in enumerate(rows_read_again(checkpoint)) if row is not None
            ]
            columns, rows = [i for i, _ in found], [row for _, row in found]
            compared.add("log-probabilities, read again", read_rows[:, columns], own_rows[:, rows])
            texts.append(spelled(checkpoint, own_rows))
    transcripts = proof.transcripts
    if transcripts is not None:
        theirs = MADE_UP.sub("", transcripts[1])  # what spells nothing has a name there
        transcripts = " ".join(" ".join(texts).split()), " ".join(theirs.split())
    return Proof(
        f"{proof.peer} and model.pt read again", (*proof.gaps, *compared.gaps()), transcripts
    )


def _check_only_an_export(out: Path) -> None:
    """ValueError where `out` holds anything but an earlier export, which to replace would be to
    lose it."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        meta = None
    if not isinstance(meta, dict) or "speechssl_export" not in meta:
        raise ValueError(f"{out} exists and is no export of speechssl: name another place.")
    written = set(meta.get("files", ()))
    others = [p.name for p in out.iterdir() if p.is_dir() or (written and p.name not in written)]
    if others:
        raise ValueError(f"{out} holds {', '.join(sorted(others)[:3])} too: name another place.")
