"""Common Voice: read sentences in more than a hundred languages, MP3, CC0 (arXiv:1912.06670).

SOURCE is the folder of one language of one release (`cv-corpus-*/xx`), with `train.tsv`, `dev.tsv`
and `test.tsv` (columns client_id, path, sentence) and `clips/`. The published split is kept, in
which no speaker is in two parts.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from speechssl.data.corpus import main
from speechssl.data.layouts import Recording, Split, read_table

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def recordings(source: Path) -> Iterator[Recording]:
    tables = {split: source / f"{split}.tsv" for split in SPLITS}
    if not (source / "clips").is_dir() or not any(table.is_file() for table in tables.values()):
        raise FileNotFoundError(
            f"{source} is not a language of Common Voice: it needs clips/ and train.tsv, dev.tsv "
            "or test.tsv."
        )
    for split, table in tables.items():
        if table.is_file():
            yield from read_table(table, split=split, audio_folder=source / "clips")


def download(source: Path) -> None:
    raise ValueError(
        "Common Voice cannot be fetched by a program, as its terms are accepted in the browser: "
        f"take a language from https://commonvoice.mozilla.org/datasets and unpack it in {source}."
    )


if __name__ == "__main__":
    sys.exit(main(__doc__ or "", recordings, download))
