"""The seed: a small model that learned speech of many languages and comes with the package.

Where a MODEL is expected, ``seed`` means the one of the size ``tiny`` and ``seed:NAME`` that of
another size. Each is a model folder below this one, ``NAME/``: config.json, model.safetensors
(bfloat16, read as float32), its tokenizer, meta.json, the model card README.md, NOTICE, and
SHA256SUMS, which has the digest of every other file. ``python -m speechssl.seed.pack`` writes it.
"""

import multiprocessing
import re
import sys
from functools import cache
from pathlib import Path

from speechssl import torchrun
from speechssl.files import sha256

FOLDER = Path(__file__).parent
"""Where the seeds lie."""
NAME = "seed"
DEFAULT_SIZE = "tiny"
SUMS = "SHA256SUMS"
_SOURCE = re.compile(rf"{NAME}(?::(.*))?", re.DOTALL)
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")
_AGAIN = "install speechssl again (pip install --force-reinstall --no-cache-dir) from what holds it"


class NoSeedError(FileNotFoundError):
    """The package has no seed of the size that is asked for."""


def size_of(source: str | Path) -> str | None:
    """The size of the seed that a person means by MODEL; None where a path or another name is
    meant: ``./seed``, or any Path."""
    found = _SOURCE.fullmatch(source) if isinstance(source, str) else None
    return None if found is None else DEFAULT_SIZE if found[1] is None else found[1]


def name_of(folder: Path) -> str | None:
    """What a person calls the seed in `folder`, ``seed`` or ``seed:NAME``; None where that is no
    folder of a seed."""
    if folder.parent != FOLDER or folder.name not in sizes():
        return None
    return NAME if folder.name == DEFAULT_SIZE else f"{NAME}:{folder.name}"


def sizes() -> list[str]:
    """The sizes of which the package has a seed; they may be damaged."""
    names = (place.parent.name for place in FOLDER.glob(f"*/{SUMS}"))
    return sorted(name for name in names if not name.startswith("."))  # left by a killed packing


def folder_of(size: str = DEFAULT_SIZE) -> Path:
    """The model folder of a seed, after its digests were checked.

    Raises NoSeedError where the package has none of this size, and ValueError where it is damaged.
    """
    there = sizes()
    if size not in there:
        if there:
            raise NoSeedError(
                f"There is no seed of the size {size!r}: this package has {', '.join(there)}."
            )
        raise NoSeedError(
            f"This installation of speechssl has no seed ({FOLDER / DEFAULT_SIZE} is missing or "
            "not whole): name another model; where CHANGELOG names a seed of this version, "
            f"{_AGAIN}."
        )
    _check(FOLDER / size)
    return FOLDER / size


def check_size(size: str, source: str, has: str) -> None:
    """ValueError where another size is asked for than that of the seed.

    Args:
        size: that is asked for.
        source: what a person calls the seed.
        has: the size of its model.
    """
    if size == has:
        return
    others = ", ".join(f"{NAME}:{name}" for name in sizes() if name != size_of(source))
    raise ValueError(
        f"--size {size}: the seed that --init {source} names is a model of the size {has}. Leave "
        f"--size out, {f'name another seed ({others})' if others else 'name another model'}, or "
        "give --init scratch."
    )


def _check(folder: Path) -> None:
    """ValueError naming the first file that is not as it was packed."""
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    found = [_LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in found if match is not None}
    wrong = SUMS if None in found or not {"model.safetensors", "config.json"} <= set(sums) else ""
    for name, digest in sums.items():
        if not wrong and _sha256(folder / name) != digest:
            wrong = name
    if wrong:
        raise ValueError(
            f"The seed in {folder} is damaged ({wrong} is missing or not as it was packed): "
            f"{_AGAIN}."
        )


def _sha256(path: Path) -> str:
    """'' where it cannot be read."""
    try:
        return sha256(path)
    except OSError:
        return ""


@cache
def say_which(source: str) -> None:
    """Once for a name, on stderr: which one is meant where a file or folder is called so too."""
    is_first = multiprocessing.parent_process() is None and torchrun.is_first()
    if is_first and Path(source).exists():
        print(
            f"{source} means the seed that comes with speechssl; your own {source} in this folder "
            f"is ./{source}.",
            file=sys.stderr,
            flush=True,
        )
