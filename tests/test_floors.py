"""The floors of the house: imports only point down, and the package itself loads no torch.

    roof      everything not named below: cli, serve, report, ... may import all
    third     training, inference
    second    pretext, data, decoding, interop, scoring
    first     model, checkpoint, precision, seed
    ground    audio, text, rng, config, shapes, distributed, runlog, device, files, spelling,
              durations, workers, system, torchrun

A room may import itself and every lower floor, never its neighbours on the same floor.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "speechssl"

FLOORS = {
    "audio": 0,
    "text": 0,
    "rng": 0,
    "caches": 0,
    "compiled": 0,
    "config": 0,
    "shards": 0,
    "files": 0,
    "spelling": 0,
    "durations": 0,
    "system": 0,
    "torchrun": 0,
    "shapes": 0,
    "distributed": 0,
    "runlog": 0,
    "device": 0,
    "workers": 0,
    "precision": 1,
    "model": 1,
    "checkpoint": 1,
    "annotations": 1,
    "seed": 1,
    "pretext": 2,
    "data": 2,
    "decoding": 2,
    "interop": 2,
    "scoring": 2,
    "training": 3,
    "inference": 3,
}
ROOF = 4

ALLOWED = {
    ("audio", "shards"): "a recording may be a member of a tar file",
    ("compiled", "caches"): "compiled loops are kept in the cache folder",
    ("files", "system"): "files are moved, and read at a place, in the system's way",
    ("device", "system"): "which knows how much memory there is",
    ("device", "torchrun"): "which knows the number of a process on its machine",
    ("distributed", "torchrun"): "and how many there are",
    ("audio", "system"): "and how bytes at a place are read",
    ("workers", "system"): "which knows how many cores there are",
    ("text", "files"): "a tokenizer is written whole or not at all",
    ("shards", "files"): "and so is the index of a tar file",
    ("seed", "checkpoint"): "a seed is a model folder",
    ("seed", "model"): "of a form",
    ("checkpoint", "model"): "a folder that explains itself has to build the model it describes",
}


def room_of(module: str) -> str:
    """``speechssl.model.config`` -> ``model``; the package's own file -> empty."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(source: str, module: str) -> list[tuple[int, str]]:
    """(line, full module name) of every import of ours, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                stem = ".".join([*above, stem]).rstrip(".")
            # `from speechssl import audio` names a module, `from speechssl.audio import read` not
            names = [f"{stem}.{a.name}" if stem == "speechssl" else stem for a in node.names]
        else:
            continue
        found += [(node.lineno, name) for name in names if name.split(".")[0] == "speechssl"]
    return found


def wrong_arrows(source: str, module: str) -> list[str]:
    """A sentence for every import of `module` that does not point down."""
    here = room_of(module)
    floor = FLOORS.get(here, ROOF)
    wrong = []
    for line, target in imports(source, module):
        there = room_of(target)
        if target == "speechssl.__version__" or there == here or floor == ROOF:
            continue
        if FLOORS.get(there, ROOF) >= floor and (here, there) not in ALLOWED:
            wrong.append(f"{module}, line {line}: {here} must not import {target}")
    return wrong


def modules() -> dict[str, Path]:
    made = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        made[".".join(parts)] = path
    return made


def test_every_import_points_down():
    wrong = [
        sentence
        for module, path in modules().items()
        for sentence in wrong_arrows(path.read_text(encoding="utf-8"), module)
    ]
    assert not wrong, "\n".join(wrong)


DOOR = "speechssl.model.fast.accelerate"


def test_the_fast_forms_have_one_door():
    """Nothing outside of them imports another of their modules, and no plain part any: only what
    exporters need is made of plain parts by way of the door."""
    wrong = []
    for module, path in modules().items():
        inside = module.startswith("speechssl.model.fast")
        is_plain = room_of(module) == "model" and module != "speechssl.model.exportable"
        for line, target in imports(path.read_text(encoding="utf-8"), module):
            if inside or not target.startswith("speechssl.model.fast"):
                continue
            if is_plain or target != DOOR:
                wrong.append(f"{module}, line {line}: {target}")
    assert not wrong, "\n".join(wrong)


def test_every_named_room_exists_and_has_code():
    rooms = {room_of(module) for module in modules()}
    assert set(FLOORS) <= rooms


def test_every_exception_is_needed():
    used = {
        (room_of(module), room_of(target))
        for module, path in modules().items()
        for _, target in imports(path.read_text(encoding="utf-8"), module)
    }
    assert set(ALLOWED) <= used


@pytest.mark.parametrize(
    ("module", "source", "is_wrong"),
    [
        (
            "speechssl.audio.files",
            "from speechssl.rng import rng",
            True,
        ),  # the ground imports nothing
        ("speechssl.audio.files", "import numpy", False),
        ("speechssl.model.encoder", "from speechssl import shapes", False),
        ("speechssl.model.encoder", "from speechssl.model.config import X", False),
        ("speechssl.model.encoder", "from speechssl.data.dataset import X", True),  # up
        ("speechssl.model.encoder", "from speechssl import checkpoint", True),  # sideways
        ("speechssl.checkpoint", "from speechssl import __version__, text", False),
        ("speechssl.checkpoint", "from speechssl.model.heads import X", False),  # the exception
        ("speechssl.data.prepare", "import speechssl.audio", False),
        ("speechssl.data.prepare", "from speechssl.scoring.wer import X", True),  # sideways
        ("speechssl.data.prepare", "from ..pretext import task", True),
        ("speechssl.data.prepare", "from . import manifest", False),
        ("speechssl.data.prepare", "def f():\n    from speechssl.cli import main", True),
        ("speechssl.data.prepare", "from speechssl import load", True),  # the public API is roof
        ("speechssl.training.loop", "from speechssl.data.dataset import X", False),
        ("speechssl.training.loop", "from speechssl.inference.extract import X", True),
        ("speechssl.training.loop", "from speechssl.report.page import X", True),
        ("speechssl.report.page", "from speechssl.training.loop import X", False),
        ("speechssl.cli", "from speechssl.report.page import X", False),
    ],
)
def test_the_rule_itself(module, source, is_wrong):
    assert bool(wrong_arrows(source, module)) is is_wrong


@pytest.mark.parametrize(
    "statement",
    [
        "import speechssl",
        "import speechssl.cli",
        "from speechssl import text, rng, audio",
        "from speechssl import seed",
    ],
)
def test_a_quick_import_loads_no_torch(statement):
    code = f"{statement}; import sys; print([m for m in ('torch', 'librosa') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
