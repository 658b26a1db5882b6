"""The numbers of short runs, with all digits: what changes only the code's form must not move them.

    python benchmarks/same_numbers.py --out before.json      # at the commit before the change
    python benchmarks/same_numbers.py --out after.json       # at the commit after it
    python benchmarks/same_numbers.py --compare before.json after.json

The last one lists the first difference of each case and exits with 1 where there is any.

Cases are named SIZE/PRECISION/JOB. The sizes are tiny, tiny-conv, and base and large with two
layers and narrower (an hour of their full width would show no other code). Of each, in float32 and
bfloat16, twenty updates of pretraining (each kind of target, a teacher's codes, each reconstructed
feature, both tasks together) and of fine-tuning (plain, consistency, LoRA, adapters), and a
transcription in each precision. Kept are every loss, gradient norm and validation metric of
metrics.jsonl, the transcripts with times and confidences, and digests of extracted representations.
``--only 'tiny/*/*' 'base/bf16/lora'`` takes a part. All of it takes seven minutes of a core.

Speech, of a kind, is made from a seed, so that nothing is downloaded. One thread; each case runs in
a forked process through the command line, ``speechssl.cli.main``. A new process gives the same
numbers to the last digit; another CPU or another version of torch does not. To run another
checkout, set PYTHONPATH to it; the commands of a case are listed by version (:data:`COMMANDS`), and
the first that the installed ``speechssl`` accepts is taken. Needs the extra ``lora``. It is one
file, longer than others, so that it runs beside any checkout.

At commits before "Compiled loops sum in the same order" the first run after the loops were compiled
has other last digits where attention drops weights (base): run such a case twice, keep the second.
"""

import argparse
import contextlib
import fnmatch
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are loaded

import numpy as np  # noqa: E402
import torch  # noqa: E402

SAMPLE_RATE = 16000
SYMBOLS = {"a": (700, 1200), "e": (450, 2000), "i": (300, 2300), "o": (480, 900), "u": (320, 700)}
"""Each letter of the texts, and the centres of its two formants in Hz."""
NUM_TRAIN, NUM_VALID = 30, 4
NUM_UPDATES = 20

NARROW = "--model.encoder.dims [64,64,96,96,128,128,128] --model.context.num_layers 2 "
SIZES = {
    "tiny": "--size tiny",
    "tiny-conv": "--size tiny-conv",
    "base": f"--size base {NARROW} --model.context.dim 192 --model.context.ffn_dim 384",
    "large": f"--size large {NARROW} --model.context.dim 256 --model.context.ffn_dim 512",
}
"""Options that make a model from scratch."""
PRECISIONS = ("fp32", "bf16")

LOOP = (
    f"--max-steps {NUM_UPDATES} --checkpoint-every {NUM_UPDATES} --loop.log_every 1 "
    "--loop.num_validations 1 --loop.num_workers 0 --loop.accumulate 1 --device cpu"
)
PRETRAIN = f"pretrain --train {{data}}/train.jsonl --valid {{data}}/valid.jsonl {LOOP} --batch_s 6"
FINETUNE = (
    f"finetune --init {{gumbel}} --train {{data}}/train.jsonl --valid {{data}}/valid.jsonl {LOOP} "
    "--batch_s 6 --head_only_steps 2 --freeze_encoder_share 0.3 --mask_from_share 0.2"
)
CODES = "--contrastive.entries 64 --reconstruction none"

UNITS = f"{PRETRAIN} --tasks masked_units --masked_units.num_units 64"


def _rebuilding(feature: str) -> tuple[str, str]:
    features = f'--reconstruction.features ["{feature}"]'
    alone = f"{PRETRAIN} --tasks reconstruction {features} --keep_features false"
    # kept, prosody is a function of the utterance alone: as of a padded batch but for last digits
    return (
        *([alone] if feature == "prosody" else []),
        f"{PRETRAIN} --tasks reconstruction {features}",
        f"{PRETRAIN} --contrastive none {features}",
    )


