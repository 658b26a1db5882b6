"""``speechssl serve``."""

import argparse
import os
from pathlib import Path

from speechssl.commands.decoding import add_decoding
from speechssl.commands.exits import EXIT_DONE, tell
from speechssl.commands.options import MODEL, add_precision

SUMMARY = "Transcription as a service: the OpenAI API of transcriptions, jobs, live audio, a page."
EXAMPLE = "speechssl serve runs/finetune --port 8000"
TOKEN_VARIABLE = "SPEECHSSL_TOKEN"
_LIMITS = {
    "max_upload_mb": (float, "MB", "largest upload (default 1024)"),
    "max_audio_s": (float, "S", "longest recording of a request (default 14400)"),
    "max_job_audio_s": (float, "S", "longest recording of a job (default 86400)"),
    "max_active": (int, "N", "requests that are transcribed at the same time (default 32)"),
    "max_waiting": (int, "N", "requests that wait for that; others get 429 (default 64)"),
    "max_jobs": (int, "N", "jobs that are kept (default 100)"),
    "max_live": (int, "N", "live connections at the same time (default 4)"),
    "read_timeout_s": (float, "S", "longest pause within an upload (default 20)"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="default %(default)s; 0: a free one"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default %(default)s: this machine only; others need a token)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file whose text clients must send as bearer token (or {TOKEN_VARIABLE} in the "
        "environment)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the service is reached, beside localhost and addresses in digits",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="origin of its page behind a proxy, such as https://desk.example",
    )
    parser.add_argument(
        "--name", default="", help="what clients call the model (default: its folder's name)"
    )
    parser.add_argument(
        "--desk", type=Path, metavar="DIR", help="recordings and corrections that the page shows"
    )
    add_decoding(parser)
    add_precision(parser, auto=True)
    limits = parser.add_argument_group("limits")
    for name, (kind, metavar, meaning) in _LIMITS.items():
        limits.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=meaning)


def run(args: argparse.Namespace) -> int:
    from speechssl.service.config import ServiceConfig

    limits = {name: getattr(args, name) for name in _LIMITS if getattr(args, name) is not None}
    config = ServiceConfig(
        args.model,
        name=args.name,
        host=args.host,
        port=args.port,
        token=_token(args.token_file),
        hosts=tuple(args.allow_host),
        origins=tuple(args.allow_origin),
        desk=_folder(args.desk),
        precision=args.precision,
        decoding=_decoding(args),
        **limits,
    )
    from speechssl.service.server import bind, serve

    with bind(config) as listener:
        from speechssl.service.app import create_app

        app = create_app(config)
        for note in app.state.service.engine.notes:
            tell(note)
        port = listener.getsockname()[1]
        host = f"[{config.host}]" if ":" in config.host else config.host
        ready = (
            f"serving {app.state.service.model_name} at http://{host}:{port} (the OpenAI API is at "
            f"http://{host}:{port}/v1). Ctrl-C ends it."
        )
        serve(app, config, listener, lambda: tell(ready))
    return EXIT_DONE


def _decoding(args: argparse.Namespace) -> dict[str, object]:
    """What :func:`speechssl.inference.decoders.choose_decoder` takes of it."""
    names = (
        "beam",
        "lm",
        "word_lm",
        "hotwords",
        "lm_weight",
        "bonus",
        "word_weight",
        "word_bonus",
        "known_words",
    )
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _token(file: Path | None) -> str:
    """ValueError for an empty file, or one that is no text."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        token = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        token = ""
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise ValueError(
            f"{file} holds no token: write one line of letters and digits into it, such as "
            "`openssl rand -hex 32` makes."
        )
    return token


def _folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path} for --desk.")
    return path
