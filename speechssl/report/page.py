"""Run folders made into one static HTML page: no network, light and dark, readable on a phone."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from speechssl.report.charts import Line, interval_bar, line_chart
from speechssl.runlog import read_metrics

_STYLE = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #fff; --ink: #1c2024; --soft: #6b7280;
  --rule: #e4e4e1; --c0: #2563a8; --c1: #c2571a; --c2: #2e7d4f; --c3: #8a4fa8; --c4: #b0303c; --c5: #667; }
@media (prefers-color-scheme: dark) { :root { --bg: #15181b; --card: #1d2125; --ink: #e8eaec;
  --soft: #9aa3ad; --rule: #31373d; --c0: #6aa9ee; --c1: #f0985c; --c2: #6cc494; --c3: #c395e0;
  --c4: #ec7f89; --c5: #aab; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 1000px; background: var(--bg);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; }
h3 { font-size: .9rem; font-weight: 600; margin: 0 0 .4rem; }
p, .soft { color: var(--soft); margin: .2rem 0; }
.grid-of { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .45rem .8rem .45rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: middle; } th { color: var(--soft); font-weight: 500; font-size: .85rem; }
svg { width: 100%; height: auto; display: block; } svg.bar { width: 200px; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .grid { stroke: var(--rule); }
.tick { fill: var(--soft); font: 11px system-ui, sans-serif; } .whisker { stroke: var(--ink); stroke-width: 1.4; }
.fill { opacity: .55; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 3px; margin-right: .35em; }
.legend span { margin-right: 1.2em; white-space: nowrap; }
ins { color: var(--c4); text-decoration: none; border-bottom: 2px solid; }
del { color: var(--soft); }
.sample { margin: 0 0 .9rem; } .sample div { display: flex; gap: .8rem; } .sample b { min-width: 7.5rem;
  font-weight: 500; color: var(--soft); }
"""
_COLOURS = "".join(
    f".line.c{i} {{ stroke: var(--c{i}); }} .dot.c{i}, .fill.c{i} {{ fill: var(--c{i}); }} "
    f".key.c{i} {{ background: var(--c{i}); }} "
    for i in range(6)
)

_CHARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Character error rate", ("valid/cer",)),
    ("Word error rate", ("valid/wer",)),
    ("Blank rate", ("valid/blank_rate",)),
    ("CTC loss", ("loss/ctc",)),
    ("Contrastive loss", ("loss/contrastive",)),
    ("Contrastive accuracy", ("contrastive/accuracy",)),
    ("Reconstruction, masked frames", ("loss/reconstruction_logmel_masked",)),
    ("Reconstruction, heard frames", ("loss/reconstruction_logmel_unmasked",)),
    ("Validation loss", ("valid/loss",)),
    ("Code perplexity", ("quantizer/perplexity",)),
    ("Effective rank of the context", ("valid/health/rank",)),
    ("Gradient norm", ("grad_norm",)),
    ("Learning rate", ("lr",)),
    ("Audio seconds per second", ("speed/audio_s_per_s",)),
)


@dataclass(frozen=True)
class Score:
    """One model's rates with 95 % intervals, as fractions."""

    name: str
    cer: tuple[float, float, float]
    """Value, low, high."""
    wer: tuple[float, float, float]


@dataclass(frozen=True)
class Sample:
    """What was said in an utterance, and what each model wrote."""

    reference: str
    hypotheses: tuple[tuple[str, str], ...]
    """``(model, text)``."""


@dataclass(frozen=True)
class _Run:
    name: str
    folder: Path
    metrics: list[dict[str, Any]]
    config: dict[str, Any]
    meta: dict[str, Any]


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str = "speechssl report",
    scores: Sequence[Score] = (),
    samples: Sequence[Sample] = (),
) -> Path:
    """Write the page to `out` and return it.

    Raises ValueError for a folder that is no run.
    """
    read = [_read_run(run) for run in runs]
    sections = [
        _scores(scores),
        _samples(samples),
        _curves(read),
        _facts(read),
        _differences(read),
    ]
    body = "\n".join(section for section in sections if section)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{_COLOURS}</style></head>"
        f"<body><h1>{escape(title)}</h1>{_legend(read)}{body}</body></html>\n"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return out


def _read_run(folder: Path) -> _Run:
    if not (folder / "metrics.jsonl").exists():
        raise ValueError(f"{folder} is not a run folder: it has no metrics.jsonl.")
    meta: dict[str, Any] = {}
    for place in ("best", "model"):
        if not meta:
            meta = _read_json(folder / place / "meta.json")
    name = folder.resolve().name
    return _Run(name, folder, read_metrics(folder), _read_json(folder / "config.json"), meta)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return data if isinstance(data, dict) else {}


