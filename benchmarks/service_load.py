"""The service under many clients, beside ``speechssl transcribe`` on the same recordings.

    python benchmarks/service_load.py MODEL MANIFEST --minutes 5 --json service.json

Clients in a process of their own send clips as quickly as they are answered. In turns with that the
command transcribes the same clips as files; the time that it takes for one clip, mostly imports, is
taken off. Then clips of three seconds are sent one after the other, alone and while a long
recording is transcribed as a job. Counted are failures, seconds of sound a second, the latency at
p50 and p95, and the memory of the service over time.

The JSON's `ratio` is the service's throughput over the command's, median over the turns; `rows`
hold all.
"""

import argparse
import asyncio
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from benchmarks.comparison import write_comparison
from speechssl import audio
from speechssl.data.manifest import read_manifest

RATE = 16000
PATH = "/v1/audio/transcriptions"
SHORT_S = 3.0
MEMORY_EVERY_S = 2.0
TIMEOUT_S = 300.0


def main() -> None:
    """Measure in turns, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=5.0, help="of load, all turns together")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--clips", type=int, default=400, help="of the manifest")
    parser.add_argument("--long-minutes", type=float, default=60.0, help="of the long recording")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--load", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        folder = args.manifest
        print(json.dumps(asyncio.run(load(args.url, clips_in(folder), args.clients, args.load))))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "clips"
        audio_s = write_clips(args.manifest, folder, args.clips)
        found = measure(args, folder, audio_s)
    report(found)
    if args.json:
        write_comparison(
            args.json,
            ratio=found["ratio"],
            ours=found["service_audio_s_per_s"],
            peer=found["command_audio_s_per_s"],
            unit="seconds of sound a second",
            conditions={
                "model": Path(args.model).name,
                "clients": args.clients,
                "clips": args.clips,
            },
            rows=found,
        )


def write_clips(manifest: Path, folder: Path, most: int) -> float:
    """The first clips of a manifest as files; their seconds."""
    folder.mkdir()
    total_s = 0.0
    for number, u in enumerate(read_manifest(manifest)[:most]):
        wave = audio.read(u.audio, start_s=u.start_s, duration_s=u.duration_s, sample_rate=RATE)
        audio.write(folder / f"{number:05}.flac", wave, RATE)
        total_s += len(wave) / RATE
    return total_s


def clips_in(folder: Path) -> list[tuple[bytes, float]]:
    """Content and seconds of each."""
    return [(path.read_bytes(), audio.probe(path).duration_s) for path in sorted(folder.iterdir())]


@contextmanager
def serving(model: str) -> Iterator[str]:
    """The address of a service in a process of its own."""
    command = [sys.executable, "-m", "speechssl", "serve", model, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = ""
            for line in process.stderr:
                if found := re.search(r"http://[\d.]+:\d+", line):
                    url = found[0]
                    break
            yield url
        finally:
            process.terminate()


def measure(args: argparse.Namespace, folder: Path, audio_s: float) -> dict[str, Any]:
    """All of it."""
    with serving(args.model) as url:
        send = make_send(httpx.Client(base_url=url, timeout=TIMEOUT_S))
        clips = clips_in(folder)
        send(clips[0][0])
        start_s = command_s(args.model, folder / "00000.flac")
        turns = []
        for _ in range(args.turns):
            seconds = 60 * args.minutes / args.turns
            loaded = in_other_process(args, url, folder, seconds)
            took_s = command_s(args.model, folder)
            loaded["command_audio_s_per_s"] = audio_s / max(took_s - start_s, 1e-3)
            loaded["command_with_start_audio_s_per_s"] = audio_s / took_s
            turns.append(loaded)
            print(f"turn: {short(loaded)}", flush=True)
        beside = short_clips(url, clips, args.long_minutes)
    ratios = [t["audio_s_per_s"] / t["command_audio_s_per_s"] for t in turns]
    latencies = sorted(x for t in turns for x in t["latencies_s"])
    memory = [x for t in turns for x in t["memory_mb"]]
    return {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "service_audio_s_per_s": statistics.median(t["audio_s_per_s"] for t in turns),
        "command_audio_s_per_s": statistics.median(t["command_audio_s_per_s"] for t in turns),
        "command_with_start_audio_s_per_s": statistics.median(
            t["command_with_start_audio_s_per_s"] for t in turns
        ),
        "requests": len(latencies),
        "failures": [failure for t in turns for failure in t["failures"]],
        "p50_s": share(latencies, 0.5),
        "p95_s": share(latencies, 0.95),
        "memory_mb": memory,
        **beside,
    }


def short(loaded: dict[str, Any]) -> str:
    """A line of a turn."""
    return (
        f"{len(loaded['latencies_s'])} requests, {len(loaded['failures'])} failures, "
        f"{loaded['audio_s_per_s']:.0f} s/s, the command {loaded['command_audio_s_per_s']:.0f}"
    )


def command_s(model: str, place: Path) -> float:
    """What ``speechssl transcribe`` takes."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "speechssl", "transcribe", model, str(place), "--out", out]
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - begun