COMMANDS: dict[str, tuple[str, ...]] = {
    "gumbel": (
        f"{PRETRAIN} --tasks contrastive --contrastive.entries 64",
        f"{PRETRAIN} --contrastive.quantizer gumbel {CODES}",
    ),
    "kmeans": (
        f'{UNITS} --masked_units.quantizer kmeans --masked_units.features ["mfcc","prosody"]',
        f"{PRETRAIN} --contrastive.quantizer kmeans {CODES} "
        '--contrastive.features ["mfcc","prosody"]',
    ),
    "random": (
        f"{UNITS} --masked_units.quantizer random",
        f"{PRETRAIN} --contrastive.quantizer random {CODES}",
    ),
    "teacher": (
        f"{UNITS} --teacher {{gumbel}} --teacher_layer 1",
        f"{PRETRAIN} --contrastive.quantizer kmeans {CODES} --teacher {{gumbel}} --teacher_layer 1",
    ),
    "logmel": _rebuilding("logmel"),
    "mfcc": _rebuilding("mfcc"),
    "prosody": _rebuilding("prosody"),
    "wave": _rebuilding("wave"),
    "both": (
        f"{PRETRAIN} --masked_units.num_units 64",
        f"{PRETRAIN} --contrastive.entries 64",
    ),
    "plain": (f"{FINETUNE}",),
    "consistency": (f"{FINETUNE} --consistency 0.2",),
    "lora": (f"{FINETUNE} --learns lora",),
    "adapters": (f"{FINETUNE} --learns adapters",),
    "transcribe-fp32": ("transcribe {writer} {data}/heard --format json --precision fp32",),
    "transcribe-bf16": ("transcribe {writer} {data}/heard --format json --precision bf16",),
    "transcribe-int8": ("transcribe {writer} {data}/heard --format json --precision int8",),
    "extract-fp32": ("extract {writer} {data}/heard --layer -1 --precision fp32",),
    "extract-bf16": ("extract {writer} {data}/heard --layer -1 --precision bf16",),
}
"""What each job types: one command line for each version whose settings have other names.

``{data}`` is the folder of the speech, ``{gumbel}`` the run of that job, ``{writer}`` the model of
the job ``plain`` with a blank that is as likely as its letters."""

RENAMED = (
    (r"(loss/|valid/|grad_norm/)masked_units(_[a-z]+)?$", r"\1contrastive\2"),
    (r"(valid/)?masked_units/(accuracy|chance)(_[a-z]+)?$", r"\1contrastive/\2\3"),
    (r"(valid/)?masked_units/predicted_perplexity$", r"\1quantizer/predicted_perplexity"),
    (r"codes/(?:masked_units|contrastive)/([a-z0-9_]+)$", r"codes/\1"),
    (r"(loss/|valid/)contrastive_(diversity|feature_penalty)$", r"\1\2"),
    (r"(valid/)?contrastive/(perplexity|codes_used|used)(_group_\d)?$", r"\1quantizer/\2\3"),
    (r"valid/reconstruction/([a-z]+)_to_input$", r"valid/reconstruction/\1_to_heard"),
)
"""Metrics that were renamed: a pattern of the new name, and the old one, under which they are
kept."""

LEFT_OUT = ("time_s", "speed/")
"""Names, or their beginnings, of what differs from run to run."""

Case = dict[str, Any]
"""``records`` of metrics, ``transcripts`` or ``digests``, or ``error``; and ``seconds``."""


def write_data(folder: Path) -> None:
    """Recordings of one to three seconds with texts and their manifests, and three to transcribe,
    one of them longer than what is transcribed at once."""
    generator = np.random.default_rng(16)
    for split, num in (("train", NUM_TRAIN), ("valid", NUM_VALID)):
        lines = []
        for index in range(num):
            text, samples = _utterance(generator)
            name = f"{split}{index}.wav"
            _write_wave(folder / name, samples)
            line = {"id": name, "audio": name, "start_s": 0.0, "text": text, "speaker": f"s{index}"}
            line |= {"duration_s": len(samples) / SAMPLE_RATE, "sample_rate": SAMPLE_RATE}
            lines.append(json.dumps(line) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "heard").mkdir()
    for index, least_s in enumerate((1.0, 2.0, 34.0)):
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < least_s * SAMPLE_RATE:
            parts += [_utterance(generator)[1], 0.001 * generator.standard_normal(6000)]
        _write_wave(folder / "heard" / f"{index}.wav", np.concatenate(parts))


