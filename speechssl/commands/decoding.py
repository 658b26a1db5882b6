"""The options of decoding: greedy, beam search, a language model."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechssl.checkpoint import Checkpoint
    from speechssl.inference.transcribe import Decoder


def add_decoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam",
        type=int,
        metavar="N",
        help="beam search with N hypotheses (default: greedy; 16 with --lm)",
    )
    parser.add_argument(
        "--lm", type=Path, metavar="ARPA", help="n-gram language model, such as speechssl lm makes"
    )
    parser.add_argument(
        "--lm-weight", type=float, metavar="X", help="of the language model's scores (default 0.5)"
    )
    parser.add_argument(
        "--bonus",
        type=float,
        metavar="X",
        help="added to the score for each token of the language model (default 1.0)",
    )


def decoder_of(checkpoint: "Checkpoint", args: argparse.Namespace) -> "Decoder":
    from speechssl.inference.transcribe import choose_decoder

    decoder = choose_decoder(
        checkpoint, beam=args.beam, lm=args.lm, lm_weight=args.lm_weight, bonus=args.bonus
    )
    for note in (*getattr(decoder, "notes", ()), *_notes_on_script(checkpoint)):
        print(f"speechssl: {note}", file=sys.stderr)
    return decoder


def _notes_on_script(checkpoint: "Checkpoint") -> list[str]:
    """What a seed emits that was not fine-tuned, which is the script of no language."""
    writes = checkpoint.meta.get("card", {}).get("writes")
    if not writes:
        return []
    return [
        f"this model emits {writes}, whatever the script of the language; `speechssl finetune "
        "--init` teaches it yours."
    ]


def describe_decoding(args: argparse.Namespace) -> str:
    """How the options of :func:`add_decoding` have it, in words."""
    given = [
        ("beam", args.beam),
        ("lm", args.lm),
        ("weight", args.lm_weight),
        ("bonus", args.bonus),
    ]
    return ", ".join(f"{name} {value}" for name, value in given if value is not None) or "greedy"
