"""``speechssl serve``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.options import MODEL

SUMMARY = "Transcription as a service: the OpenAI API of transcriptions, jobs, live audio, a page."
EXAMPLE = "speechssl serve runs/finetune --port 8000"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="default %(default)s; 0: a free one"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default %(default)s: this machine only)",
    )
    parser.add_argument(
        "--desk", type=Path, metavar="DIR", help="recordings and corrections that the page shows"
    )


def run(args: argparse.Namespace) -> int:
    import uvicorn

    from speechssl.service.app import create_app
    from speechssl.service.config import ServiceConfig

    config = ServiceConfig(args.model, host=args.host, port=args.port, desk=args.desk)
    uvicorn.run(create_app(config), host=config.host, port=config.port, log_level="warning")
    return EXIT_DONE