def _utterance(generator: np.random.Generator) -> tuple[str, np.ndarray]:
    """A text, and (S,) float64 in which each of its letters is a vowel."""
    letters = generator.choice(list(SYMBOLS), generator.integers(5, 13))
    pitch = generator.uniform(90, 220)  # Hz
    parts, text = [], ""
    for number, letter in enumerate(letters):
        text += letter
        parts.append(_vowel(SYMBOLS[letter], pitch, generator.uniform(0.12, 0.22), generator))
        if number % 4 == 3:
            text += " "
            parts.append(np.zeros(int(0.08 * SAMPLE_RATE)))
    samples = np.concatenate(parts)
    return text.strip(), samples + 0.002 * generator.standard_normal(len(samples))


def _vowel(
    formants: tuple[int, int], pitch: float, seconds: float, generator: np.random.Generator
) -> np.ndarray:
    """Harmonics of a falling pitch, strong near the formants, with soft ends: (S,)."""
    time_s = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * pitch * (time_s - 0.2 * time_s**2)
    samples = np.zeros_like(time_s)
    for harmonic in range(1, int(3500 / pitch)):
        at = harmonic * pitch
        size = sum(1 / (1 + ((at - centre) / 90) ** 2) for centre in formants)
        samples += size * np.sin(harmonic * phase + generator.uniform(0, 2 * np.pi))
    return 0.1 * samples * np.sin(np.pi * time_s / seconds)


def _write_wave(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())


class Runner:
    """Runs cases in a scratch folder, each after those whose models it needs."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.done: dict[str, Case] = {}
        (scratch / "data").mkdir()
        write_data(scratch / "data")

    def run(self, name: str) -> Case:
        """The numbers of a case, run once."""
        if name not in self.done:
            started = time.monotonic()
            case = self._run(name)
            case["seconds"] = round(time.monotonic() - started, 1)
            self.done[name] = case
            told = case.get("error", f"{case['seconds']:.1f} s")
            print(f"{name}: {told}", file=sys.stderr, flush=True)
        return self.done[name]

    def _run(self, name: str) -> Case:
        size, precision, job = name.split("/")
        folder = self.scratch / name.replace("/", "_")
        places = {"data": self.scratch / "data"}
        for needed, other in (("gumbel", "gumbel"), ("writer", "plain")):
            if f"{{{needed}}}" in COMMANDS[job][0]:
                other_name = f"{size}/{precision}/{other}"
                if "error" in self.run(other_name):
                    return {"error": f"needs {other_name}, which failed"}
                places[needed] = self.scratch / other_name.replace("/", "_")
        if "writer" in places:
            return self._transcribe(job, folder, places["data"], places["writer"])
        options = f"--out {folder} --precision {precision}"
        if job in ("plain", "consistency", "lora", "adapters"):
            error = _first_accepted(job, places, options)
        else:
            error = _first_accepted(job, places, f"{options} {SIZES[size]}")
        return {"error": error} if error else {"records": read_records(folder)}

    def _transcribe(self, job: str, folder: Path, data: Path, run: Path) -> Case:
        model = run / "eager"
        if not model.exists():
            let_write(run / "model", model)
        places = {"data": data, "writer": model}
        if error := _first_accepted(job, places, f"--out {folder}"):
            return {"error": error}
        if job.startswith("extract"):
            arrays = sorted(folder.glob("*.npy"))
            return {"digests": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in arrays}}
        found = [
            json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
        ]
        for transcript in found:
            transcript["audio"] = Path(transcript["audio"]).name
        return {"transcripts": found}


def read_records(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what differs from run to run, by their old names."""
    records = []
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        values = {_old_name(k): v for k, v in json.loads(line).items()}
        records.append({k: v for k, v in values.items() if not k.startswith(LEFT_OUT)})
    return records


def _old_name(metric: str) -> str:
    """The name under which a metric is kept."""
    for new, old in RENAMED:
        if match := re.match(new, metric):
            return match.expand(old)
    return metric


def let_write(model: Path, out: Path) -> None:
    """Copy a model folder, with a blank that is as likely from the start as each letter: after
    twenty updates the model else emits nothing."""
    from safetensors.torch import load_file, save_file

    out.mkdir()
    for path in model.iterdir():
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            bias = tensors["head.linear.bias"]
            bias[0] -= math.log(4 * (len(bias) - 1))
            save_file(tensors, out / path.name, {"format": "pt"})
        else:
            (out / path.name).write_bytes(path.read_bytes())


