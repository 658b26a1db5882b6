"""What was logged, as charts: one a metric, with all runs in it.

A metric is one thing however it was measured: ``loss/contrastive`` in training and
``valid/contrastive`` are drawn in the same chart. What has no entry in the catalogue gets a chart
too, under its own name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

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
    "contrastive": Metric(
        "Contrastive loss",
        "Pretext tasks",
        "Nats per masked frame. Dotted: that of whoever cannot tell the true code.",
        _LOSS,
        True,
    ),
    "contrastive/accuracy": Metric(
        "Contrastive accuracy",
        "Pretext tasks",
        "Masked frames whose true code scored highest.",
        _RATE,
    ),
    "quantizer/perplexity": Metric(
        "Code perplexity",
        "Codes",
        "How many codes are in use, evenly counted. A fall towards 1 is collapse.",
    ),
    "quantizer/predicted_perplexity": Metric(
        "Codes guessed",
        "Codes",
        "How many codes the guesses are spread over. Near 1 it always guesses the same.",
    ),
    "quantizer/codes_used": Metric("Codes used", "Codes", "Different codes within a batch."),
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
    "mask/share": Metric("Hidden frames", "Optimisation", "Share of all frames.", _RATE),
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


_DISTANCES = {
    "masked": "Rebuilt to clean where it was hidden",
    "unmasked": "Rebuilt to clean where it was heard",
    "masked_mean": "For comparison: each bin's mean to clean where it was hidden",
    "unmasked_mean": "For comparison: each bin's mean to clean where it was heard",
    "copy": "For comparison: what was heard to clean",
    "to_heard": "Rebuilt to what was heard: small where the model only copies",
}


def curves_section(runs: Sequence[Run]) -> str:
    """The charts of all runs, in groups; a sentence where nothing has been logged."""
    if not runs:
        return ""
    head = '<section id="curves"><h2>Curves</h2>'
    by_group: dict[str, list[str]] = {}
    for key in _keys(runs):
        metric = metric_of(key)
        by_group.setdefault(metric.group, []).append(_card(key, metric, runs))
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


_LEVELS = {"contrastive": "contrastive/chance", "ctc": "ctc/chance"}
"""What is drawn in another metric's chart, for comparison."""


def key_of(name: str, run: Run) -> tuple[str, bool]:
    """The metric of a logged name, and whether it is validation's measure of it."""
    measured = name.startswith("valid/")
    key = name.removeprefix("valid/").removeprefix("loss/")
    if measured and key == "loss":
        key = "ctc" if run.task == "finetune" else "total"
    return key, measured


def metric_of(key: str) -> Metric:
    """From the catalogue, else made from the name."""
    if key in _CATALOGUE:
        return _CATALOGUE[key]
    words = key.replace("/", " ").replace("_", " ").strip()
    title = words[:1].upper() + words[1:]
    if key.startswith("reconstruction_"):
        feature, _, frames = key.removeprefix("reconstruction_").rpartition("_")
        told = {"masked": "of frames that were hidden", "unmasked": "of frames that were heard"}
        if frames in told:
            title = f"Reconstruction of {feature.replace('_', ' ')}, {frames}"
            hint = f"Clean features {told[frames]}, distance."
            return Metric(title, "Pretext tasks", hint, _LOSS, True)
    if key.startswith("reconstruction/"):
        feature, _, what = key.removeprefix("reconstruction/").partition("_")
        if what in _DISTANCES:
            hint = f"{_DISTANCES[what]}, mean absolute distance in distorted validation."
            return Metric(f"Rebuilt {feature}: {what.replace('_', ' ')}", _OTHER, hint)
    if key.startswith("grad_norm/"):
        return Metric(f"Gradient norm of {words.removeprefix('grad norm ')}", _OTHER)
    groups = {"quantizer": "Codes", "health": "Representation", "speed": "Speed"}
    groups |= {"contrastive": "Pretext tasks"}
    return Metric(title, groups.get(key.split("/")[0], _OTHER))


def _keys(runs: Sequence[Run]) -> list[str]:
    """All metrics, those of the catalogue first and in its order."""
    found = dict.fromkeys(key_of(name, run)[0] for run in runs for name in run.series)
    for metric, level in _LEVELS.items():
        if metric in found:
            found.pop(level, None)
    known = [key for key in _CATALOGUE if key in found]
    return known + [key for key in found if key not in _CATALOGUE]


def _card(key: str, metric: Metric, runs: Sequence[Run]) -> str:
    lines = [line for number, run in enumerate(runs) for line in _lines(key, metric, run, number)]
    chart = line_chart(lines, metric.axis, x_label="updates", title=metric.title)
    return (
        f'<figure class="card"><figcaption><h4>{escape(metric.title)}</h4>'
        f"<p>{escape(metric.hint)}</p></figcaption>{chart}{_legend(lines, metric)}</figure>"
    )


def _lines(key: str, metric: Metric, run: Run, number: int) -> list[Line]:
    """Training's and validation's line of a run, those that exist."""
    lines = []
    for name, points in run.series.items():
        found, measured = key_of(name, run)
        if found == key:
            is_marked = measured and metric.lower_is_better and len(points) > 1
            best = min(points, key=lambda point: point[1]) if is_marked else None
            lines.append(Line(run.name, points, number, measured, best))
        elif measured and found == _LEVELS.get(key):
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
