"""Free Spoken Digit Dataset: English digits, six speakers, 8 kHz, CC BY-SA 4.0.

SOURCE is the repository (https://github.com/Jakobovski/free-spoken-digit-dataset), with
`recordings/{digit}_{speaker}_{number}.wav`. The published split by number has every speaker in both
parts; here speakers are held out: yweweler for test, theo for dev, the other four for train. The
transcript is the English word of the digit.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from speechssl.audio import list_audio
from speechssl.data.corpus import clone, main
from speechssl.data.layouts import Recording, Split

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT: dict[str, Split] = {"theo": "dev", "yweweler": "test"}
URL, COMMIT = "https://github.com/Jakobovski/free-spoken-digit-dataset", "26eb9aa"


def recordings(source: Path) -> Iterator[Recording]:
    folder = source / "recordings"
    if not folder.is_dir():
        raise FileNotFoundError(f"{source} is not the FSDD repository: it has no recordings/.")
    for path in list_audio(folder):
        digit, _, rest = path.stem.partition("_")
        speaker = rest.rpartition("_")[0]
        if digit not in set("0123456789") or not speaker:
            raise ValueError(f"{path} is not named digit_speaker_number.")
        text, split = WORDS[int(digit)], HELD_OUT.get(speaker, "train")
        yield Recording(path.stem, path, speaker=speaker, text=text, split=split)


def download(source: Path) -> None:
    clone(URL, COMMIT, source)


if __name__ == "__main__":
    sys.exit(main(__doc__ or "", recordings, download))
