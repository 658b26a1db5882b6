"""The four pictures: error rate against label minutes, against compute, under distortions, and what
the layers tell."""

import math
from collections.abc import Sequence
from html import escape

from speechssl.compare.config import ALL
from speechssl.compare.drawing import Series, draw, legend
from speechssl.compare.plan import LOG_MEL, UNTRAINED, title
from speechssl.compare.robustness import TITLES
from speechssl.compare.summary import Row, Summary
from speechssl.report.charts import colour_class, number_text, tick_text, ticks

_SHORT = {
    "clean": "clean",
    "snr-20": "20 dB",
    "snr-10": "10 dB",
    "snr-5": "5 dB",
    "snr-0": "0 dB",
    "reverb": "room",
    "8khz": "8 kHz",
    "clipping": "clipped",
}
_EDGE = 0.06
"""Room beside the outer points, as a share of the width."""


def colours(summary: Summary) -> dict[str, str]:
    """The class of each entry; those from scratch are grey."""
    found: dict[str, str] = {LOG_MEL: "plain", UNTRAINED: "plain other"}
    number = 0
    for entry in summary.plan.entries:
        if entry.baseline:
            found[entry.name] = colour_class(number)
            number += 1
    scratch = [entry.name for entry in summary.plan.entries if not entry.baseline]
    return found | {name: "plain" + " other" * (i > 0) for i, name in enumerate(scratch)}


def figure(heading: str, note: str, drawing: str, key: str) -> str:
    return (
        f'<figure class="card"><figcaption><h4>{escape(heading)}</h4><p>{escape(note)}</p>'
        f"</figcaption>{drawing}{key}</figure>"
    )


def _percent(value: float) -> str:
    return number_text(value, percent=True)


def labels_figure(summary: Summary) -> str:
    """CER against label minutes."""
    css = colours(summary)
    minutes = sorted({row.minutes for row in summary.rows})
    low, high = math.log(minutes[0]), math.log(minutes[-1])

    def at(value: float) -> float:
        if high == low:
            return 0.5
        return _EDGE + (1 - 2 * _EDGE) * (math.log(value) - low) / (high - low)

    series = []
    for name, rows in _by_entry(summary):
        rows = sorted(rows, key=lambda row: row.minutes)
        series.append(
            Series(
                name,
                css[name],
                tuple((at(r.minutes), r.cer.value) for r in rows),
                tuple((r.cer.low, r.cer.high) for r in rows),
                tuple(f"{title(r.labels)} of labels" for r in rows),
                tuple((at(r.minutes), c) for r in rows if len(r.seeds) > 1 for c in r.cer_of_seeds),
            )
        )
    every = {row.minutes for row in summary.rows if row.labels == ALL}
    x_ticks = [(at(m), f"{m:.3g}" + " (all)" * (m in every)) for m in minutes]
    drawing = draw(
        series,
        x_ticks,
        x_label="minutes of labels, logarithmic scale",
        title="Character error rate by label minutes",
    )
    budgets = [row.labels for row in sorted(summary.rows, key=lambda row: row.minutes)]
    budgets = list(dict.fromkeys(budgets))
    cells = {
        name: [_percent(r.cer.value) if (r := summary.row(name, b)) else "" for b in budgets]
        for name, _ in _by_entry(summary)
    }
    seeds = len(summary.plan.config.seeds)
    dots = " Small dots: single seeds." if seeds > 1 else ""
    note = (
        "How many characters are wrong on the test set after fine-tuning on so many minutes of "
        f"transcribed speech. Lower is better; bands are 95 % intervals.{dots}"
    )
    ranked = sorted(cells, key=lambda n: (not cells[n][0], cells[n]))
    key = legend([title(b) for b in budgets], [(n, css[n], cells[n]) for n in ranked])
    return figure("1. Errors and labels", note, drawing, key)


def compute_figure(summary: Summary) -> str:
    """Validation CER against minutes of compute, pretraining included."""
    css, labels = colours(summary), summary.plan.config.labels[0]
    rows = [row for row in summary.rows if row.labels == labels and row.curve]
    if not rows:
        return ""
    marks = ticks(0.0, max(row.curve[-1][0] for row in rows))
    end = marks[-1]
    series = [
        Series(row.entry, css[row.entry], tuple((x / end, y) for x, y in row.curve), dotted=False)
        for row in rows
    ]
    x_ticks = list(zip([m / end for m in marks], tick_text(marks), strict=True))
    drawing = draw(
        series,
        x_ticks,
        x_label="minutes of one core",
        title="Validation character error rate by minutes of compute",
        most=1.0,
    )
    note = (
        f"The same on the validation set while fine-tuning on {title(labels)} of labels (first "
        "seed). A curve begins where its pretraining ends: is the time better spent on "
        "pretraining or on a longer training from scratch?"
    )
    key = legend(
        ["minutes", "test CER"],
        [
            (r.entry, css[r.entry], [f"{r.compute_minutes:.1f}", _percent(r.cer.value)])
            for r in rows
        ],
    )
    return figure("2. Errors and compute", note, drawing, key)


