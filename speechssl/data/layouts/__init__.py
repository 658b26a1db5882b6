"""How speech lies on people's disks: bare folders, tables, Kaldi data folders, fairseq manifests,
tar files. One file a layout; :mod:`speechssl.data.layouts.source` finds out which it is.

Each reader turns its layout into :class:`Recording` records and looks at no sound, but for the
length of a recording of which a table names parts. What is wrong with the source as a whole (a
broken line, a missing column, a command in wav.scp) is a ValueError that names the file and the
lines; a single recording that is missing or damaged is for `prepare` to name and drop. What may be
a transcript and was not used is in the account of the source (:class:`Unused`).
"""

from speechssl.data.layouts.fairseq import read_fairseq
from speechssl.data.layouts.folder import read_folder
from speechssl.data.layouts.join import join_table
from speechssl.data.layouts.kaldi import read_kaldi, read_pairs
from speechssl.data.layouts.plain_text import read_text
from speechssl.data.layouts.recording import Recording, Split, nfc, split_name
from speechssl.data.layouts.source import (
    READ_AS,
    Layout,
    LayoutName,
    Source,
    detect_layout,
    read_layout,
    read_source,
    read_transcribed,
)
from speechssl.data.layouts.table import read_table
from speechssl.data.layouts.unused import Unused
from speechssl.data.layouts.webdataset import read_shards

__all__ = [
    "READ_AS",
    "Layout",
    "LayoutName",
    "Recording",
    "Source",
    "Split",
    "Unused",
    "detect_layout",
    "join_table",
    "nfc",
    "read_fairseq",
    "read_folder",
    "read_kaldi",
    "read_layout",
    "read_pairs",
    "read_shards",
    "read_source",
    "read_table",
    "read_text",
    "read_transcribed",
    "split_name",
]
