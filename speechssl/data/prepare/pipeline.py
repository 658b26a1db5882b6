"""The whole of prepare: inspect, drop, split, write."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from speechssl.data.layouts import Recording, Split, Unused
from speechssl.data.manifest import Utterance, relative_path, write_manifest
from speechssl.data.prepare.cache import inspect_all
from speechssl.data.prepare.config import PrepareConfig
from speechssl.data.prepare.drop import Dropped, categories, drop_duplicates, reason_to_drop
from speechssl.data.prepare.inspection import Inspection
from speechssl.data.prepare.split import SPLITS, drop_shared_sentences, split_utterances
from speechssl.data.prepare.summary import PrepareSummary, named_by_warning, summarize
from speechssl.data.prepare.utterances import Kept, to_utterances, unique_ids
from speechssl.files import writing
from speechssl.spelling import is_blank
from speechssl.workers import Cluster, Processes


def prepare(
    recordings: Iterable[Recording],
    out: str | Path,
    config: PrepareConfig | None = None,
    *,
    earlier: Mapping[Split, Sequence[Utterance]] | None = None,
    unused: Sequence[Unused] = (),
    left_out: Sequence[Dropped] = (),
    progress: bool | None = None,
    num_threads: int | None = None,
    processes: Processes = 1,
    say: Callable[[str], None] = print,
    cluster: Cluster | None = None,
) -> PrepareSummary:
    """Check, cut, drop and split `recordings`, and write manifests to the folder `out`.

    `earlier` are the splits of before, from which models have learned: what was held out stays held
    out and what was trained on is trained on, so that only new recordings are split anew.
    `unused`, of the source, goes into the summary, and `left_out`, what was dropped before, into
    ``dropped.jsonl``. `progress` None shows a bar when stderr is a
    terminal. `num_threads`, `processes`, `say` and `cluster` are those of :func:`inspect_all`.
    Raises ValueError when there is no recording, or when none can be used; ``dropped.jsonl`` is
    written in the latter case as well.
    """
    config = config or PrepareConfig()
    records, blank = _without_blank_texts(recordings)
    if not records and not left_out:
        raise ValueError("There are no recordings in the source.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    usable: list[tuple[Recording, Inspection]] = []
    dropped = list(left_out)
    inspections = inspect_all(records, out, config, progress, num_threads, processes, say, cluster)
    for record, seen in zip(records, inspections, strict=True):
        reason = reason_to_drop(record, seen, config)
        if reason is None:
            usable.append((record, seen))
        else:
            dropped.append(Dropped(record.id, record.audio, reason))
    usable, duplicates = drop_duplicates(usable)
    kept, silent = to_utterances(usable)
    dropped += duplicates + silent
    if not kept:
        _write_dropped(out, dropped)
        counts = ", ".join(f"{name} {count}" for name, count in categories(dropped).items())
        raise ValueError(f"No recording can be used ({counts}); see {out / 'dropped.jsonl'}.")
    split_by, kept = split_utterances(kept, config, earlier or {})
    if split_by == "speaker":
        kept, shared = drop_shared_sentences(kept)
        dropped += shared
    kept = unique_ids(kept)
    named = {"blank_transcripts": blank, **named_by_warning(usable)}
    summary = summarize(usable, kept, dropped, split_by, named, unused, config)
    _write(out, kept, dropped, summary)
    return summary


def _without_blank_texts(recordings: Iterable[Recording]) -> tuple[list[Recording], list[str]]:
    """The recordings, those with a blank transcript unlabeled, and the ids of the latter."""
    records, blank = list(recordings), []
    for i, record in enumerate(records):
        if record.text is not None and is_blank(record.text):
            records[i] = replace(record, text=None)
            blank.append(record.id)
    return records, blank


def _write(out: Path, kept: list[Kept], dropped: list[Dropped], summary: PrepareSummary) -> None:
    _write_dropped(out, dropped)
    for split in SPLITS:
        path = out / f"{split}.jsonl"
        utterances = [item.utterance for item in kept if item.split == split]
        if utterances:
            write_manifest(path, utterances)
        else:
            path.unlink(missing_ok=True)  # of an earlier run with other settings
    with writing(out / "summary.json") as file:
        file.write(json.dumps(asdict(summary), ensure_ascii=False, indent=2) + "\n")


def _write_dropped(out: Path, dropped: list[Dropped]) -> None:
    root = os.path.abspath(out)
    with writing(out / "dropped.jsonl") as file:
        for item in dropped:
            audio = relative_path(item.audio, root)
            row = {"audio": audio, "reason": item.reason, "id": item.id}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
