"""What every benchmark against a peer writes: one JSON form, with how it was measured."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def write_comparison(
    path: Path,
    *,
    ratio: float,
    ours: Any,
    peer: Any,
    unit: str,
    conditions: Mapping[str, Any],
    rows: Any = None,
) -> None:
    """`ratio` is ours over the peer, higher is better; `rows` hold what else was measured."""
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    data = {"ratio": ratio, "ours": ours, "peer": peer, "unit": unit}
    data["conditions"] = {**conditions, **machine}
    if rows is not None:
        data["rows"] = rows
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def peer_size(name: str) -> str:
    """The size that is meant: of ``tiny`` the form that transformers can hold."""
    return "tiny-conv" if name == "tiny" else name
