"""Peak memory and speed of long recordings: standard input, and one compressed file.

    python benchmarks/long_input.py runs/finetune --minutes 10 60 600 --json long_input.json

Sound is made on the fly: 30 s of speech-like noise with pauses, again and again. Standard input is
a WAV whose size nobody knows, which the command reads as it comes; a FLAC, which goes through a
temporary file; and the FLAC is a file of its own. Each is one `speechssl transcribe` in a process
of its own, whose peak the system states. Memory is flat where the peaks of all lengths agree.

``--only stdin-wav`` (or stdin-flac, file) leaves the others out: ten hours at 200 times real time
are three minutes each. A FLAC of ten hours takes 600 MB of the folder for temporary files, and as
much again for standard input.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile

RATE = 16000
PIECE_S = 30
WAYS = ("stdin-wav", "stdin-flac", "file")
CHILD = """
import resource, sys
from speechssl.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def main() -> None:
    """Run every way at every length, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60, 600])
    parser.add_argument("--only", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in args.minutes:
            path = Path(folder) / "long.flac"
            if set(args.only) - {"stdin-wav"}:
                write_flac(path, minutes)
            for way in args.only:
                rows.append(measure(args.model, way, minutes, path, args.threads))
                print(line(rows[-1]), flush=True)
            path.unlink(missing_ok=True)
    if args.json:
        conditions = {"threads": args.threads, "cores": os.cpu_count()}
        text = json.dumps({"conditions": conditions, "rows": rows}, indent=2)
        args.json.write_text(text + "\n", encoding="utf-8")


def piece() -> np.ndarray:
    """(S,) int16: noise whose loudness and colour change a few times a second, a pause every 5 s
    but for the first 20, which so are longer than any window has without one."""
    made = np.random.default_rng(0)
    num = PIECE_S * RATE
    wave = np.convolve(made.standard_normal(num), np.ones(6) / 6, "same")
    loudness = np.repeat(made.uniform(0.1, 0.6, num // (RATE // 5)), RATE // 5)
    wave *= loudness
    for second in (20, 25):
        wave[second * RATE : second * RATE + RATE // 3] = 0
    return np.asarray(wave / np.abs(wave).max() * 20000, np.int16)


def pieces(minutes: float) -> Iterator[np.ndarray]:
    """As many as last so long."""
    one = piece()
    for _ in range(max(round(minutes * 60 / PIECE_S), 1)):
        yield one


def write_flac(path: Path, minutes: float) -> None:
    """Block by block."""
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        for each in pieces(minutes):
            file.write(each)


def pipe_wav(minutes: float) -> Callable[[IO[bytes]], None]:
    """Writes a WAV into a pipe, whose size its head does not know."""

    def write(pipe: IO[bytes]) -> None:
        fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
        pipe.write(b"RIFF\xff\xff\xff\xffWAVE" + fmt + b"data\xff\xff\xff\xff")
        for each in pieces(minutes):
            pipe.write(each.tobytes())

    return write


def pipe_file(path: Path) -> Callable[[IO[bytes]], None]:
    """Copies a file into a pipe."""

    def write(pipe: IO[bytes]) -> None:
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                pipe.write(data)

    return write


def measure(model: str, way: str, minutes: float, path: Path, threads: int) -> dict[str, Any]:
    """One transcription in a process of its own."""
    place = str(path) if way == "file" else "-"
    command = [sys.executable, "-c", CHILD, "transcribe", model, place, "--format", "json"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as child:
        assert child.stdin is not None
        write = pipe_wav(minutes) if way == "stdin-wav" else pipe_file(path)
        writer = threading.Thread(target=_feed, args=(write, child.stdin, way != "file"))
        writer.start()
        assert child.stdout is not None
        assert child.stderr is not None
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.append(child.stderr.read()))  # type: ignore[union-attr]
        reader.start()
        out = child.stdout.read()
        writer.join()
        reader.join()
    took = time.monotonic() - began
    *notes, peak = said[0].decode().splitlines()
    if child.returncode:
        raise SystemExit("\n".join(notes))
    found = json.loads(out)
    return {
        "way": way,
        "minutes": minutes,
        "peak_mb": int(peak) / 1024,
        "seconds": took,
        "duration_s": found["duration_s"],
        "words": len(found["text"].split()),
    }


def _feed(write: Callable[[IO[bytes]], None], pipe: IO[bytes], wanted: bool) -> None:
    try:
        if wanted:
            write(pipe)
    except BrokenPipeError:  # the child says why
        pass
    finally:
        pipe.close()


def line(row: dict[str, Any]) -> str:
    """For people."""
    return (
        f"{row['way']:10} {row['minutes']:6g} min: peak {row['peak_mb']:6.0f} MB, "
        f"{row['seconds']:7.1f} s, {row['duration_s'] / row['seconds']:5.0f} x real time"
    )


if __name__ == "__main__":
    main()
