"""Runs of version 0.1: their settings, weights and metrics under the names of today.

There a run had two places for tasks, `contrastive` and `reconstruction`; a `contrastive` task with
fixed codes is masked_units now.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

_OF_UNITS = ("quantizer", "features", "weight", "target_dim", "temperature")
_OF_CODES = (
    "weight",
    "target_dim",
    "num_negatives",
    "temperature",
    "groups",
    "entries",
    "diversity_weight",
    "feature_penalty",
    "gumbel_start",
    "gumbel_end",
    "gumbel_decay",
)


def is_pretraining(config: Mapping[str, Any]) -> bool:
    """Whether this is a pretraining config of version 0.1."""
    return "tasks" not in config and ("contrastive" in config or "mask_share" in config)


def upgraded_config(config: Any) -> Any:
    """A run's config as JSON, with the names of today; any other as it is."""
    if not isinstance(config, dict) or "tokenizer" in config or not is_pretraining(config):
        return config
    old = dict(config)
    tasks: dict[str, Any] = {}
    contrastive = old.pop("contrastive", {})
    if contrastive is not None:
        name, fields = _task(contrastive)
        tasks[name] = fields
    if (reconstruction := old.pop("reconstruction", {})) is not None:
        tasks["reconstruction"] = {"weight": 1.0, **reconstruction}
    mask = {name: old.pop(f"mask_{name}") for name in ("share", "span") if f"mask_{name}" in old}
    return {**old, "tasks": tasks, "mask": mask}


_LATER: dict[str, Any] = {
    "ema_decay": 0.0,
    "loop.select_by": "",
    "loop.budget_clock": "wall",
    "model.running_norm": False,
    "model.context.causal": False,
    "mask.speech_only": False,
    "balance": "none",
    "ema": {"start": 0.99, "end": 1.0, "schedule": "cosine", "ramp_share": 1.0},
    "tasks.contrastive.layers": [-1],
    "tasks.masked_units.layers": [-1],
    "tasks.masked_units.feature_penalty": 0.0,
    "tasks.reconstruction.layers": [-1],
    "voice": {"speed_p": 0.0, "speed": [0.9, 1.1], "pitch_p": 0.0, "semitones": [-3.0, 3.0]},
    "keep_features": False,
    "keep_heads": False,
    "mix_shares": (),
    "rehearsal": "none",
    "rehearsal_share": 0.5,
    "length_grid": "off",
    "teacher_beside": False,
    "distortion.pitch": {"p": 0.0, "semitones": [-3.0, 3.0]},
}
"""Settings that came later, and their values in a run that does not have them."""


def with_later_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config with the settings that came after it began, as it was run."""
    found = json.loads(json.dumps(config))
    for name, value in _LATER.items():
        *path, last = name.split(".")
        place = found
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.setdefault(last, json.loads(json.dumps(value)))
    return dict(found)


def values_of_before(begun: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `now`, by name, that came after a run of the config `begun` began, and the values
    with which it was run; of the single ones at the top of a config."""
    later = {n: v for n, v in _LATER.items() if not isinstance(v, dict)}
    return {n: v for n, v in later.items() if n in now and n not in begun and now[n] != v}


def _task(contrastive: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The task that `contrastive` was, and its settings."""
    if contrastive.get("quantizer", "kmeans") == "gumbel":
        return "contrastive", {k: v for k, v in contrastive.items() if k in _OF_CODES}
    fields = {k: v for k, v in contrastive.items() if k in _OF_UNITS}
    if "entries" in contrastive:
        fields["num_units"] = contrastive["entries"]
    return "masked_units", fields


def renamed_weights(names: Iterable[str]) -> dict[str, str]:
    """For each stored name of a training state the one of today."""
    old, new = "contrastive.codebooks.", "masked_units.codebooks."
    return {n: new + n.removeprefix(old) if n.startswith(old) else n for n in names}


_RENAMED = (
    (r"(loss/|valid/|grad_norm/)contrastive(_[a-z]+)?$", r"\1{task}\2"),
    (r"(valid/)?contrastive/(\w+)$", r"\1{task}/\2"),
    (r"(valid/)?quantizer/(\w+)$", r"\1{task}/\2"),
    (r"codes/(targets|predicted|group_[0-9]+)$", r"codes/{task}/\1"),
    (r"(loss/|valid/)(diversity|feature_penalty)$", r"\1contrastive_\2"),
    (r"(valid/reconstruction/\w+)_to_heard$", r"\1_to_input"),
)
"""Patterns of old metrics, and what they are called now."""


def upgraded_records(
    records: Sequence[dict[str, Any]], config: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl under the names of today; `config` is upgraded already."""
    tasks = config.get("tasks") or {}
    if "tokenizer" in config:
        return list(records)
    task = "masked_units" if "masked_units" in tasks else "contrastive"
    upgraded = [{_name(name, task): value for name, value in r.items()} for r in records]
    return [_with_copying(record) for record in upgraded]


@cache
def _name(name: str, task: str) -> str:
    for old, new in _RENAMED:
        if match := re.match(old, name):
            return match.expand(new.format(task=task))
    return name


def _with_copying(record: dict[str, Any]) -> dict[str, Any]:
    """With the measure of copying, of a record that has what it is computed from and not it."""
    stems = [n.removesuffix("_to_input") for n in record if n.endswith("_to_input")]
    missing = [stem for stem in stems if f"{stem}_copying" not in record]
    if not missing:
        return record
    from speechssl.pretext.reconstruction import copying

    found = dict(record)
    for stem in missing:
        own = {n.removeprefix(f"{stem}_"): v for n, v in record.items() if n.startswith(stem)}
        found[f"{stem}_copying"] = copying(own)
    return found
