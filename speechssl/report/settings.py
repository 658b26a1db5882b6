"""What each run is, and in which settings runs differ."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from speechssl.report.charts import colour_class, number_text
from speechssl.report.runs import Run

_TASKS = {"pretrain": "pretraining", "finetune": "fine-tuning"}


def runs_section(runs: Sequence[Run]) -> str:
    """A card a run: task, model, data, length, scores."""
    if not runs:
        return ""
    cards = "".join(_card(run, number) for number, run in enumerate(runs))
    return f'<section id="runs"><h2>Runs</h2><div class="runs">{cards}</div></section>'


def _card(run: Run, number: int) -> str:
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in facts(run).items()
        if value
    )
    key = f'<i class="key {colour_class(number)}"></i>'
    task = _TASKS.get(run.task, run.task)
    tag = f'<span class="tag">{escape(task)}</span>' if task else ""
    head = f"<h3>{key}<span>{escape(run.name)}</span>{tag}</h3>"
    return f'<div class="card run">{head}<dl>{rows}</dl></div>'


def facts(run: Run) -> dict[str, str]:
    """What is known about a run, by name; '' for what is not."""
    meta, loop = run.meta, _part(run.config, "loop")
    progress = "nothing logged yet"
    if run.steps:
        progress = f"{run.steps:,} in {_duration(run.elapsed_s)}"
    start = ""
    if "pretrained" in meta:
        start = "from a pretrained model" if meta["pretrained"] else "from scratch"
    budget = loop.get("budget_minutes")
    return {
        "start": start,
        "model": _model(run),
        "encoder": _encoder(_part(run.model, "encoder")),
        "context": _context(_part(run.model, "context")),
        "training data": _training_data(meta),
        "left out": _left_out(meta),
        "batch": _seconds(run.config.get("batch_s")),
        "peak learning rate": _number(_part(run.config, "optim").get("lr")),
        "budget": f"{budget:g} min" if isinstance(budget, (int, float)) else "",
        "updates": progress,
        "best model": _best(meta),
        "log": f"damaged from line {run.damaged_from} on" if run.damaged_from else "",
        "seed": str(loop.get("seed", meta.get("seed", ""))),
        "speechssl": str(meta.get("speechssl", "")),
    }


def differences_section(runs: Sequence[Run]) -> str:
    """Settings in which runs of one task differ, and all settings folded away."""
    if not any(run.config for run in runs):
        return ""
    blocks = []
    for task in dict.fromkeys(run.task for run in runs):
        numbers = [i for i, run in enumerate(runs) if run.task == task and run.config]
        if len(numbers) > 1:
            blocks.append(_difference_table(runs, numbers, _TASKS.get(task, task)))
    blocks += [_all_settings(run) for run in runs if run.config]
    return f'<section id="settings"><h2>Settings</h2>{"".join(blocks)}</section>'


def differing(configs: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """``(dotted name, value in each config)`` of the settings that are not the same in all."""
    flat = [flatten(config) for config in configs]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [(name, [one.get(name, "–") for one in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings by dotted name, values as JSON writes them."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            flat[prefix + key] = text
    return flat


def _difference_table(runs: Sequence[Run], numbers: Sequence[int], task: str) -> str:
    rows = differing([runs[i].config for i in numbers])
    if not rows:
        return f'<p class="note">The {task} runs have the same settings.</p>'
    heads = "".join(
        f'<th><i class="key {colour_class(i)}"></i>{escape(runs[i].name)}</th>' for i in numbers
    )
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f"{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, values in rows
    )
    return (
        f'<p class="note">In which the {escape(task)} runs differ:</p>'
        '<div class="card scroll" tabindex="0">'
        f'<table class="settings"><thead><tr><th>setting</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _all_settings(run: Run) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in flatten(run.config).items()
    )
    return (
        f"<details><summary>All settings of {escape(run.name)}</summary>"
        '<div class="card scroll" tabindex="0"><table class="settings">'
        f"<tbody>{rows}</tbody></table></div>"
        "</details>"
    )


def _model(run: Run) -> str:
    parts = [run.size]
    if run.num_parameters is not None:
        parts.append(f"{run.num_parameters / 1e6:.3g} M parameters")
    return ", ".join(part for part in parts if part)


def _encoder(encoder: dict[str, Any]) -> str:
    if encoder.get("kind") == "filterbank":
        return f"learnable filterbank, {encoder.get('num_filters')} filters"
    dims = encoder.get("dims")
    return f"{len(dims)} convolutions" if isinstance(dims, list) else ""


def _context(context: dict[str, Any]) -> str:
    if "num_layers" not in context:
        return ""
    local = context.get("local_layers") or 0
    lowest = f", {local} of them convolutions" if local else ""
    return f"{context['num_layers']} layers{lowest}, width {context.get('dim')}"


def _training_data(meta: dict[str, Any]) -> str:
    parts = []
    if "train_minutes" in meta:
        parts.append(_duration(60 * float(meta["train_minutes"])))
    if "train_utterances" in meta:
        parts.append(f"{meta['train_utterances']:,} utterances")
    if "valid_utterances" in meta:
        parts.append(f"{meta['valid_utterances']:,} for validation")
    return ", ".join(parts)


def _left_out(meta: dict[str, Any]) -> str:
    num = len(meta.get("dropped_too_many_symbols") or ())
    noun = "utterance" if num == 1 else "utterances"
    return f"{num:,} {noun} with more symbols than frames" if num else ""


def _best(meta: dict[str, Any]) -> str:
    """Where the model is from, and how it scored there."""
    if "steps" not in meta:
        return ""
    valid = _part(meta, "valid")
    if "cer" in valid:
        scores = f"CER {100 * valid['cer']:.1f} %, WER {100 * valid.get('wer', 0):.1f} %"
    else:
        scores = f"loss {valid['loss']:.4g}" if "loss" in valid else ""
    return f"update {meta['steps']:,}" + (f": {scores}" if scores else "")


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    part = data.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: Any) -> str:
    return number_text(value) if isinstance(value, (int, float)) else ""


def _seconds(value: Any) -> str:
    return f"{value:g} s of audio" if isinstance(value, (int, float)) else ""


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
