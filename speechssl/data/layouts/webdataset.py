"""Tar files in WebDataset's layout: a recording, and its transcript under the same key."""

import json
import os
from pathlib import Path
from typing import Any

from speechssl import shards
from speechssl.data.layouts.recording import AUDIO_SUFFIXES, Recording, Split, nfc, splits_by_name
from speechssl.data.layouts.unused import Account, may_hold_text
from speechssl.text.encodings import decode

_BESIDE = ("txt", "json")


def shards_below(source: Path) -> list[Path]:
    """`source` itself where it is a file, else the tar files below it."""
    return [source] if source.is_file() else sorted(source.rglob("*.tar"))


def read_shards(source: Path, account: Account | None = None) -> list[Recording]:
    """A tar file, or all below a folder, in WebDataset's layout: ``key.wav`` (or another sound)
    with ``key.txt``, or ``key.json`` with the fields text and speaker, beside it.

    A key ends at the last dot; what lies beside the sound may also have WebDataset's own key, which
    ends at the first dot of the last part. Sound that may not be opened is listed too, as in a
    folder. Shards named such as train-0000 and test-0000 are the split. Members that may hold text
    and lie beside no sound go to `account`.
    """
    account = account or Account(source)
    found = shards_below(source)
    splits = splits_by_name([shard.stem for shard in found])
    unused: list[str] = []
    recordings: list[Recording] = []
    for shard, split in zip(found, splits, strict=True):
        account.use(shard)
        made, rest = _read_shard(shard, split)
        recordings += made
        unused += rest
    account.explain(unused, "a tar file has x.txt or x.json beside x.wav")
    return recordings


def _read_shard(shard: Path, split: Split | None) -> tuple[list[Recording], list[str]]:
    names = dict.fromkeys(name for name, _, _ in shards.members(shard))
    used: set[str] = set()
    found = []
    for name in names:
        folder, slash, last = name.rpartition("/")
        stem, suffix = os.path.splitext(last)
        if last.startswith(".") or suffix.lower() not in AUDIO_SUFFIXES:
            continue
        key = f"{folder}{slash}{stem}"
        fields: dict[str, Any] = {}
        first = f"{folder}{slash}{last.partition('.')[0]}"
        for beside in dict.fromkeys(f"{k}.{e}" for k in (first, key) for e in _BESIDE):
            if beside in names:
                fields |= _fields(shards.read_member(shard / beside) or b"", shard / beside)
                used.add(beside)
        speaker, text = fields.get("speaker"), fields.get("text")
        found.append(
            Recording(
                nfc(f"{shard.stem}/{key}"),
                shard / name,
                speaker=None if speaker is None else nfc(str(speaker)),
                text=None if text is None else str(text),
                split=split,
            )
        )
    rest = [
        str(shard / name)
        for name in names
        if name not in used and may_hold_text(name.rpartition("/")[2])
    ]
    return found, rest


def _fields(data: bytes, path: Path) -> dict[str, Any]:
    """The fields of a member beside the sound."""
    if path.suffix == ".txt":
        return {"text": decode(data, path).strip()}
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must hold a JSON object.")
    return fields
