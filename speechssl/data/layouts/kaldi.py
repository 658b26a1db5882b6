"""Kaldi data folders: wav.scp, text, utt2spk (or spk2utt) and segments."""

import re
from collections.abc import Iterator
from pathlib import Path

from speechssl.data.layouts.finder import Finder
from speechssl.data.layouts.plain_text import Problems, read_lines
from speechssl.data.layouts.recording import Recording, Split, nfc, splits_by_name
from speechssl.data.layouts.unused import Account


def kaldi_folders(source: Path) -> list[Path]:
    """`source` itself or its sub-folders that hold a wav.scp."""
    if (source / "wav.scp").is_file():
        return [source]
    return sorted(path.parent for path in source.glob("*/wav.scp"))


def read_kaldi(source: Path, account: Account | None = None) -> list[Recording]:
    """A Kaldi data folder (wav.scp, text, utt2spk, segments), or several named after splits.

    wav.scp must hold plain paths: from the data folder, else from the working folder. A command (a
    line that ends in a pipe) or a place in an archive is refused; nothing is ever run. Lines of
    `text` and `utt2spk` whose id no recording has go to `account`.
    """
    account = account or Account(source)
    folders = kaldi_folders(source.parent if source.is_file() else source)
    if not folders:
        raise ValueError(f"{source} is not a Kaldi data folder: it holds no wav.scp.")
    splits = splits_by_name([folder.name for folder in folders])
    return [
        recording
        for folder, split in zip(folders, splits, strict=True)
        for recording in _read_data_folder(folder, split, account)
    ]


def _read_data_folder(folder: Path, split: Split | None, account: Account) -> list[Recording]:
    finder = Finder([folder, Path.cwd()])
    waves: dict[str, Path] = {}
    for line, key, value, problems in _numbered(folder / "wav.scp"):
        reason = _why_no_file(value)
        if reason:
            problems.add(line, f"{key} {reason}")
        else:
            waves[key] = finder.find(value)
    texts, speakers = read_pairs(folder / "text"), _speakers(folder)
    for name in ("wav.scp", "text", "utt2spk", "spk2utt", "segments"):
        account.use(folder / name)
    parts: dict[str, tuple[Path, float, float | None]] = {}
    for line, key, value, problems in _numbered(folder / "segments"):
        part = _segment(value, waves)
        if isinstance(part, str):
            problems.add(line, f"{key}: {part}")
        else:
            parts[key] = part
    if not parts:
        parts = {key: (path, 0.0, None) for key, path in waves.items()}
        whose = "wav.scp"
    else:
        whose = "segments"
    for name, pairs in (("text", texts), ("utt2spk", speakers)):
        lost = [key for key in pairs if key not in parts]
        first = next(iter(parts), "none")
        account.add(
            f"lines of {account.name(str(folder / name))}",
            lost,
            f"their ids are not in {whose}, whose first id is {first}",
        )
    return [
        Recording(
            key,
            path,
            start_s,
            duration_s,
            nfc(speakers.get(key, "")) or None,
            texts.get(key),
            split,
        )
        for key, (path, start_s, duration_s) in parts.items()
    ]


def _speakers(folder: Path) -> dict[str, str]:
    """The speaker of each id: utt2spk, or the other way about spk2utt."""
    if (folder / "utt2spk").is_file():
        return read_pairs(folder / "utt2spk")
    speakers = read_pairs(folder / "spk2utt")
    return {nfc(key): speaker for speaker, keys in speakers.items() for key in keys.split()}


def read_pairs(path: Path) -> dict[str, str]:
    """A Kaldi file of ``key value`` lines, keys in NFC; empty when it is not there.

    Raises ValueError that names the file and the lines whose key is there already.
    """
    return {key: value for _, key, value, _ in _numbered(path)}


def _numbered(path: Path) -> Iterator[tuple[int, str, str, Problems]]:
    """``(line, key, value, problems)`` of a file of Kaldi's; the problems, with those that are
    added on the way, are raised at its end."""
    if not path.is_file():
        return
    problems, seen = Problems(path), set[str]()
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split(maxsplit=1)
        if not fields:
            continue
        key = nfc(fields[0])
        if key in seen:
            problems.add(number, f"{key} is there twice")
            continue
        seen.add(key)
        yield number, key, fields[1].strip() if len(fields) > 1 else "", problems
    problems.raise_if_any()


def _why_no_file(value: str) -> str | None:
    if value.endswith("|") or value.startswith("|"):
        return (
            f"is a command (`{value}`), and commands are not run; write its output to files (for "
            "example with `wav-copy`) and list their paths"
        )
    if not value or re.search(r"\.ark:\d+$", value):
        return f"names no file of its own ({value!r})"
    return None


def _segment(value: str, waves: dict[str, Path]) -> tuple[Path, float, float | None] | str:
    """``(file, start_s, duration_s)``, or what is wrong with a line of `segments`."""
    fields = value.split()
    try:
        recording, start_s, end_s = nfc(fields[0]), float(fields[1]), float(fields[2])
    except (IndexError, ValueError):
        return f"`{value}` is not `recording start end`"
    if recording not in waves:
        return f"recording {recording} is not in wav.scp"
    if end_s == -1 and 0 <= start_s < 1e9:  # Kaldi's word for the end of the recording
        return waves[recording], start_s, None
    if not 0 <= start_s < end_s < 1e9:
        return f"it ends at {end_s} s and starts at {start_s} s"
    return waves[recording], start_s, round(end_s - start_s, 6)
