"""The options of decoding: greedy, beam search, language models, hotwords."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechssl.checkpoint import Checkpoint
    from speechssl.decoding.beam import BeamDecoder
    from speechssl.inference.decoders import Decoder

_SETTINGS = {
    "beam": "beam",
    "lm": "lm",
    "lm_weight": "weight",
    "bonus": "bonus",
    "word_lm": "word lm",
    "word_weight": "word weight",
    "word_bonus": "word bonus",
    "known_words": "known words",
    "hotwords": "hotwords",
}
"""Options and their names in words."""


def add_decoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam",
        type=int,
        metavar="N",
        help="beam search with N hypotheses (default: greedy; 16 with --lm or --hotwords)",
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
    parser.add_argument(
        "--word-lm",
        type=Path,
        metavar="ARPA",
        help="a second language model, of words, beside one of characters",
    )
    parser.add_argument("--word-weight", type=float, metavar="X", help="as --lm-weight, of that")
    parser.add_argument("--word-bonus", type=float, metavar="X", help="as --bonus, of that")
    parser.add_argument(
        "--known-words",
        action="store_true",
        default=None,
        help="only words of the language model of words, and those of the hotwords",
    )
    parser.add_argument(
        "--hotwords",
        type=Path,
        metavar="FILE",
        help="words or phrases that are expected, one a line, perhaps with a tab and a weight "
        "(default 4)",
    )


def add_tuning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tune-lm",
        type=Path,
        metavar="VALID",
        help="first find weights and bonuses on this manifest, and keep them beside the language "
        "model for later commands",
    )


def decoder_of(checkpoint: "Checkpoint", args: argparse.Namespace) -> "Decoder":
    """What the options ask for. Weights that come from an earlier or a new tuning are put into
    `args`, so that :func:`describe_decoding` names them."""
    from speechssl.inference.decoders import choose_decoder
    from speechssl.inference.tuned import WEIGHTS

    given = {name: getattr(args, name) for name in _SETTINGS}
    decoder = choose_decoder(checkpoint, **given, num_best=getattr(args, "n_best", None))
    for note in (*getattr(decoder, "notes", ()), *_notes_on_script(checkpoint)):
        print(f"speechssl: {note}", file=sys.stderr)
    before = [getattr(args, name) for name in WEIGHTS]
    if getattr(args, "tune_lm", None) is not None:
        decoder = _tuned(checkpoint, decoder, args)
    elif all(weight is None for weight in before) and args.lm is not None:
        config = decoder.config  # type: ignore[attr-defined]
        if any(getattr(config, name) != getattr(type(config), name) for name in WEIGHTS):
            _put_weights(args, decoder)  # type: ignore[arg-type]
    return decoder


def _tuned(checkpoint: "Checkpoint", decoder: "Decoder", args: argparse.Namespace) -> "BeamDecoder":
    """The decoder with the weights that are best on a manifest, which are kept and said."""
    from speechssl.data.manifest import read_manifest
    from speechssl.decoding.beam import BeamDecoder
    from speechssl.inference.tune_lm import tune_lm
    from speechssl.inference.tuned import write_tuned

    if args.lm is None or not isinstance(decoder, BeamDecoder):
        raise ValueError("--tune-lm is of a language model: give one with --lm.")
    found = tune_lm(
        checkpoint,
        read_manifest(args.tune_lm),
        decoder,
        normalizer=getattr(args, "normalize", "basic"),
        precision=args.precision,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    decoder = decoder.rescaled(found.config)
    names = [name for pair in decoder.tunable for name in pair]
    weights = {name: getattr(found.config, name) for name in names}
    report = found.report(decoder, str(args.tune_lm))
    try:
        path = write_tuned(checkpoint, args.lm, args.word_lm, report)
        kept = f"Kept in {path}, and used with {args.lm} from now on where no weight is given."
    except OSError as error:
        kept = f"They cannot be kept beside {args.lm} ({error.strerror}): give them next time."
    _put_weights(args, decoder)
    shown = ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in weights.items())
    left_out = f" ({found.num_left_out} more were left out)" if found.num_left_out else ""
    print(
        f"{shown}: {found.rates} on {found.num_utterances} utterances of {args.tune_lm}{left_out}, "
        f"{found.before} before; best of {found.tried} tries. {kept}",
        file=sys.stderr,
    )
    return decoder


def _put_weights(args: argparse.Namespace, decoder: "BeamDecoder") -> None:
    for name in (name for pair in decoder.tunable for name in pair):
        setattr(args, name, getattr(decoder.config, name))


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
    given = [(name, getattr(args, option)) for option, name in _SETTINGS.items()]
    shown = (
        name if value is True else f"{name} {value}" for name, value in given if value is not None
    )
    return ", ".join(shown) or "greedy"
