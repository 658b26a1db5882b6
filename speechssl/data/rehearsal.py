"""The rehearsal pack: a little openly licensed, transcribed speech of many languages, as a corpus
of a pretraining, so that a model that was taught to transcribe them does not forget it.

A pack is a folder:

- ``manifest.jsonl``, as every manifest, with the fields `language`, `source` and `licence` beside;
- one Ogg Opus file for each language, in which its clips follow each other;
- ``pack.json``: the version of the form, and the SHA-256 of every other file;
- ``LICENCES.md``: sources, languages, speakers, minutes and licences.

``recipes/seed/pack_rehearsal.py`` writes one.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechssl.data.index import open_manifest
from speechssl.data.manifest import Utterance
from speechssl.files import sha256

PACK = "pack"
"""The name of the pack that comes with the package."""
PACK_FOLDER = Path(__file__).parents[1] / "seed" / "rehearsal"
MANIFEST, INDEX, LICENCES = "manifest.jsonl", "pack.json", "LICENCES.md"
FORMAT_VERSION = 1
MOST_BYTES = 8_000_000
"""Of all files of the pack that comes with the package."""


def open_rehearsal(name: str, folder: Path = PACK_FOLDER) -> Sequence[Utterance]:
    """The utterances of ``pack`` (in `folder`), of a pack's folder, or of a manifest.

    Raises FileNotFoundError where it is not there, and ValueError where it is damaged.
    """
    path = folder if name == PACK else Path(name)
    if path.is_dir() and ((path / INDEX).exists() or name == PACK):
        check_pack(path)
        return open_manifest(path / MANIFEST)
    if name == PACK:
        raise FileNotFoundError(
            f"There is no rehearsal pack in this installation ({folder}): install speechssl from "
            "its wheel, or name a manifest of transcribed speech, as in --rehearsal clips.jsonl."
        )
    if not path.exists():
        raise FileNotFoundError(
            f"--rehearsal {name}: there is no such manifest. It is {PACK}, none, or the manifest "
            "of transcribed speech of the languages that the model knows."
        )
    return open_manifest(path)


def check_pack(folder: Path) -> dict[str, Any]:
    """What ``pack.json`` says of a whole pack.

    Raises FileNotFoundError or ValueError naming the file that is missing or damaged.
    """
    place = folder / INDEX
    try:
        about = json.loads(place.read_text(encoding="utf-8"))
        version, digests = about["version"], dict(about["sha256"])
    except FileNotFoundError:
        raise FileNotFoundError(f"{place} is missing: {folder} is no rehearsal pack.") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{place} is damaged: {_AGAIN}.") from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{place} is of version {version} of its form, and this speechssl reads version "
            f"{FORMAT_VERSION}: install the version that it came with."
        )
    if MANIFEST not in digests:
        raise ValueError(f"{place} is damaged: it does not name {MANIFEST}; {_AGAIN}.")
    for name, wanted in digests.items():
        try:
            found = sha256(folder / name)
        except OSError:
            raise FileNotFoundError(f"{folder / name} is missing: {_AGAIN}.") from None
        if found != wanted:
            raise ValueError(f"{folder / name} is damaged, by its checksum: {_AGAIN}.")
    return dict(about)


_AGAIN = "install speechssl again, or copy the pack again"