def _legend(runs: Sequence[_Run]) -> str:
    keys = [
        f'<span><i class="key c{i % 6}"></i>{escape(run.name)}</span>' for i, run in enumerate(runs)
    ]
    return f'<p class="legend">{"".join(keys)}</p>'


def _scores(scores: Sequence[Score]) -> str:
    """The table of results, with interval bars."""
    if not scores:
        return ""
    rows = []
    for number, score in enumerate(scores):
        cells = [f"<td>{escape(score.name)}</td>"]
        for kind in ("cer", "wer"):
            value, low, high = getattr(score, kind)
            most = max(getattr(s, kind)[2] for s in scores)
            cells.append(
                f"<td>{100 * value:.1f} % <span class='soft'>[{100 * low:.1f}, {100 * high:.1f}]</span></td>"
                f"<td>{interval_bar(value, low, high, most, number)}</td>"
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "<tr><th>model</th><th colspan=2>CER, 95 % interval</th><th colspan=2>WER, 95 % interval</th></tr>"
    return f'<h2>Results</h2><div class="card scroll"><table>{head}{"".join(rows)}</table></div>'


def _samples(samples: Sequence[Sample]) -> str:
    """Transcripts, with what differs from what was said marked."""
    if not samples:
        return ""
    blocks = []
    for sample in samples:
        lines = [f"<div><b>said</b><span>{escape(sample.reference)}</span></div>"]
        for name, text in sample.hypotheses:
            marked = mark_differences(sample.reference, text)
            lines.append(f"<div><b>{escape(name)}</b><span>{marked}</span></div>")
        blocks.append(f'<div class="sample">{"".join(lines)}</div>')
    return f'<h2>Transcripts of the test set</h2><div class="card">{"".join(blocks)}</div>'


def mark_differences(reference: str, hypothesis: str) -> str:
    """The hypothesis as HTML: wrong letters in <ins>, missing ones in <del>."""
    parts = []
    matcher = difflib.SequenceMatcher(None, reference, hypothesis, autojunk=False)
    for kind, r0, r1, h0, h1 in matcher.get_opcodes():
        if kind == "equal":
            parts.append(escape(hypothesis[h0:h1]))
            continue
        if r1 > r0:
            parts.append(f"<del>{escape(reference[r0:r1])}</del>")
        if h1 > h0:
            parts.append(f"<ins>{escape(hypothesis[h0:h1])}</ins>")
    return "".join(parts)


def _curves(runs: Sequence[_Run]) -> str:
    """One chart per metric that any run has, runs overlaid."""
    cards = []
    for title, names in _CHARTS:
        lines = [
            Line(run.name, [(m["step"], m[name]) for m in run.metrics if name in m], number)
            for number, run in enumerate(runs)
            for name in names
        ]
        if chart := line_chart(lines, "update"):
            cards.append(f'<div class="card"><h3>{escape(title)}</h3>{chart}</div>')
    if not cards:
        return "<h2>Curves</h2><p>Nothing has been logged yet.</p>"
    return f'<h2>Curves</h2><div class="grid-of">{"".join(cards)}</div>'


def _facts(runs: Sequence[_Run]) -> str:
    """What each run was."""
    rows = []
    for run in runs:
        last = run.metrics[-1] if run.metrics else {}
        known = {
            "task": run.meta.get("task", ""),
            "updates": last.get("step", 0),
            "minutes": f"{last.get('time_s', 0) / 60:.1f}",
            "labelled minutes": run.meta.get("train_minutes", ""),
            "seed": run.meta.get("seed", ""),
        }
        cells = "".join(f"<td>{escape(str(value))}</td>" for value in known.values())
        rows.append(f"<tr><td>{escape(run.name)}</td>{cells}</tr>")
    heads = "".join(f"<th>{name}</th>" for name in ("run", *known))
    return f'<h2>Runs</h2><div class="card scroll"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'


def _differences(runs: Sequence[_Run]) -> str:
    """Settings in which runs of the same kind differ."""
    flat = [_flatten(run.config) for run in runs]
    shared = set.intersection(*(set(f) for f in flat)) if flat else set()
    differing = sorted(name for name in shared if len({str(f[name]) for f in flat}) > 1)
    if len(runs) < 2 or not differing:
        return ""
    heads = "".join(f"<th>{escape(run.name)}</th>" for run in runs)
    rows = [
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(str(f[name]))}</td>' for f in flat)}</tr>"
        for name in differing
    ]
    return (
        "<h2>Settings that differ</h2>"
        f'<div class="card scroll"><table><tr><th>setting</th>{heads}</tr>{"".join(rows)}</table></div>'
    )


def _flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
