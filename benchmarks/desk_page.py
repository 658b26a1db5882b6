"""How long the page takes to open three hours, and how late words follow the sound.

    python benchmarks/desk_page.py runs/finetune --json found.json --screenshots shots

A desk with a recording of --hours is made in a temporary folder, `speechssl serve` started as a
process of its own, and the page opened in Chromium without a window. The first opening makes the
peaks, the others find them in the cache. `list_s` is the time from the address to the first
segments, `drawn_s` that to the waveform. The delay of a word is the place of the sound when the
word is marked, less the word's beginning; a screen of 60 Hz shows it up to 17 ms later. Needs
playwright and a Chromium (--chromium).
"""

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile

from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, Corrections, SpokenWord

RATE = 16000
LETTERS = "abdeghiklmnoprstuwyɔε"

WATCH = """() => {
  const audio = document.getElementById("audio");
  const isFirst = !window.frameTimes;
  window.lags = [];
  window.frameTimes = [];
  const frame = (now) => { window.frameTimes.push(now); requestAnimationFrame(frame); };
  if (isFirst) requestAnimationFrame(frame);
  else return;
  new MutationObserver((changes) => {
    for (const { target } of changes) {
      if (!target.classList.contains("said")) continue;
      const begin = window.begins[target.closest("li").dataset.id][target.dataset.word];
      window.lags.push(audio.currentTime - begin);
    }
  }).observe(document.getElementById("segments"), { subtree: true, attributeFilter: ["class"] });
}"""


def make_desk(folder: Path, hours: float) -> dict[str, list[float]]:
    """A recording of noise that swells like speech, and its segments; the beginnings of the words
    of each."""
    generator = np.random.default_rng(0)
    swell = np.repeat(generator.uniform(0, 1, 600), RATE // 10) ** 2
    minute = (0.3 * swell * generator.uniform(-1, 1, 60 * RATE)).astype(np.float32)
    path = folder / "long.wav"
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for _ in range(round(60 * hours)):
            file.write(minute)
    drawn, segments, time_s = random.Random(0), [], 0.3
    while time_s < hours * 3600 - 8:
        words = []
        for _ in range(drawn.randint(4, 14)):
            text = "".join(drawn.choices(LETTERS, k=drawn.randint(2, 9)))
            end_s = time_s + drawn.uniform(0.15, 0.45)
            words.append(SpokenWord(text, round(time_s, 3), round(end_s, 3), drawn.random() ** 0.3))
            time_s = end_s + 0.03
        text = " ".join(word.text for word in words)
        number = f"s{len(segments):05}"
        segments.append(
            CorrectedSegment(
                number, words[0].start_s, words[-1].end_s, text, text, 0.8, tuple(words)
            )
        )
        time_s += drawn.uniform(0.2, 0.8)
    made = Corrections(path, "", tuple(segments))
    corrections.write(folder / "long.corrections.json", made, "")
    print(f"{hours:g} h, {len(segments)} segments, {sum(len(s.words) for s in segments)} words")
    return {segment.id: [word.start_s for word in segment.words] for segment in segments}


@contextmanager
def serving(model: str, desk: Path, cache: Path) -> Iterator[str]:
    """The address of a service of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "speechssl", "serve", model, "--desk", str(desk)]
    environment = os.environ | {"SPEECHSSL_CACHE": str(cache)}
    process = subprocess.Popen([*command, "--port", str(port)], env=environment)
    address = f"http://localhost:{port}"
    try:
        for _ in range(1200):
            if process.poll() is not None:
                raise RuntimeError("The service has ended; its reason stands above.")
            try:
                with urllib.request.urlopen(f"{address}/healthz"):
                    break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def opening(context: Any, address: str, number: str) -> tuple[Any, dict[str, float]]:
    """The page of the recording in a new tab, and how long it took."""
    page = context.new_page()
    begin = time.perf_counter()
    page.goto(f"{address}/#{number}", wait_until="commit")
    page.wait_for_selector(".segment")
    list_s = time.perf_counter() - begin
    page.wait_for_selector(f"body[data-drawn='{number}']")
    drawn_s = time.perf_counter() - begin
    return page, {"list_s": round(list_s, 3), "drawn_s": round(drawn_s, 3)}


def delays(page: Any, begins: dict[str, list[float]], seconds: float, speed: float) -> Any:
    """Of the words, in seconds of the recording, while it plays at a speed."""
    page.evaluate("begins => { window.begins = begins; }", begins)
    page.evaluate(WATCH)
    page.locator("#speed").select_option(f"{speed:g}")
    page.locator("#play").click()
    page.wait_for_timeout(1000 * seconds)
    page.locator("#play").click()
    lags = np.array(page.evaluate("() => window.lags")) / speed
    frames = np.diff(page.evaluate("() => window.frameTimes"))
    return {
        "speed": speed,
        "words": len(lags),
        "median_ms": round(1000 * float(np.median(lags)), 1),
        "p95_ms": round(1000 * float(np.quantile(lags, 0.95)), 1),
        "largest_ms": round(1000 * float(lags.max()), 1),
        "earliest_ms": round(1000 * float(lags.min()), 1),
        "frame_ms": round(float(np.median(frames)), 1),
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as place, sync_playwright() as started:
        desk = Path(place, "desk")
        desk.mkdir()
        begins = make_desk(desk, args.hours)
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = started.chromium.launch(executable_path=args.chromium, args=options)
        found: dict[str, Any] = {"hours": args.hours, "chromium": browser.version, "warm": []}
        with serving(args.model, desk, Path(place, "cache")) as address:
            with urllib.request.urlopen(f"{address}/desk/recordings") as answer:
                number = json.load(answer)["recordings"][0]["id"]
            context = browser.new_context(viewport={"width": 1280, "height": 860})
            context.set_default_timeout(120_000)
            page, found["first"] = opening(context, address, number)
            for _ in range(args.turns):
                page.close()
                page, times = opening(context, address, number)
                found["warm"].append(times)
            for name in ("list_s", "drawn_s"):
                found[name] = median(times[name] for times in found["warm"])
            found["rows"] = page.locator(".segment").count()
            found["delays"] = [delays(page, begins, args.seconds, speed) for speed in (1, 2)]
            if args.screenshots:
                args.screenshots.mkdir(parents=True, exist_ok=True)
                for theme in ("light", "dark"):
                    page.emulate_media(color_scheme=theme)
                    page.wait_for_timeout(1500)
                    page.screenshot(path=args.screenshots / f"three-hours-{theme}.png")
            context.close()
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a fine-tuned model")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=5, help="openings with a warm cache")
    parser.add_argument("--seconds", type=float, default=30.0, help="of playing, at each speed")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--screenshots", type=Path, help="folder for pictures")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measure(args)
    text = json.dumps(found, indent=1)
    print(text)
    if args.json:
        args.json.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
