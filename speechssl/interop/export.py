"""A model of ours, written so that other tools open it, after a proof that nothing changed."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from speechssl import __version__
from speechssl.checkpoint import Checkpoint, replace_folder
from speechssl.interop import onnx
from speechssl.interop.card import Said, model_card
from speechssl.interop.fairseq import read_fairseq, write_fairseq
from speechssl.interop.folders import write_folder
from speechssl.interop.proof import (
    Compared,
    Proof,
    against_transformers,
    ours_of,
    proof_sounds,
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
    said: Said | None = None,
) -> Proof | None:
    """Write `out` whole or not at all: the model for other tools, its card, and meta.json.

    Args:
        checkpoint: pretrained or fine-tuned.
        out: a folder that does not exist, is empty, or is an earlier export.
        kind: ``hf``, a folder of transformers, or ``fairseq``, both for models in the published
            form; ``onnx`` for every model.
        verify: run the same sound through both and compare; None is returned without.
        int8: onnx only: weights of 8 bits; the proof allows more, and another transcript is told
            but not refused.
        said: for the card.

    Raises ValueError where the format cannot hold the model or `out` is something else,
    ImportError naming the extra, UnequalOutputsError; each leaves `out` as it was.
    """
    if int8 and kind != "onnx":
        raise ValueError("--int8 is for --format onnx.")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_export(out))):
        raise ValueError(f"{out} exists and is no export of speechssl: name another place.")
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
        text = json.dumps(meta, indent=2, ensure_ascii=False)
        (fresh / "meta.json").write_text(text + "\n", encoding="utf-8")
        card = model_card(checkpoint, kind, proof, said or Said())
        (fresh / "README.md").write_text(card, encoding="utf-8")
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
    compared = Compared()
    for wave in proof_sounds(checkpoint.speech.config.sample_rate):
        own, read = ours_of(checkpoint, wave), ours_of(again, wave)
        compared.add("context, read again", read[0], own[0])
    return replace(
        proof, peer=f"{proof.peer} and model.pt read again", gaps=(*proof.gaps, *compared.gaps())
    )


def _is_export(folder: Path) -> bool:
    place = folder / "meta.json"
    return place.exists() and "speechssl_export" in place.read_text(encoding="utf-8")