def in_other_process(
    args: argparse.Namespace, url: str, folder: Path, seconds: float
) -> dict[str, Any]:
    """:func:`load`, so that clients and this program do not share a lock."""
    command = [sys.executable, os.path.abspath(__file__), args.model, str(folder)]
    command += ["--load", str(seconds), "--url", url, "--clients", str(args.clients)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def load(
    url: str, clips: Sequence[tuple[bytes, float]], clients: int, seconds: float
) -> dict[str, Any]:
    """Clients that send clips one after the other until the time is over."""
    latencies: list[float] = []
    failures: list[str] = []
    memory: list[float] = []
    done_s, following = 0.0, 0
    limits = httpx.Limits(max_connections=clients + 1)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits) as client:
        begun = time.perf_counter()

        async def one() -> None:
            nonlocal done_s, following
            while time.perf_counter() - begun < seconds:
                content, clip_s = clips[following % len(clips)]
                following += 1
                sent = time.perf_counter()
                try:
                    response = await client.post(PATH, files={"file": ("a.flac", content)})
                    response.raise_for_status()
                except httpx.HTTPError as error:
                    failures.append(f"{type(error).__name__}: {error}"[:200])
                    continue
                latencies.append(time.perf_counter() - sent)
                done_s += clip_s

        async def watch() -> None:
            while time.perf_counter() - begun < seconds:
                memory.append(memory_mb((await client.get("/metrics")).text))
                await asyncio.sleep(MEMORY_EVERY_S)

        await asyncio.gather(watch(), *(one() for _ in range(clients)))
        took_s = time.perf_counter() - begun
    return {
        "audio_s_per_s": done_s / took_s,
        "latencies_s": latencies,
        "failures": failures,
        "memory_mb": memory,
    }


def memory_mb(metrics: str) -> float:
    """Of the service."""
    found = re.search(r"^speechssl_memory_bytes (\S+)$", metrics, re.MULTILINE)
    return round(float(found[1]) / 1e6, 1) if found else float("nan")


def make_send(client: httpx.Client) -> Any:
    """A function that sends content and gives the seconds until it is answered."""

    def send(content: bytes) -> float:
        begun = time.perf_counter()
        client.post(PATH, files={"file": ("a.flac", content)}).raise_for_status()
        return time.perf_counter() - begun

    return send


def short_clips(
    url: str, clips: Sequence[tuple[bytes, float]], long_minutes: float
) -> dict[str, Any]:
    """Latencies of clips of three seconds, alone and beside a long recording."""
    waves = [soundfile.read(io.BytesIO(content), dtype="float32")[0] for content, _ in clips]
    joined = np.concatenate(waves)
    size = int(SHORT_S * RATE)
    shorts = [flac(joined[i * size : (i + 1) * size]) for i in range(min(len(joined) // size, 50))]
    long = flac(np.resize(joined, int(60 * long_minutes * RATE)))
    with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
        send = make_send(client)
        alone = sorted(send(content) for content in shorts)
        begun = time.perf_counter()
        job = client.post("/v1/audio/jobs", files={"file": ("long.flac", long)}).json()["id"]
        beside: list[float] = []
        status = "queued"
        while status in ("queued", "running"):
            beside.append(send(shorts[len(beside) % len(shorts)]))
            status = client.get(f"/v1/audio/jobs/{job}").json()["status"]
        took_s = time.perf_counter() - begun
    beside.sort()
    return {
        "short_alone_p50_s": share(alone, 0.5),
        "short_alone_p95_s": share(alone, 0.95),
        "short_beside_long_p50_s": share(beside, 0.5),
        "short_beside_long_p95_s": share(beside, 0.95),
        "short_beside_long_requests": len(beside),
        "long_minutes": long_minutes,
        "long_took_s": took_s,
        "long_status": status,
    }


def flac(wave: np.ndarray) -> bytes:
    """(S,) float32 at 16 kHz as a file."""
    made = io.BytesIO()
    soundfile.write(made, wave, RATE, format="FLAC")
    return made.getvalue()


def share(ordered: Sequence[float], part: float) -> float:
    """A quantile of sorted values."""
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def report(found: dict[str, Any]) -> None:
    """What a person wants to know."""
    memory = found["memory_mb"]
    quarter = max(len(memory) // 4, 1)
    print(
        f"{found['requests']} requests, {len(found['failures'])} failures; "
        f"p50 {found['p50_s']:.2f} s, p95 {found['p95_s']:.2f} s\n"
        f"{found['service_audio_s_per_s']:.0f} seconds of sound a second, the command "
        f"{found['command_audio_s_per_s']:.0f} without its start "
        f"({found['command_with_start_audio_s_per_s']:.0f} with it): {found['ratio']:.2f} times\n"
        f"memory {statistics.mean(memory[:quarter]):.0f} MB in the first quarter, "
        f"{statistics.mean(memory[-quarter:]):.0f} MB in the last\n"
        f"clips of {SHORT_S:g} s: p95 {found['short_alone_p95_s']:.2f} s alone, "
        f"{found['short_beside_long_p95_s']:.2f} s beside {found['long_minutes']:g} minutes that "
        f"took {found['long_took_s']:.0f} s"
    )
    for failure in found["failures"][:5]:
        print(f"failure: {failure}")


if __name__ == "__main__":
    main()
