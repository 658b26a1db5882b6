"""LibriSpeech: English audiobooks, up to 960 h, 16 kHz, CC BY 4.0 (https://www.openslr.org/12/).

SOURCE is `LibriSpeech` or the folder around it, with `{part}/{speaker}/{chapter}/*.flac` and one
`{speaker}-{chapter}.trans.txt` beside them. Parts that are there are read, or those of --parts: the
train parts make train, the dev parts dev and the test parts test, so clean and other are scored
apart by preparing them apart. --download fetches, without --parts, the three smallest clean ones.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from speechssl.audio import list_audio
from speechssl.data.corpus import fetch, main, transcripts_of, unpack
from speechssl.data.layouts import Recording, split_name

URL = "https://www.openslr.org/resources/12"
MD5 = {
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fff3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
}
SMALL = ("train-clean-100", "dev-clean", "test-clean")


def recordings(source: Path, parts: Sequence[str] = ()) -> Iterator[Recording]:
    root = source / "LibriSpeech" if (source / "LibriSpeech").is_dir() else source
    found = [part for part in parts or MD5 if parts or (root / part).is_dir()]
    if not found:
        raise FileNotFoundError(f"{source} holds no part of LibriSpeech ({', '.join(MD5)}).")
    for part in found:
        for folder, group in groupby(list_audio(root / part), key=lambda path: path.parent):
            paths, (speaker, chapter) = list(group), folder.parts[-2:]
            texts = transcripts_of(paths, folder / f"{speaker}-{chapter}.trans.txt")
            for path, text in zip(paths, texts, strict=True):
                yield Recording(path.stem, path, speaker=speaker, text=text, split=split_name(part))


def download(source: Path, parts: Sequence[str] = SMALL, url: str = URL) -> None:
    for part in parts:
        target = source / "LibriSpeech" / part
        if target.is_dir():
            continue
        archive, unpacked = source / f"{part}.tar.gz", source / f".{part}"
        fetch(f"{url}/{part}.tar.gz", archive, md5=MD5[part])
        unpack(archive, unpacked)
        target.parent.mkdir(exist_ok=True)
        (unpacked / "LibriSpeech" / part).rename(target)  # only a whole part has this name
        shutil.rmtree(unpacked)
        archive.unlink()


if __name__ == "__main__":
    sys.exit(main(__doc__ or "", recordings, download, parts=tuple(MD5)))
