"""From recordings as they are found to manifests that training can trust.

``prepare(read_layout("my_folder"), "out")`` decodes every recording once, in threads and in bounded
memory; cuts long ones without a transcript at their quietest moments; drops what cannot be used and
writes down why; splits without leaking a speaker or a sentence; and writes ``train.jsonl``,
``dev.jsonl``, ``test.jsonl`` (those that are not empty), ``summary.json`` and ``dropped.jsonl``.
What was seen in each file is kept in ``probe_cache.jsonl`` (by path, size and time of change), so a
second run is quick; it gives the same bytes.

Reasons in ``dropped.jsonl``, by their first words: `missing`, `unreadable` (not sound, cut off,
does not decode, NaN samples), `too short`, `silent`, `too quiet`, `clipped`, `too long` (with a
transcript), `transcript too long` (CTC cannot align it), `duplicate` (the same sound), `shared
sentence` (see :func:`~speechssl.data.prepare.split.drop_shared_sentences`).

A blank transcript (an empty cell or file, or only invisible characters) says nothing: the recording
stays, unlabeled, and the summary counts it. Names are compared in one Unicode form
(:func:`speechssl.spelling.name_key`), so that no speaker is in train and test under two spellings.
"""

from speechssl.data.prepare.config import PrepareConfig
from speechssl.data.prepare.drop import Dropped
from speechssl.data.prepare.inspection import Inspection, inspect
from speechssl.data.prepare.pipeline import prepare
from speechssl.data.prepare.split import SPLITS, hold_out
from speechssl.data.prepare.summary import PrepareSummary, SplitSummary
from speechssl.data.prepare.transcripts import (
    clean_text,
    ctc_frames,
    ctc_frames_needed,
    sentence_key,
)

__all__ = [
    "SPLITS",
    "Dropped",
    "Inspection",
    "PrepareConfig",
    "PrepareSummary",
    "SplitSummary",
    "clean_text",
    "ctc_frames",
    "ctc_frames_needed",
    "hold_out",
    "inspect",
    "prepare",
    "sentence_key",
]
