"""`speechssl doctor`: what is installed and what is missing; what a run's curves say."""

import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import torch

from speechssl import __version__, seed
from speechssl.device import UNKNOWN, machine_name, memory, pick_device
from speechssl.precision import kept_choices
from speechssl.report.runs import read_run
from speechssl.runlog import check_metrics
from speechssl.system import num_cpus
from speechssl.training.verdict import HEALTHY, TOO_EARLY, Verdict, with_characters

_MODULES = {"espeakng-loader": "espeakng_loader", "flashlight-text": "flashlight"}
"""Packages that are imported under a name that is not theirs with underscores."""
_WIDTH = 96
_EARLY = "There is too little in the log yet; look again after a validation."
_IGNORES = (
    "No validation shows yet that the output depends on the recordings. Look again later; if it "
    "stays so, check that the transcripts belong to the recordings."
)


def describe_machine() -> str:
    """Versions, extras, device, threads and memory, as text for a person."""
    lines = [f"speechssl {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    required, extras = _requirements()
    lines += ["", "Packages"]
    lines += [f"  {name:<20}{_state_of(name)}" for name in required]
    for extra, names in sorted(extras.items()):
        missing = [name for name in names if _version(name) is None]
        state = f"missing {', '.join(missing)}: pip install 'speechssl[{extra}]'"
        lines.append(f"  extra {extra:<14}{state if missing else 'installed'}")
    if seeds := list(_seeds()):
        lines += ["", "Seeds", *seeds]
    lines += ["", "Machine"]
    lines += [f"  {name:<20}{value}" for name, value in _machine()]
    lines += ["", "Precision, as auto has chosen it here", *_precisions()]
    return "\n".join(lines)


def describe_run(run: Path) -> str:
    """The verdict on a run and its evidence, as text for a person.

    Raises FileNotFoundError where there is no folder, ValueError where it holds no run, or
    a log with something else than numbers.
    """
    return describe_verdict(judge_run(run), str(run))


def judge_run(run: Path) -> Verdict:
    """The verdict on a run folder, finished or not; errors as in :func:`describe_run`."""
    check_metrics(run)
    found = read_run(run, run.name)
    unknown = found.meta.get("valid_characters_unseen_in_training")
    names = [str(name) for name in unknown] if isinstance(unknown, dict) else []
    return with_characters(found.verdict, names)


def describe_verdict(verdict: Verdict, name: str) -> str:
    """The verdict first, then what was measured."""
    lines = [f"{name}: {verdict.name}"]
    if verdict.name == TOO_EARLY:
        lines.append(
            _fill(_IGNORES if "character error rate" in dict(verdict.measures) else _EARLY)
        )
    for number, finding in enumerate(verdict.findings):
        if number:
            lines.append(f"\nAlso {finding.name}")
        lines += [_fill(sentence) for sentence in finding.evidence]
        lines.append(_fill(f"What to change: {finding.advice}"))
    if verdict.measures:
        lines.append("")
    width = max((len(name) for name, _ in verdict.measures), default=0) + 2
    lines += [f"  {name:<{width}}{value}" for name, value in verdict.measures]
    return "\n".join(lines)


def in_short(verdict: Verdict) -> str:
    """A line for the end of a run; '' where there is nothing to say."""
    if verdict.name in (HEALTHY, TOO_EARLY):
        return ""
    return f"Doctor: {verdict.name}. {verdict.findings[0].evidence[0]}"


def _fill(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """The packages that this one needs, and those of each extra (without ``dev``)."""
    try:
        lines = importlib.metadata.requires("speechssl") or []
    except importlib.metadata.PackageNotFoundError:  # run from a copy of the source
        lines = ["torch", "torchaudio", "numpy", "soundfile", "librosa", "safetensors"]
    required: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in lines:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        names = required if extra is None else extras.setdefault(extra[1], [])
        if name not in names:
            names.append(name)
    extras.pop("dev", None)
    return required, extras


def _seeds() -> Iterator[str]:
    """A line for each seed of the package."""
    for size in seed.sizes():
        name = f"  {seed.name_of(seed.FOLDER / size) or size:<20}"
        try:
            meta = json.loads((seed.folder_of(size) / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            yield f"{name}{error}"
            continue
        card = meta["card"]
        languages = len(card["languages"])
        yield f"{name}{card['hours']:g} h of {languages} languages, {card['license']}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _state_of(package: str) -> str:
    """Its version, and why it does not load where it does not."""
    version = _version(package)
    if version is None:
        return f"missing: pip install {package}"
    try:
        importlib.import_module(_MODULES.get(package, package.replace("-", "_")))
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        hint = ""
        if package == "torchaudio":
            hint = (
                f" It was made for another torch than {torch.__version__}, which is here: install "
                "both from the same index, e.g. pip install --force-reinstall torch torchaudio. "
                "Only torchaudio's own models need it."
            )
        return f"{version}, does not load: {reason}.{hint}"
    return version


def _precisions() -> Iterator[str]:
    """What was chosen for models so far, and why."""
    kept = list(kept_choices(pick_device()))
    if not kept:
        yield "  nothing yet: a run that begins measures it, and transcription by a large model"
    for label, choice in kept:
        yield f"  {label}"
        yield textwrap.fill(
            choice.sentence(), _WIDTH, initial_indent="    ", subsequent_indent="    "
        )


def _machine() -> Iterator[tuple[str, str]]:
    device = pick_device()
    yield "device", f"{device.type} ({machine_name(device)})"
    if device.type == "cpu":
        built = torch.version.cuda
        yield "GPU", "none" + (f" found (torch is built for CUDA {built})" if built else "")
    chosen = os.environ.get("OMP_NUM_THREADS")
    told = f"OMP_NUM_THREADS={chosen}" if chosen else "OMP_NUM_THREADS is not set"
    yield "threads", f"{torch.get_num_threads()} of {num_cpus()} cores ({told})"
    for title, where in {"memory": torch.device("cpu"), "GPU memory": device}.items():
        if title == "memory" or device.type == "cuda":
            found = memory(where)
            known = f"{found.free / 1e9:.1f} GB free of {found.total / 1e9:.1f} GB"
            yield title, known if found.total < UNKNOWN else "the system does not say"
    free = shutil.disk_usage(".").free
    yield "disk", f"{free / 1e9:.0f} GB free here"
