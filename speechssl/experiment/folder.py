"""The data of an experiment on a person's own recordings."""

import sys
from pathlib import Path

from speechssl.data.layouts import Source, Split
from speechssl.data.manifest import Utterance
from speechssl.data.prepare import SPLITS, PrepareConfig, prepare
from speechssl.experiment.more_labels import keep_held_out
from speechssl.experiment.plan import Budget, check_plan
from speechssl.experiment.splits import Splits, read_splits, say, transcribed, write_splits


def prepare_splits(
    source: Source,
    transcripts: Path,
    data: Path,
    before: Splits,
    size: str,
    budget: Budget,
    *,
    keep: bool = False,
) -> dict[Split, list[Utterance]]:
    """The manifests of a source, written to the folder `data`, as far as they can be split as
    `before`; with `keep` nothing new is held out, and what was stays as it was
    (:func:`keep_held_out`).

    Raises ValueError, with the manifests of `before` in place, where too few are transcribed or the
    runs could not be done with them.
    """
    summary = prepare(
        source.recordings,
        data,
        PrepareConfig(dev_share=0.0, test_share=0.0) if keep else PrepareConfig(),
        earlier=before,
        unused=source.unused,
        progress=sys.stderr.isatty(),
    )
    say(summary.describe())
    splits = read_splits(data)
    if keep:
        keep_held_out(data, before, splits)
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
    if not keep and any(before.values()) and len(test) < PrepareConfig.test_share * num_labeled / 2:
        say(
            f"Tested on are the {len(test)} of {num_labeled} transcribed recordings that were held "
            "out before, so that scores can be compared; another --out holds out its own."
        )
    return splits
