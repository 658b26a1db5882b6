"""fairseq's manifests: a folder in the first line, then ``path TAB samples``; texts beside them."""

import os
from pathlib import Path

from speechssl.data.layouts.finder import Finder, slashes
from speechssl.data.layouts.plain_text import Problems, read_lines
from speechssl.data.layouts.recording import Recording, Split, splits_by_name
from speechssl.data.layouts.unused import Account


def is_fairseq(path: Path) -> bool:
    """The first line of a fairseq manifest is a folder, alone; the next ``path TAB samples``."""
    if path.suffix != ".tsv":
        return False
    with path.open("rb") as file:
        first = file.readline(1 << 20).decode("utf-8-sig", errors="replace").rstrip("\r\n")
    return "\t" not in first and ("/" in first or "\\" in first)


def fairseq_manifests(folder: Path) -> list[Path]:
    """Those that lie in `folder`."""
    tables = sorted(path for path in folder.iterdir() if path.suffix == ".tsv" and path.is_file())
    return [path for path in tables if is_fairseq(path)]


def read_fairseq(source: Path, account: Account | None = None) -> list[Recording]:
    """A fairseq manifest (or all of a folder), with the .wrd or else the .ltr beside it as text."""
    account = account or Account(source)
    paths = [source] if source.is_file() else fairseq_manifests(source)
    if not paths:
        raise ValueError(f"{source} holds no fairseq manifest (.tsv whose first line is a folder).")
    splits = splits_by_name([path.stem for path in paths])
    return [
        recording
        for path, split in zip(paths, splits, strict=True)
        for recording in _read_manifest(path, split, account)
    ]


def _read_manifest(path: Path, split: Split | None, account: Account) -> list[Recording]:
    account.use(path)
    texts = _texts(path, account)
    lines, problems = read_lines(path), Problems(path)
    root = Path(lines[0].strip()) if lines else Path()
    root = root if root.is_absolute() else path.parent / root
    # os.path, as Path.is_dir fails on a name that is longer than a folder's can be
    finder = Finder([root] if os.path.isdir(root) else [root, path.parent])
    found: list[Recording] = []
    for number, line in enumerate(lines[1:], 2):
        name, _, num_samples = line.partition("\t")
        if not name or not num_samples.strip().isdigit():
            problems.add(number, "not `path TAB number of samples`")
            continue
        if texts is not None and len(found) == len(texts):
            problems.add(number, f"there are only {len(texts)} transcripts")
            break
        text = None if texts is None else texts[len(found)]
        found.append(Recording(slashes(name), finder.find(name), text=text, split=split))
    problems.raise_if_any()
    if texts is not None and len(texts) != len(found):
        raise ValueError(
            f"{path} names {len(found)} recordings, but there are {len(texts)} transcripts."
        )
    return found


def _texts(path: Path, account: Account) -> list[str] | None:
    words, letters = path.with_suffix(".wrd"), path.with_suffix(".ltr")
    if words.is_file():
        account.use(words, letters)  # the same in letters
        return [line.strip() for line in read_lines(words)]
    if letters.is_file():  # "H E | S A I D |"
        account.use(letters)
        lines = read_lines(letters)
        return ["".join(line.split()).replace("|", " ").strip() for line in lines]
    return None
