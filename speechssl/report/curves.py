"""What was logged, as charts: one a metric, with all runs in it.

A metric is one thing however it was measured: ``loss/contrastive`` in training and
``valid/contrastive`` are drawn in the same chart. The charts of pretext tasks come from the tasks'
signals. What has no entry in the catalogue gets a chart too, under its own name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from speechssl.pretext.signal import Signal
from speechssl.report.charts import Axis, Line, colour_class, line_chart, number_text
from speechssl.report.runs import Run

GROUPS = ("Recognition", "Pretext tasks", "Codes", "Representation", "Optimisation", "Speed")
_OTHER = "Other"


@dataclass(frozen=True)
class Metric:
    """How a metric is shown."""

    title: str
    group: str
    hint: str = ""
    """A sentence for those who see it for the first time."""
    axis: Axis = Axis()
    lower_is_better: bool = False
    """The best validation is marked."""


_RATE = Axis(percent=True, from_zero=True)
_LOSS = Axis(may_be_log=True)
_CATALOGUE = {
    "cer": Metric(
        "Character error rate",
        "Recognition",
        "Wrong letters per letter said, in validation.",
        _RATE,
        True,
    ),
    "wer": Metric(
        "Word error rate", "Recognition", "Wrong words per word said, in validation.", _RATE, True
    ),
    "ctc": Metric(
        "CTC loss",
        "Recognition",
        "Nats per symbol. Validation rising while training falls is overfitting.",
        _LOSS,
        True,
    ),
    "blank_rate": Metric(
        "Blank rate",
        "Recognition",
        "Frames on which nothing is written. At 100 % the model has not begun to write.",
        _RATE,
    ),
    "total": Metric("Total loss", "Pretext tasks", "Weighted sum of the tasks.", _LOSS, True),
    "health/rank": Metric(
        "Effective rank",
        "Representation",
        "Directions that the context frames fill. A fall is collapse.",
    ),
    "health/rms_first": Metric(
        "Size before the first layer",
        "Representation",
        "Root mean square. Where it grows, the layers above add little.",
        _LOSS,
    ),
    "health/rms_last": Metric(
        "Size after the last layer", "Representation", "Root mean square of the context.", _LOSS
    ),
    "health/similarity": Metric(
        "Likeness of neighbours",
        "Representation",
        "Cosine of frames that follow each other. At 1 they are all the same.",
    ),
    "health/spread": Metric(
        "Share that varies",
        "Representation",
        "Of the context frames' mean square, from frame to frame. At 0 all frames are the same.",
        Axis(percent=True),
    ),
    "health/latent_rank": Metric(
        "Effective rank of the latents", "Representation", "Directions that the encoder fills."
    ),
    "health/latent_spread": Metric(
        "Share of the latents that varies",
        "Representation",
        "Of the encoder frames' mean square, from frame to frame.",
        Axis(percent=True),
    ),
    "mask/share": Metric("Masked frames", "Optimisation", "Share of all frames.", _RATE),
    "lr": Metric("Learning rate", "Optimisation", "Of the schedule.", Axis(from_zero=True)),
    "grad_norm": Metric("Gradient norm", "Optimisation", "Before clipping.", Axis(may_be_log=True)),
    "speed/audio_s_per_s": Metric(
        "Throughput",
        "Speed",
        "Seconds of audio per second of the clock.",
        Axis(from_zero=True),
    ),
    "speed/wait_share": Metric(
        "Waiting for data", "Speed", "Share of the time; high means too few loader workers.", _RATE
    ),
    "speed/padding_share": Metric("Padding", "Speed", "Share of the samples in a batch.", _RATE),
}


def curves_section(runs: Sequence[Run]) -> str:
    """The charts of all runs, in groups; a sentence where nothing has been logged."""
    if not runs:
        return ""
    head = '<section id="curves"><h2>Curves</h2>'
    by_group: dict[str, list[str]] = {}
    signals = {signal.metric: signal for run in runs for signal in run.signals}
    levels = {signal.metric: signal.chance for signal in signals.values() if signal.chance}
    levels["ctc"] = "ctc/chance"
    for key in _keys(runs, signals, levels):
        metric = metric_of(key, signals)
        card = _card(key, metric, runs, levels.get(key, ""))
        by_group.setdefault(metric.group, []).append(card)
    if not by_group:
        return f'{head}<p class="note">Nothing has been logged yet.</p></section>'
    blocks = [
        f'<h3>{group}</h3><div class="charts">{"".join(by_group[group])}</div>'
        for group in GROUPS
        if group in by_group
    ]
    if _OTHER in by_group:
        inner = f'<div class="charts">{"".join(by_group[_OTHER])}</div>'
        num = len(by_group[_OTHER])
        blocks.append(f"<details><summary>{num} more curves</summary>{inner}</details>")
    note = (
        "Over updates. With dots: validation, a ring around the best; without: means of training."
    )
    return f'{head}<p class="note">{note}</p>{"".join(blocks)}</section>'


def key_of(name: str, run: Run) -> tuple[str, bool]:
    """The metric of a logged name, and whether it is validation's measure of it."""
    measured = name.startswith("valid/")
    key = name.removeprefix("valid/").removeprefix("loss/")
    if measured and key == "loss":
        key = "ctc" if run.task == "finetune" else "total"
    return key, measured


