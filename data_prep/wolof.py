"""Wolof read speech of ALFFA: 16.8 h for training, Kaldi layout, MIT (Gauthier et al., LREC 2016).

SOURCE is ASR/WOLOF of https://github.com/getalp/ALFFA_PUBLIC (or SLR25 of openslr.org), with
`data/{train,dev,test}/text` and the recordings below `data/*/wav`, `WOL_{speaker}_{list}_{number}`.
The published split is kept. Where SOURCE holds a table `splits.tsv` (columns id, path, speaker,
split, text) that is taken instead.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from speechssl.audio import list_audio
from speechssl.data.corpus import main, transcripts_of
from speechssl.data.layouts import Recording, Split, read_table

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def recordings(source: Path) -> Iterator[Recording]:
    if (source / "splits.tsv").is_file():
        yield from read_table(source / "splits.tsv")
        return
    for split in SPLITS:
        folder = source / "data" / split
        if not (folder / "text").is_file():
            raise FileNotFoundError(
                f"{source} is not the Wolof corpus: {folder / 'text'} is missing."
            )
        paths = list_audio(folder / "wav")
        texts = transcripts_of(paths, folder / "text")
        for path, text in zip(paths, texts, strict=True):
            speaker = "_".join(path.stem.split("_")[:2])
            yield Recording(path.stem, path, speaker=speaker, text=text, split=split)


def download(source: Path) -> None:
    raise ValueError(
        "The Wolof corpus is not fetched from here, as its publishers give no checksum: take it "
        f"from https://www.openslr.org/25/ or https://github.com/getalp/ALFFA_PUBLIC into {source}."
    )


if __name__ == "__main__":
    sys.exit(main(__doc__ or "", recordings, download))
