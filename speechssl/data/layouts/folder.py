"""A bare folder of recordings, with the transcripts that lie in it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from speechssl.data.layouts.listing import Listing
from speechssl.data.layouts.recording import Recording, nfc, splits_by_name
from speechssl.data.layouts.transcripts import PLAIN_FOLDERS, find_transcripts
from speechssl.data.layouts.unused import Account


def read_folder(
    folder: Path,
    *,
    listing: Listing | None = None,
    in_table: Callable[[str], bool] | None = None,
    account: Account | None = None,
) -> list[Recording]:
    """Every recording below `folder`, or the only one where it is the path of one, with its
    transcript (:mod:`speechssl.data.layouts.transcripts`), unless `in_table`, given its path, is
    true: then a table has it.

    When all recordings lie in folders named such as train, dev and test, those are the split.
    Below that (and below a `wav48` beside a folder of texts), when all of them lie in two or more
    sub-folders, the first sub-folder is taken as the speaker (or the session: what a split must not
    tear apart); else speakers are unknown.
    """
    if listing is None:
        listing = listing_of(folder)
    account = account or Account(folder)
    texts = find_transcripts(listing, account, in_table or (lambda _: False))
    depth = 0 if str(listing.folder) == "." else len(os.path.join(listing.folder, ""))
    names = [nfc(path[depth:].replace(os.sep, "/")) for path in listing.audio]
    parts = [name.split("/") for name in names]
    splits = splits_by_name([part[0] if len(part) > 1 else "" for part in parts])
    documents = [document[depth:] for document in listing.documents]
    if any(splits) or _is_beside_texts(parts, documents):
        parts = [part[1:] for part in parts]
    by_speaker = _is_by_speaker(parts)
    return [
        Recording(
            identifier,
            Path(path),
            speaker=part[0] if by_speaker else None,
            text=texts.get(path),
            split=split,
        )
        for path, identifier, part, split in zip(
            listing.audio, _file_ids(names), parts, splits, strict=True
        )
    ]


def listing_of(source: Path) -> Listing:
    """What lies below a folder; of a single recording, it and what lies beside it under its name.

    Raises ValueError for anything else.
    """
    if source.is_dir():
        return Listing.of(source)
    if not source.is_file():
        raise ValueError(f"{source} is not a folder.")
    return Listing.of_one(source)


def _is_beside_texts(parts: Sequence[Sequence[str]], documents: Sequence[str]) -> bool:
    """Whether all recordings lie in a folder such as `wav48`, beside one of texts such as `txt`."""
    beside = {document.split(os.sep)[0].lower() for document in documents if os.sep in document}
    if not beside & PLAIN_FOLDERS:
        return False
    tops = {part[0].lower() if len(part) > 2 else "" for part in parts}
    return len(tops) == 1 and tops <= PLAIN_FOLDERS and bool((beside - tops) & PLAIN_FOLDERS)


def _is_by_speaker(parts: Sequence[Sequence[str]]) -> bool:
    """Whether all recordings lie in two or more sub-folders."""
    return all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) > 1


def _file_ids(names: Sequence[str]) -> list[str]:
    """Relative paths without suffix, with it where two files differ in nothing else."""
    stems = [os.path.splitext(name)[0] for name in names]
    seen: dict[str, int] = {}
    for stem in stems:
        seen[stem] = seen.get(stem, 0) + 1
    return [stem if seen[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]
