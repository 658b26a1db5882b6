"""Mboshi (Bantu C25, an unwritten language): 4.5 h, three speakers (arXiv:1710.03501).

SOURCE is the repository (https://github.com/besacier/mboshi-french-parallel-corpus), with
`full_corpus_newsplit/{train,dev}`: a recording, its transcription `.mb.cleaned` and its French
translation `.fr` under the same name, whose first part is the speaker. The published split is kept;
it has no test, and all speakers are in both parts.

`--text french` writes the translations as texts, in lower case without punctuation, for the task
speech_text, by which recordings are found by what they mean (`speechssl find`).
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from speechssl.audio import list_audio
from speechssl.data.corpus import clone, main
from speechssl.data.layouts import Recording, Split, read_text
from speechssl.text import normalize

SPLITS: tuple[Split, ...] = ("train", "dev")
URL, COMMIT = "https://github.com/besacier/mboshi-french-parallel-corpus", "83c5b42"


TEXTS = {"mboshi": ".mb.cleaned", "french": ".fr"}


def recordings(source: Path, *, text: str = "mboshi") -> Iterator[Recording]:
    missing = True
    for split in SPLITS:
        folder = source / "full_corpus_newsplit" / split
        if not folder.is_dir():
            raise FileNotFoundError(f"{source} is not the Mboshi corpus: {folder} is missing.")
        for path in list_audio(folder):
            transcript = path.with_suffix(TEXTS[text])
            said = read_text(transcript) if transcript.is_file() else None
            if said is not None and text == "french":
                said = normalize(said, "basic")
            missing = missing and not said
            speaker = path.stem.partition("_")[0]
            yield Recording(path.stem, path, speaker=speaker, text=said, split=split)
    if missing and text == "french":
        raise ValueError(
            f"{source} has no French translations: no {TEXTS[text]} file lies beside a recording. "
            "--download fetches the corpus with them."
        )


def download(source: Path) -> None:
    clone(URL, COMMIT, source)


if __name__ == "__main__":
    sys.exit(main(__doc__ or "", recordings, download, texts=tuple(TEXTS)))
