"""What the scripts in data_prep share: their command line, and downloads that are verified."""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from speechssl.data.layouts import Recording, nfc, read_pairs
from speechssl.data.prepare import PrepareConfig, prepare
from speechssl.files import output_folder, replacing
from speechssl.system import utf8_streams

Reader = Callable[..., Iterable[Recording]]
"""``recordings(source)``, or ``recordings(source, parts)`` for a corpus in parts; with
``text=NAME`` for one with several texts of a recording."""
Downloader = Callable[..., None]


def main(
    description: str,
    recordings: Reader,
    download: Downloader,
    argv: list[str] | None = None,
    *,
    parts: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> int:
    """``NAME.py SOURCE --out DIR [--download]``: 0 done, 2 the input was wrong (one sentence).

    `parts` are the names that ``--parts`` allows, for a corpus that is published in parts; `texts`
    those that ``--text`` allows, the first by default, for one with several texts of a recording.
    """
    utf8_streams()
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the folder of the corpus, as it is published")
    parser.add_argument(
        "--out", type=output_folder, required=True, help="where the manifests are written"
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch the corpus into SOURCE first, verified"
    )
    parser.add_argument("--seed", type=int, default=PrepareConfig.seed, help="chooses a split")
    if parts:
        parser.add_argument("--parts", nargs="+", choices=parts, help="only these parts")
    if texts:
        parser.add_argument(
            "--text", choices=texts, default=texts[0], help="which text (default %(default)s)"
        )
    args = parser.parse_args(argv)
    chosen = [args.parts] if parts and args.parts else []
    named = {"text": args.text} if texts else {}
    try:
        if args.download:
            download(args.source, *chosen)
        if not args.source.is_dir():
            raise FileNotFoundError(f"No such folder: {args.source}.")
        found = recordings(args.source, *chosen, **named)
        summary = prepare(found, args.out, PrepareConfig(seed=args.seed))
    except (ValueError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    print(summary.describe())
    return 0


def transcripts_of(paths: Iterable[Path], table: Path) -> list[str | None]:
    """The transcripts of recordings whose names are the keys of a file of ``key text`` lines.

    Raises ValueError where that holds transcripts and none of them is of a recording.
    """
    texts, stems = read_pairs(table), [nfc(path.stem) for path in paths]
    if texts and stems and texts.keys().isdisjoint(stems):
        raise ValueError(
            f"{table} holds {len(texts)} transcripts and none is of a recording: its first id is "
            f"{next(iter(texts))}, the first recording {stems[0]}."
        )
    return [texts.get(stem) for stem in stems]


def fetch(url: str, path: Path, *, md5: str) -> None:
    """Download `url` to `path` unless it is there; ValueError when the MD5 is another.

    MD5 is what the publishers of the corpora give: it guards against damage, not against malice.
    """
    if path.is_file() and _md5(path) == md5:
        return
    print(f"fetching {url}", file=sys.stderr)
    try:
        with replacing(path) as part:
            with urllib.request.urlopen(url, timeout=60) as response, part.open("wb") as file:
                shutil.copyfileobj(response, file, 1 << 20)
            found = _md5(part)
            if found != md5:
                raise ValueError(f"{url} is damaged: its MD5 is {found}, it should be {md5}.")
    except OSError as error:
        raise OSError(f"{url} cannot be fetched ({error}).") from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar; members that would land outside of `folder` are refused (PEP 706)."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise ValueError(f"{archive} cannot be unpacked ({error}).") from error


def clone(url: str, commit: str, folder: Path) -> None:
    """A git repository at one commit in `folder`; git checks files against its hash."""
    if shutil.which("git") is None:
        raise ValueError(f"git is needed to fetch {url}; or unpack it yourself into {folder}.")
    if not (folder / ".git").is_dir():
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; --download needs an empty or a new folder.")
        _git("clone", "--no-checkout", url, str(folder))
    _git("-C", str(folder), "checkout", "--detach", commit)


def _git(*arguments: str) -> None:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ValueError(f"`git {' '.join(arguments)}` failed: {reason[0]}.")
