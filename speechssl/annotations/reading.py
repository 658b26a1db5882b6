"""Reads a file of annotations, whatever its format."""

from pathlib import Path

from speechssl.annotations import subtitle_files
from speechssl.annotations.eaf import read_eaf
from speechssl.annotations.line_files import are_labels, read_ctm, read_labels, read_stm
from speechssl.annotations.parts import Annotations
from speechssl.annotations.subtitle_files import read_subtitles
from speechssl.annotations.textgrid import read_textgrid
from speechssl.text.encodings import peek

SUFFIXES = (".eaf", ".textgrid", *subtitle_files.SUFFIXES, ".ctm", ".stm")
"""Of the files that are read; a .txt is, too, where it is Audacity's labels."""

LABEL_SUFFIX = ".txt"


def is_annotations(path: Path) -> bool:
    """Whether a file is one that is read here, by its suffix; a .txt by its content."""
    suffix = path.suffix.lower()
    if suffix == LABEL_SUFFIX:
        text = peek(path)
        return are_labels(text if len(text) < 1 << 14 else text[: text.rfind("\n")])
    return suffix in SUFFIXES


def read_all(path: Path) -> list[Annotations]:
    """The annotations of each recording that a file is of: several only of a CTM or STM, which name
    them in `media`.

    Raises FileNotFoundError, ValueError (one sentence that names the file and what is wrong), and
    ModuleNotFoundError where a package of the extra ``linguist`` is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of annotations {path}.")
    suffix = path.suffix.lower()
    if suffix == ".eaf":
        return [read_eaf(path)]
    if suffix == ".textgrid":
        return [read_textgrid(path)]
    if suffix in subtitle_files.SUFFIXES:
        return [read_subtitles(path)]
    if suffix == ".ctm":
        return read_ctm(path)
    if suffix == ".stm":
        return read_stm(path)
    if suffix == LABEL_SUFFIX:
        return [read_labels(path)]
    raise ValueError(
        f"{path} is no file of annotations that is read: its suffix is none of "
        f"{' '.join((*SUFFIXES, LABEL_SUFFIX))}."
    )


def read(path: str | Path) -> Annotations:
    """The annotations of one recording; ValueError where a file has those of several, or none."""
    found = read_all(Path(path))
    if len(found) != 1:
        names = ", ".join(each.media[0].places[0] for each in found[:5]) or "none"
        raise ValueError(f"{path} is of {len(found)} recordings ({names}), and not of one.")
    return found[0]