def _first_accepted(job: str, places: Mapping[str, Path], options: str) -> str:
    """Run the first command line of a job that is accepted; what went wrong, or nothing."""
    errors = []
    for line in COMMANDS[job]:
        words = [word.format(**places) for word in [*line.split(), *options.split()]]
        code, told = speechssl(words)
        if code == 0:
            return ""
        errors.append(f"exit code {code}: {told}")
        if code != 2:
            break
    return "; ".join(errors)


def speechssl(arguments: Sequence[str]) -> tuple[int, str]:
    """Run a command in a forked process; its exit code and the last line that it said."""
    with tempfile.TemporaryFile("w+") as log:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            code = 1
            try:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                from speechssl.cli import main

                code = main(arguments)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        log.seek(0)
        lines = [line for line in log.read().splitlines() if line.strip()]
    return os.waitstatus_to_exitcode(status), lines[-1] if lines else ""


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Each place where `new` does not hold what `old` holds; what is only in `new` is no
    difference."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name, value in old.items():
            place = f"{where} {name}".strip()
            if name not in new:
                yield f"{place}: missing"
            else:
                yield from differences(value, new[name], place)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{where}: {len(old)} and {len(new)} entries"
        for index, (one, other) in enumerate(zip(old, new, strict=False)):
            told = other.get("step", index) if isinstance(other, dict) else index
            yield from differences(one, other, f"{where}[{told}]")
    elif old != new and not (old != old and new != new):  # NaN is the same as NaN
        yield f"{where}: {old!r} and {new!r}" + _apart(old, new)


def _apart(old: Any, new: Any) -> str:
    if not (isinstance(old, float) and isinstance(new, float)):
        return ""
    return f" ({abs(new - old) / max(abs(old), 1e-30):.1e} of it)"


def compare(old: Path, new: Path) -> int:
    """Print the first difference of each case of the older file; 1 where there is any. Cases that
    the newer one has not run are counted alone."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in (old, new)]
    if files[0]["conditions"]["machine"] != files[1]["conditions"]["machine"]:
        print("The two were made on different machines or versions of torch.")
    before, after = (file["cases"] for file in files)
    missing = [name for name in before if name not in after]
    bad = len(missing)
    for name, case in before.items():
        if name in missing:
            continue
        other = after[name]
        own = {k: v for k, v in case.items() if k != "seconds"}
        found = list(differences(own, other))
        if "error" in case or found:
            bad += 1
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            reason = other.get("error") or case.get("error") or f"{found[0]}{more}"
            print(f"{name}: {reason}")
    if missing:
        print(f"{len(missing)} cases were not run, the first is {missing[0]}.")
    print(f"{len(before) - bad} of {len(before)} cases are equal to the last digit.")
    return min(bad, 1)


def conditions() -> dict[str, Any]:
    """Of which code on which machine."""
    import speechssl as package

    folder = Path(package.__file__).parent
    commit = ""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
        commit = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    machine = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "amx": bool(torch.cpu._is_amx_tile_supported()),
        "platform": platform.machine(),
    }
    return {"version": package.__version__, "commit": commit, "machine": machine}


def main() -> int:
    """Write the numbers, or compare two files of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD.json", "NEW.json"))
    args = parser.parse_args()
    if args.compare:
        return compare(*args.compare)
    if args.out is None:
        parser.error("give --out FILE.json, or --compare OLD.json NEW.json")
    torch.set_num_threads(1)
    names = [f"{size}/{p}/{job}" for size in SIZES for p in PRECISIONS for job in COMMANDS]
    chosen = [name for p in args.only for name in names if fnmatch.fnmatch(name, p)]
    if not chosen:
        parser.error(f"no case is named like {args.only}; the first is {names[0]}")
    with tempfile.TemporaryDirectory(prefix="same-numbers-") as scratch:
        runner = Runner(Path(scratch))
        for name in chosen:
            runner.run(name)
            cases = runner.done
            data = {"conditions": conditions(), "cases": cases}
            args.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    failed = [name for name, case in cases.items() if "error" in case]
    print(f"{len(cases)} cases, {len(failed)} failed: {args.out}")
    return min(len(failed), 1)


if __name__ == "__main__":
    sys.exit(main())
