"""The account of a source: what in it was read, and what of it was not used and why.

Whatever may hold transcripts or times (:data:`ADVICE`) is either read by a layout or named here
with what would be read instead, so that no transcript that was offered is passed over in silence.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechssl.data.layouts.recording import nfc

_TABLE = (
    "a table needs a header with a column of paths (path, audio, file, ...) and one of transcripts "
    "(text, sentence, transcript, ...)"
)
_TIMED = "write its parts as a table with the columns path, start_s, end_s and text"
_ANNOTATIONS = (
    "--layout annotations reads it where it names its recording or has its name, in place of the "
    "transcript that was read"
)
_OFFICE = "save it as CSV in UTF-8, with the columns path and text"
_BESIDE = (
    "a transcript has the name of its recording (x.txt beside x.wav), or is a line of a "
    "transcripts.txt that begins with that name"
)
_UNPACK = "unpack it, and give the folder (a .tar that is not compressed is read as it is)"

# fmt: off
ADVICE: dict[str, str] = {
    **dict.fromkeys((".txt", ".lab", ".trn", ".text", ".transcript"), _BESIDE),
    **dict.fromkeys((".tsv", ".csv", ".psv", ".tab", ".json", ".jsonl"), _TABLE),
    **dict.fromkeys((
        ".textgrid", ".eaf", ".srt", ".vtt", ".ass", ".ssa", ".ttml", ".stm", ".ctm",
    ), _ANNOTATIONS),
    **dict.fromkeys((
        ".sbv", ".lrc", ".mlf", ".trs", ".cha", ".rttm", ".phn", ".wrd", ".seg", ".antx", ".exb",
        ".flextext",
    ), _TIMED),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _OFFICE),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pdf", ".xml"),
                    "save its text as x.txt beside x.wav, or as a table"),
    **dict.fromkeys((".parquet", ".arrow", ".feather", ".h5", ".hdf5", ".sqlite"),
                    "export its sound as files and its texts as a table"),
    **dict.fromkeys((".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".lz4"), _UNPACK),
    ".ltr": "it lies beside no fairseq manifest of its name",
    ".tar": "--layout shards reads the members of tar files",
}
"""What may hold transcripts or times, by suffix, and what to do with it."""
# fmt: on

NEVER_TEXT = {
    *(".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".npy", ".npz", ".pt", ".pkl", ".bin"),
    *(".f0", ".mel", ".md5", ".sha1", ".sha256", ".pyc", ".py", ".part", ".bak", ".tmp", ".peak"),
    *(".reapeaks", ".pk", ".pkf", ".asd", ".sfk", ".md", ".html"),
    *(".pfsx", ".psfx", ".etf", ".meta"),
}
"""What may lie beside a recording under its name and holds no transcript."""

_KALDI = "give the Kaldi data folder itself, in which it lies beside wav.scp"
NAMES = dict.fromkeys(
    ("text", "segments", "utt2spk", "wav.scp", "spk2utt"), _KALDI
) | dict.fromkeys(
    (
        *("stm", "transcripts", "transcript", "transcriptions", "transcription", "trans"),
        *("prompts", "prompts-original", "txt.done.data"),
    ),
    "give it the suffix .txt (each line begins with the name of a recording) or make it a table",
)
"""Files without a suffix that may hold transcripts, by their names in lower case."""

_NO_SPEECH = {
    *("readme", "license", "licence", "copying", "changelog", "changes", "notice", "authors"),
    *("requirements", "credits", "contributing", "copyright", "citation", "dataset_info", "dict"),
}
"""Files that go with any folder, by the beginnings of their names."""


@dataclass(frozen=True)
class Unused:
    """Something that a source offers and that was not used."""

    kind: str
    """What it is, in the plural: ``.TextGrid files``."""
    count: int
    first: str
    """The name of the first of them, from the source's folder where it lies there."""
    advice: str
    """Why, or what would be read instead."""

    def __str__(self) -> str:
        if self.count > 1:
            return f"{self.count} {self.kind}, the first is {self.first}: {self.advice}"
        kind = re.sub(
            r"\b(transcript|file|line|table|column|recording|segment|annotation)s\b",
            r"\1",
            self.kind,
            count=1,
        )
        return f"1 {kind}, {self.first}: {self.advice}"


def may_hold_text(name: str) -> bool:
    """Whether a file of this name belongs into the account."""
    lower = name.lower()
    suffix = os.path.splitext(lower)[1]
    if suffix not in ADVICE and lower not in NAMES:
        return False
    return lower.split(".")[0].split("-")[0] not in _NO_SPEECH and not lower.startswith(".")


class Account:
    """Collects what readers use and find useless of a source."""

    def __init__(self, source: Path) -> None:
        self.folder = source if source.is_dir() else source.parent
        self._used: set[str] = set()
        self._found: list[Unused] = []
        self._explained: set[str] = set()
        self.tables: list[str] = []

    def use(self, *paths: str | Path) -> None:
        """These files were read."""
        self._used.update(map(str, paths))

    def add(self, kind: str, names: Sequence[str], advice: str) -> None:
        """Something was offered and not used; nothing where `names` is empty."""
        if names:
            self._found.append(Unused(kind, len(names), self.name(names[0]), advice))

    def explain(self, paths: Iterable[str | Path], advice: str) -> None:
        """Files that are not used, for another reason than that of their kind."""
        names_of = [str(path) for path in paths]
        by_kind: dict[str, list[str]] = {}
        for path in names_of:
            by_kind.setdefault(_kind(path), []).append(path)
        for kind, names in by_kind.items():
            self.add(f"{kind} files", names, advice)
        self._explained.update(names_of)

    def is_used(self, path: str | Path) -> bool:
        return str(path) in self._used

    def rest(self, documents: Iterable[str]) -> list[str]:
        """Those of `documents` that nobody has used or explained."""
        return [
            path for path in documents if path not in self._used and path not in self._explained
        ]

    def unused(self, documents: Iterable[str]) -> list[Unused]:
        """All that was not used: what readers have added, and the rest of `documents` by kind."""
        kinds: dict[str, list[str]] = {}
        for path in self.rest(documents):
            kinds.setdefault(_kind(path), []).append(path)
        rest = [
            Unused(f"{kind} files", len(paths), self.name(paths[0]), _advice(paths[0]))
            for kind, paths in sorted(kinds.items())
        ]
        return [*self._found, *rest]

    def name(self, path: str) -> str:
        """A path from the source's folder."""
        inside = f"{self.folder}{os.sep}"
        return nfc(path.removeprefix(inside))


def _kind(path: str) -> str:
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1]
    if suffix.lower() in (".gz", ".bz2", ".xz", ".zst") and ".tar." in name.lower():
        return f".tar{suffix.lower()}"
    return suffix if suffix else name


def _advice(path: str) -> str:
    name = os.path.basename(path).lower()
    return ADVICE.get(os.path.splitext(name)[1]) or NAMES.get(name, _BESIDE)
