"""Mboshi (Bantu C25, an unwritten language): 4.5 h, three speakers (arXiv:1710.03501).

SOURCE is the repository (https://github.com/besacier/mboshi-french-parallel-corpus), with
`full_corpus_newsplit/{train,dev}`: a recording and its transcription `.mb.cleaned` under the same
name, whose first part is the speaker. The published split is kept; it has no test, and all speakers
are in both parts.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from speechssl.audio import list_audio
from speechssl.data.corpus import clone, main
from speechssl.data.layouts import Recording, Split, read_text

SPLITS: tuple[Split, ...] = ("train", "dev")
URL, COMMIT = "https://github.com/besacier/mboshi-french-parallel-corpus", "83c5b42"


def recordings(source: Path) -> Iterator[Recording]:
    for split in SPLITS:
        folder = source / "full_corpus_newsplit" / split
        if not folder.is_dir():
            raise FileNotFoundError(f"{source} is not the Mboshi corpus: {folder} is missing.")
        for path in list_audio(folder):
            transcript = path.with_suffix(".mb.cleaned")
            text = read_text(transcript) if transcript.is_file() else None
            speaker = path.stem.partition("_")[0]
            yield Recording(path.stem, path, speaker=speaker, text=text, split=split)


def download(source: Path) -> None:
    clone(URL, COMMIT, source)


if __name__ == "__main__":
    sys.exit(main(__doc__ or "", recordings, download))
