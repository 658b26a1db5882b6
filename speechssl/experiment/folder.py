"""The data of an experiment on a person's own recordings."""

import sys
from collections.abc import Sequence
from pathlib import Path

from speechssl.data.layouts import Recording, Split, join_folder, read_table
from speechssl.data.manifest import Utterance
from speechssl.data.prepare import SPLITS, PrepareConfig, prepare
from speechssl.experiment.plan import Budget, check_plan
from speechssl.experiment.splits import Splits, read_splits, say, transcribed, write_splits


def join_transcripts(folder: Path, transcripts: Path) -> list[Recording]:
    """Every recording of the folder, with what the table says of it; ValueError where the table
    has no transcripts, or names files that are not in the folder, or one of them twice."""
    rows = read_table(transcripts, audio_folder=folder, needs_text=True)
    joined, elsewhere = join_folder(folder, rows)
    if elsewhere:
        raise ValueError(
            f"{transcripts} names {len(elsewhere)} recordings that are not in {folder}, the first "
            f"is {elsewhere[0].audio}."
        )
    return joined


def prepare_splits(
    recordings: Sequence[Recording],
    transcripts: Path,
    data: Path,
    before: Splits,
    size: str,
    budget: Budget,
) -> dict[Split, list[Utterance]]:
    """The manifests of the recordings, written to the folder `data`, as far as they can be split as
    `before`; ValueError, with those of `before` in place, where too few are transcribed or the runs
    could not be done with them."""
    summary = prepare(
        recordings, data, PrepareConfig(), earlier=before, progress=sys.stderr.isatty()
    )
    say(summary.describe())
    splits = read_splits(data)
    labeled, valid, test = (transcribed(splits[name]) for name in SPLITS)
    try:
        if not labeled or not valid:
            raise ValueError(
                f"{transcripts} leaves {len(labeled)} transcribed recordings to train on and "
                f"{len(valid)} to validate on; transcribe at least twenty, spread over the "
                "recordings."
            )
        check_plan(size, budget, splits["train"], labeled)
    except ValueError:
        write_splits(data, before)
        raise
    num_labeled = len(labeled) + len(valid) + len(test)
    if any(before.values()) and len(test) < PrepareConfig.test_share * num_labeled / 2:
        say(
            f"Tested on are the {len(test)} of {num_labeled} transcribed recordings that were held "
            "out before, so that scores can be compared; another --out holds out its own."
        )
    return splits
