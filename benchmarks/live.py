"""Live transcription: how soon text comes, whether it keeps up, and what it costs in errors.

    python benchmarks/live.py runs/finetune data/dev.jsonl --minutes 10 --json live.json

Utterances of a manifest are joined to recordings of one speaker each, which come block by block on
a clock of their own: a block is there when its sound has ended, and computing takes the time that
it takes. Blocks that have come meanwhile are fed together, as the command does it. Stated are, at
the median and the 95th percentile: the time from the beginning of the first word of a segment until
text of it is shown, from the end of its last word until that is final, and the same of each word;
the share of the time that is computed; and the character error rate beside that of the same
recordings as files.

``--joined`` takes the silence from both ends of each utterance: speech without pauses. With
``--clock process`` the process's own time counts, where other programs share the cores.

The JSON's `ratio` is the error rate of the files over that of the live text.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jiwer
import numpy as np

from benchmarks.comparison import write_comparison
from speechssl import audio
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.inference.live import LiveConfig, LiveEvent, LiveTranscriber
from speechssl.inference.transcribe import Transcriber, transcribe
from speechssl.interop.sources import open_model
from speechssl.text.normalize import normalize

QUIET_DB = 33.0
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "process": time.process_time,
}


@dataclass
class Found:
    """Of all recordings."""

    first_s: list[float] = field(default_factory=list)
    """From the beginning of each segment's first word until text that reaches it is shown."""
    final_s: list[float] = field(default_factory=list)
    """From the end of each word until it is final."""
    ends_s: list[float] = field(default_factory=list)
    """The same of the last word of each segment: how long a speaker who pauses waits."""
    computed_s: float = 0.0
    num_partial: int = 0
    latest_s: float = 0.0
    """The most that a block has waited."""
    texts: list[str] = field(default_factory=list)


def main() -> None:
    """Run live and as files, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0, help="in all")
    parser.add_argument("--recording-minutes", type=float, default=1.0, help="of each, at most")
    parser.add_argument("--block-s", type=float, default=0.05)
    parser.add_argument("--joined", action="store_true")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    for name in ("pause_s", "max_s", "context_s", "partial_s"):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=getattr(LiveConfig, name))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    checkpoint = open_model(args.model)
    rate = checkpoint.speech.config.sample_rate
    recordings = join(read_manifest(args.manifest), args, rate)
    total_s = sum(len(wave) for wave, _ in recordings) / rate
    config = LiveConfig(
        pause_s=args.pause_s,
        max_s=args.max_s,
        context_s=args.context_s,
        partial_s=args.partial_s or None,
    )
    ready = Transcriber(checkpoint)
    found = Found()
    for wave, _ in recordings:
        follow(ready, wave, config, args.block_s, CLOCKS[args.clock], found)
    truth = [text for _, text in recordings]
    files = [transcribe(checkpoint, wave).text for wave, _ in recordings]
    live_cer, file_cer = (error_rate(truth, texts) for texts in (found.texts, files))
    row = {
        "audio_s": round(total_s, 1),
        "first_text_s": percentiles(found.first_s),
        "last_word_final_s": percentiles(found.ends_s),
        "each_word_final_s": percentiles(found.final_s),
        "share_of_time": round(found.computed_s / total_s, 4),
        "longest_wait_s": round(found.latest_s, 3),
        "partial_texts_a_second": round(found.num_partial / total_s, 2),
        "live_cer": round(live_cer, 4),
        "file_cer": round(file_cer, 4),
        "relative_difference": round(live_cer / max(file_cer, 1e-9) - 1, 4),
        "live_against_file": round(error_rate(files, found.texts), 4),
    }
    for name, value in row.items():
        print(f"{name:24} {value}")
    if args.json:
        write_comparison(
            args.json,
            ratio=round(file_cer / max(live_cer, 1e-9), 4),
            ours=row["live_cer"],
            peer=row["file_cer"],
            unit="character error rate, live and of the file",
            conditions={name: str(value) for name, value in vars(args).items() if name != "json"},
            rows=[row],
        )


def join(
    utterances: Sequence[Utterance], args: argparse.Namespace, rate: int
) -> list[tuple[np.ndarray, str]]:
    """Waves (S,) of a speaker each, and what is said in them; `args.minutes` in all, the speakers
    in turns."""
    by_speaker: dict[str, list[Utterance]] = {}
    for each in utterances:
        if each.text:
            by_speaker.setdefault(each.speaker or "", []).append(each)
    left_s, found = 60 * args.minutes, []
    while left_s > 0 and any(by_speaker.values()):
        for own in by_speaker.values():
            waves: list[np.ndarray] = []
            texts: list[str] = []
            most = min(60 * args.recording_minutes, left_s) * rate
            while own and sum(map(len, waves)) < most:
                each = own.pop(0)
                wave = audio.read(
                    each.audio, sample_rate=rate, start_s=each.start_s, duration_s=each.duration_s
                )
                waves.append(trimmed(wave, rate) if args.joined else wave)
                texts.append(each.text or "")
            if waves:
                found.append((np.concatenate(waves), " ".join(texts)))
                left_s -= len(found[-1][0]) / rate
    return found


def trimmed(wave: np.ndarray, rate: int) -> np.ndarray:
    """Without what lies far below its loudest at both ends."""
    size = rate // 50
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    energy = np.square(frames).mean(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-QUIET_DB / 10))
    return wave[loud[0] * size : (loud[-1] + 1) * size]


def follow(
    ready: Transcriber,
    wave: np.ndarray,
    config: LiveConfig,
    block_s: float,
    clock: Callable[[], float],
    found: Found,
) -> None:
    """One recording as it would come; adds to `found`."""
    live = LiveTranscriber(ready, config=config, clock=clock)
    live.warm_up()
    size = round(block_s * live.sample_rate)
    there_s = [min(at + size, len(wave)) / live.sample_rate for at in range(0, len(wave), size)]
    shown: list[tuple[float, LiveEvent]] = []
    now_s, block = 0.0, 0
    while block < len(there_s):
        now_s = max(now_s, there_s[block])
        last = block + 1
        while last < len(there_s) and there_s[last] <= now_s:
            last += 1
        found.latest_s = max(found.latest_s, now_s - there_s[block])
        begun = clock()
        events = live.feed(wave[block * size : last * size])
        cost_s = clock() - begun
        now_s, block = now_s + cost_s, last
        found.computed_s += cost_s
        shown += [(now_s, event) for event in events]
    begun = clock()
    events = live.finish()
    cost_s = clock() - begun
    found.computed_s += cost_s
    shown += [(now_s + cost_s, event) for event in events]
    for at_s, event in shown:
        found.num_partial += event.kind == "partial"
        if event.kind == "final":
            seen_s = next(at for at, e in shown if e.text and e.end_s > event.start_s)
            found.first_s.append(seen_s - event.start_s)
            found.ends_s.append(at_s - event.end_s)
            found.final_s += [at_s - word.end_s for word in event.words]
    found.texts.append(" ".join(event.text for _, event in shown if event.kind == "final"))


def percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(values or [0.0], p)), 3) for p in (50, 95)}


def error_rate(truth: Sequence[str], texts: Sequence[str]) -> float:
    return float(
        jiwer.cer([normalize(t, "basic") for t in truth], [normalize(t, "basic") for t in texts])
    )


if __name__ == "__main__":
    main()