def robustness_figure(summary: Summary) -> str:
    """CER under each distortion, at the largest label budget that all have."""
    css, conditions = colours(summary), summary.plan.config.conditions
    labels = robustness_labels(summary)
    rows = [row for row in summary.rows if row.labels == labels]
    if len(conditions) < 2 or not rows:
        return ""
    step = (1 - 2 * _EDGE) / (len(conditions) - 1)
    places = {name: _EDGE + i * step for i, name in enumerate(conditions)}
    joined = [c for c in conditions if c == "clean" or c.startswith("snr-")]
    apart = [c for c in conditions if c not in joined]
    series = []
    for number, row in enumerate(rows):
        shift = 0.012 * (number - (len(rows) - 1) / 2)  # whiskers beside each other
        for chosen, together in ((joined, True), (apart, False)):
            there = [c for c in chosen if c in row.conditions]
            found = [row.conditions[c] for c in there]
            series.append(
                Series(
                    row.entry,
                    css[row.entry],
                    tuple(
                        (places[c] + (0 if together else shift), f.value)
                        for c, f in zip(there, found, strict=True)
                    ),
                    () if together else tuple((f.low, f.high) for f in found),
                    tuple(TITLES[c] for c in there),
                    joined=together,
                )
            )
    drawing = draw(
        series,
        [(places[c], _SHORT[c]) for c in conditions],
        x_label="what was done to the test set: noise by SNR, then other distortions",
        title="Character error rate under distortions",
    )
    note = (
        f"The models fine-tuned on {title(labels)} of labels, on the test set with noise, in a "
        "room, over a telephone, from an overdriven microphone. The recordings are the same for "
        "all."
    )
    shown = [c for c in ("clean", "snr-10", "snr-0") if c in conditions]
    key = legend(
        [_SHORT[c] for c in shown],
        [(r.entry, css[r.entry], [_percent(r.conditions[c].value) for c in shown]) for r in rows],
    )
    return figure("3. Errors under noise and other distortions", note, drawing, key)


def robustness_labels(summary: Summary) -> str:
    """The largest label budget of those that all entries have."""
    budgets = summary.plan.config.labels
    total = summary.plan.corpus.label_minutes
    return max(budgets, key=lambda b: total if b == ALL else float(b))


def probes_figure(summary: Summary) -> str:
    """What a linear probe gets out of each frozen layer."""
    found = summary.probes
    if found is None:
        return ""
    css = colours(summary)
    deepest = max(len(rates) for rates in found.layers.values()) - 1
    step = (1 - 2 * _EDGE) / max(deepest, 1)
    series, rows = [], []
    sign = -1 if found.higher_is_better else 1
    for name, rates in found.layers.items():
        places = [_EDGE + i * step for i in range(len(rates))]
        values = [rate.value for rate in rates]
        if len(values) == 1:  # log-mel has no layers
            places, values = [_EDGE, 1 - _EDGE], values * 2
        series.append(
            Series(
                name,
                css[name],
                tuple(zip(places, values, strict=True)),
                texts=tuple(f"layer {i}" for i in range(len(values))),
                level=len(rates) == 1,
                dotted=len(rates) > 1,
            )
        )
        best = min(range(len(rates)), key=lambda i: sign * rates[i].value)
        rows.append((name, css[name], [str(best) * (len(rates) > 1), _percent(rates[best].value)]))
    drawing = draw(
        series,
        [(_EDGE + i * step, str(i)) for i in range(deepest + 1)],
        x_label="layer (0: the input of the first)",
        title=f"{found.metric} of linear probes by layer",
    )
    better = "Higher" if found.higher_is_better else "Lower"
    note = (
        f"What pretraining alone has learned: a linear map on each frozen layer, {found.metric} on "
        f"the validation set. {better} is better. Beside it {LOG_MEL} energies, and a model with "
        f"fresh weights ({UNTRAINED}). {found.about}."
    )
    return figure(
        "4. What the layers tell", note, drawing, legend(["best layer", found.metric], rows)
    )


def _by_entry(summary: Summary) -> Sequence[tuple[str, list[Row]]]:
    """The rows of each entry, in the order of the entries."""
    grouped = [
        (entry.name, [row for row in summary.rows if row.entry == entry.name])
        for entry in summary.plan.entries
    ]
    return [(name, rows) for name, rows in grouped if rows]
