"""Lists of transcripts: files whose lines begin with the name of a recording, as LibriSpeech's
``84-121123.trans.txt`` (``84-121123-0000 GO DO YOU HEAR``) and MLS's ``transcripts.txt``.

Many other lists begin so too (durations, speakers, labels, origins). A list is one of transcripts
where its name says so or its lines look like sentences, and nothing else stands in columns.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from speechssl.data.layouts.listing import Listing
from speechssl.data.layouts.plain_text import are_transcripts, is_named_after_text
from speechssl.data.layouts.recording import nfc, stem
from speechssl.data.layouts.unused import Account
from speechssl.text.encodings import decode


def read_lists(documents: Iterable[str], listing: Listing, account: Account) -> dict[str, str]:
    """The transcripts that the lists among `documents` give, by the path of the recording.

    Lists with a name of transcripts come first; what two lists say of a recording, and lines that
    fit none or several, go to `account`.
    """
    texts: dict[str, str] = {}
    for document in sorted(documents, key=lambda path: (not is_named_after_text(path), path)):
        pairs = _read_list(document, listing)
        if not pairs:
            continue
        account.use(document)
        missing, ambiguous, again = [], [], []
        for name, paths, text in pairs:
            own = [path for path in paths if _folder(path) == _folder(document)] or paths
            if not own:
                missing.append(name)
            elif len(own) > 1:
                ambiguous.append(name)
            elif texts.setdefault(own[0], text) != text:
                again.append(name)
        kind = f"lines of {account.name(document)}"
        account.add(kind, missing, "no recording has the name that they begin with")
        account.add(kind, ambiguous, "several recordings have the name that they begin with")
        account.add(kind, again, "another list has another transcript of their recordings")
    return texts


def _folder(path: str) -> str:
    return os.path.dirname(path)


def _read_list(document: str, listing: Listing) -> list[tuple[str, list[str], str]]:
    """``(name, recordings of that name, text)`` of each line; empty for what is no such list."""
    file = Path(document)
    try:
        lines = [line.strip() for line in decode(file.read_bytes(), file).split("\n")]
    except ValueError:  # it may be anything
        return []
    lines = [line for line in lines if line]
    for sign in ("\t", "|", None):
        pairs = [_pair(line, sign, listing) for line in lines]
        texts = [text for _, paths, text in pairs if paths]
        if texts and 2 * len(texts) >= len(pairs):
            in_columns = sign is not None and 2 * sum(sign in text for text in texts) > len(texts)
            return pairs if not in_columns and are_transcripts(document, texts) else []
    return []


def _pair(line: str, sign: str | None, listing: Listing) -> tuple[str, list[str], str]:
    name, text = [*line.split(sign, 1), ""][:2]
    key = stem(nfc(name.strip()).replace("\\", "/").removeprefix("./"))
    paths = listing.by_name.get(key.rpartition("/")[2], [])
    if "/" in key:
        ending = "/" + key
        paths = [path for path in paths if f"/{nfc(stem(path))}".endswith(ending)]
    return name.strip(), paths, text.strip()