def metric_of(key: str, signals: Mapping[str, Signal] = MappingProxyType({})) -> Metric:
    """From the catalogue or a task's signal, else made from the name."""
    if key in _CATALOGUE:
        return _CATALOGUE[key]
    if key in signals:
        return _of_signal(signals[key])
    words = key.replace("/", " ").replace("_", " ").strip()
    if key.startswith("grad_norm/"):
        return Metric(f"Gradient norm of {words.removeprefix('grad norm ')}", _OTHER)
    groups = {"health": "Representation", "speed": "Speed"}
    return Metric(words[:1].upper() + words[1:], groups.get(key.split("/")[0], _OTHER))


def _of_signal(signal: Signal) -> Metric:
    title = signal.title[:1].upper() + signal.title[1:]
    group = "Codes" if signal.unit == "count" else "Pretext tasks"
    axis = {"share": _RATE, "count": Axis()}.get(signal.unit, _LOSS)
    return Metric(title, group, signal.hint, axis, signal.better == "lower")


def _keys(
    runs: Sequence[Run], signals: Mapping[str, Signal], levels: Mapping[str, str]
) -> list[str]:
    """All metrics: those of the catalogue first and in its order, then those of signals."""
    found = dict.fromkeys(key_of(name, run)[0] for run in runs for name in run.series)
    for metric, level in levels.items():
        if metric in found:
            found.pop(level, None)
    ordered = [key for key in dict.fromkeys((*_CATALOGUE, *signals)) if key in found]
    return ordered + [key for key in found if key not in ordered]


def _card(key: str, metric: Metric, runs: Sequence[Run], level: str) -> str:
    lines = [
        line for number, run in enumerate(runs) for line in _lines(key, metric, run, number, level)
    ]
    chart = line_chart(lines, metric.axis, x_label="updates", title=metric.title)
    return (
        f'<figure class="card"><figcaption><h4>{escape(metric.title)}</h4>'
        f"<p>{escape(metric.hint)}</p></figcaption>{chart}{_legend(lines, metric)}</figure>"
    )


def _lines(key: str, metric: Metric, run: Run, number: int, level: str) -> list[Line]:
    """Training's and validation's line of a run, and the chance line `level`; those that exist."""
    lines = []
    for name, points in run.series.items():
        found, measured = key_of(name, run)
        if found == key:
            is_marked = measured and metric.lower_is_better and len(points) > 1
            best = min(points, key=lambda point: point[1]) if is_marked else None
            lines.append(Line(run.name, points, number, measured, best))
        elif measured and found == level:
            lines.append(Line(run.name, points, number, level=True))
    return sorted(lines, key=lambda line: line.measured)


def _legend(lines: Sequence[Line], metric: Metric) -> str:
    """A row a run: its last values, and its best validation."""
    lines = [line for line in lines if not line.level]
    trained = {line.number: line for line in lines if not line.measured}
    measured = {line.number: line for line in lines if line.measured}
    columns = [("training", trained), ("validation", measured)]
    shown = [(head, column) for head, column in columns if column]
    has_best = any(line.best for line in lines)
    heads = [head for head, _ in shown] + (["best"] if has_best else [])

    def text(value: float) -> str:
        return escape(number_text(value, percent=metric.axis.percent, padded=True))

    rows = []
    for number in sorted({line.number for line in lines}):
        name = next(line.name for line in lines if line.number == number)
        cells = [text(col[number].points[-1][1]) if number in col else "" for _, col in shown]
        if has_best:
            best = measured[number].best if number in measured else None
            cells.append(text(best[1]) if best else "")
        numbers = "".join(f"<td>{cell}</td>" for cell in cells)
        key = f'<i class="key {colour_class(number)}"></i>'
        rows.append(
            f'<tr><th scope="row" title="{escape(name)}">{key}{escape(name)}</th>{numbers}</tr>'
        )
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return f'<table class="legend"><tr><td></td>{top}</tr>{"".join(rows)}</table>'
