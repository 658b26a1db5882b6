"""A desk with recordings and corrections, for tests of its routes and of its page."""

import random
from pathlib import Path

import numpy as np

from speechssl import audio
from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, Corrections, SpokenWord

WORDS = ["wó", "twεrε", "ya", "poo", "lekulu", "ngá", "bi", "mwana", "asi", "na"]


def tone(duration_s: float, rate: int = 16000, hertz: float = 440.0) -> np.ndarray:
    """(S,) float32, which swells and fades."""
    time = np.arange(round(duration_s * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * hertz * time) * np.sin(np.pi * time) ** 2).astype(np.float32)


def segments(duration_s: float, words: list[str] = WORDS, step_s: float = 4.0):
    """A segment each `step_s` seconds: seven words of 0.4 s, 0.05 s apart, from 0.5 s on; the third
    word is doubtful, the fifth very doubtful."""
    generator, made = random.Random(0), []
    for number in range(int(duration_s / step_s)):
        begin = number * step_s + 0.5
        spoken = tuple(
            SpokenWord(
                generator.choice(words),
                round(begin + 0.45 * k, 3),
                round(begin + 0.45 * k + 0.4, 3),
                {2: 0.6, 4: 0.2}.get(k, 0.95),
            )
            for k in range(7)
        )
        text = " ".join(word.text for word in spoken)
        made.append(
            CorrectedSegment(
                f"s{number:05}", begin, spoken[-1].end_s, text, text, 0.75, spoken, "abiayi"
            )
        )
    return tuple(made)


def add_recording(
    desk: Path, name: str, duration_s: float, *, rate: int = 16000, words=WORDS, text=True
) -> Path:
    """A recording in the desk, with corrections that nobody has checked."""
    path = desk / name
    subtype = "PCM_U8" if rate < 8000 else "PCM_16"
    if path.suffix in (".mp3", ".ogg"):
        subtype = None
    audio.write(path, tone(duration_s, rate), rate, subtype=subtype)
    if text:
        made = Corrections(path, "", segments(duration_s, words))
        corrections.write(path.with_suffix(corrections.SUFFIX), made, "")
    return path


def ids(client) -> dict[str, str]:
    answer = client.get("/desk/recordings").json()
    return {row["name"]: row["id"] for row in answer["recordings"]}


def opened(client, name: str):
    answer = client.get(f"/desk/recordings/{ids(client)[name]}")
    return answer.json(), answer.headers["etag"]


def save(client, number: str, segments, tag: str):
    return client.put(
        f"/desk/recordings/{number}/corrections",
        json={"segments": segments},
        headers={"if-match": tag},
    )
