"""Which files of text in a folder belong to which recording.

In this order, each file once: ``x.txt`` (or ``x.lab``) beside ``x.wav``, by the same name, in
another Unicode form, or in other upper and lower case; the same place in a folder of texts, as
VCTK has ``txt/p225/p225_001.txt`` for ``wav48/p225/p225_001.wav``; and lists whose lines begin with
the name of a recording, as LibriSpeech's ``84-121123.trans.txt`` beside its recordings.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from speechssl.data.layouts.listing import Listing
from speechssl.data.layouts.lists import read_lists
from speechssl.data.layouts.plain_text import MOST_LISTED
from speechssl.data.layouts.recording import nfc, stem
from speechssl.data.layouts.unused import Account
from speechssl.text.encodings import decode

TEXT_SUFFIXES = (".txt", ".lab", ".trn")
"""Files that may be the transcript of one recording, the first one first."""

PLAIN_FOLDERS = {
    *("txt", "text", "texts", "transcript", "transcripts", "transcription", "transcriptions"),
    *("trans", "lab", "labels", "prompts"),
    *("wav", "wavs", "wav48", "wav16", "wav48_silence_trimmed", "audio", "audios", "clips"),
    *("flac", "mp3", "sound", "sounds", "speech", "recordings", "recording"),
}
"""Folders named after the kind of file in them, and not after a speaker or session."""

_SECONDS_OR_SAMPLES = re.compile(r"\s*\d+(\.\d+)?\s+\d+(\.\d+)?\s+\S")
"""How a line of HTK, Audacity or TIMIT begins: two times and a label."""


@dataclass
class _Found:
    """What was found of each recording, by the recording's path."""

    texts: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    """Sentences about files that are not text."""
    timed: list[str] = field(default_factory=list)
    """Files whose lines are times and labels."""


def find_transcripts(
    listing: Listing, account: Account, in_table: Callable[[str], bool]
) -> dict[str, str]:
    """The transcript of each recording that has one, "" for a blank one.

    Of recordings of which `in_table` (a table has their text) no file is opened. Raises ValueError
    that names the files which are no text in a known encoding.
    """
    documents = [d for d in listing.documents if d.lower().endswith(TEXT_SUFFIXES)]
    if not documents:
        return {}
    found = _Found()
    num_in_table = _take_beside(listing, set(documents), account, found, in_table)
    rest = account.rest(documents)
    if rest and len(found.texts) + num_in_table < len(listing.audio):
        _take_matching(listing, rest, account, found, in_table)
    account.explain(
        found.timed,
        "their lines are times and labels: write them as a table with the columns path, start_s, "
        "end_s and text",
    )
    for path, text in read_lists(account.rest(documents), listing, account).items():
        if not in_table(path):
            found.texts.setdefault(path, text)
    if found.errors:
        more = len(found.errors) - MOST_LISTED
        shown = found.errors[:MOST_LISTED] + ([f"... and {more} more files."] if more > 0 else [])
        raise ValueError("\n".join(shown))
    return found.texts


def _take_beside(
    listing: Listing,
    documents: Collection[str],
    account: Account,
    found: _Found,
    in_table: Callable[[str], bool],
) -> int:
    """``x.txt`` beside ``x.wav``, to the letter; returns how many recordings are in the table."""
    num_in_table, passed = 0, []
    for path in listing.audio:
        if in_table(path):
            num_in_table += 1
            beside = [t for t in _beside(path) if t in documents]
            passed += beside
            continue
        for text in _beside(path):
            if text in documents:
                _read(text, path, account, found)
                break
    account.explain(passed, "the table has the text of their recordings")
    return num_in_table


def _beside(path: str) -> list[str]:
    base = os.path.splitext(path)[0]
    return [base + suffix for suffix in TEXT_SUFFIXES]


def _take_matching(
    listing: Listing,
    documents: Iterable[str],
    account: Account,
    found: _Found,
    in_table: Callable[[str], bool],
) -> None:
    """Texts whose name, or place in a folder of texts, is that of a recording without one; nothing
    where several texts would fit."""
    untranscribed = [
        path for path in listing.audio if path not in found.texts and not in_table(path)
    ]
    depth = 0 if str(listing.folder) == "." else len(str(listing.folder)) + 1
    keys: list[tuple[Callable[[str], str], bool]] = [  # and whether a text may be of several
        (nfc, False),
        (lambda name: nfc(name).casefold(), False),
        (lambda name: _place(name, depth), True),
    ]
    for key, shared in keys:
        by_key: dict[str, list[str]] = {}
        for document in account.rest(documents):
            by_key.setdefault(key(os.path.splitext(document)[0]), []).append(document)
        if not by_key:
            return
        fits: dict[str, list[str]] = {}
        for path in untranscribed:
            name = key(os.path.splitext(path)[0])
            if name in by_key and path not in found.texts:
                fits.setdefault(name, []).append(path)
        for name, paths in fits.items():
            if len(by_key[name]) > 1 or (not shared and len({stem(path) for path in paths}) > 1):
                continue
            for path in paths:
                _read(by_key[name][0], path, account, found)


def _place(base: str, depth: int) -> str:
    """Where a file lies, without the folders named after a kind of file; VCTK's two microphones
    are one place."""
    parts = nfc(base[depth:]).split(os.sep)
    kept = [part for part in parts[:-1] if part.lower() not in PLAIN_FOLDERS]
    return "/".join([*kept, re.sub(r"_mic\d$", "", parts[-1])])


def _read(document: str, path: str, account: Account, found: _Found) -> None:
    """Take `document` as the transcript of the recording `path`, where it is plain text."""
    file = Path(document)
    try:
        text = decode(file.read_bytes(), file).strip()
    except ValueError as error:
        if str(error) not in found.errors:
            found.errors.append(str(error))
        account.use(document)
        return
    lower = document.lower()
    timed = [line for line in text.split("\n") if _SECONDS_OR_SAMPLES.match(line)]
    if timed and lower.endswith(".txt") and _is_timit(path):
        text = timed[0].split(maxsplit=2)[2]
    elif timed and len(timed) == len(text.split("\n")) and (len(timed) > 1 or "\t" in text):
        if document not in found.timed:
            found.timed.append(document)
        account.use(document)
        return
    found.texts[path] = text
    account.use(document)


def _is_timit(path: str) -> bool:
    base = os.path.splitext(path)[0]
    return any(os.path.isfile(base + suffix) for suffix in (".PHN", ".phn", ".WRD", ".wrd"))
