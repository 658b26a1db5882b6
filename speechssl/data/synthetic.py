"""The embedded corpus of ``speechssl demo``: English read by espeak-ng, made in seconds.

``make_corpus`` writes int16 WAV files at 16 kHz and four manifests: many minutes without text, a
few with, and dev and test sets whose voices and sentences occur nowhere else. The sentences come
from a small grammar (about 400 words), the voices from espeak-ng's accents and voice variants.

Every choice is a function of (seed, split, number of the utterance), so a larger corpus begins with
the smaller one. espeak-ng itself repeats its samples only in a fresh process that is given the same
sentences in the same order; therefore each shard of ``SHARD_UTTERANCES`` is spoken by a process of
its own, this module run with ``python -m``. S is a number of samples.
"""

import ctypes
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import wave as wave_file
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.files import writing
from speechssl.rng import rng

SAMPLE_RATE = 16_000
SPLITS = ("unlabeled", "train", "dev", "test")
SHARD_UTTERANCES = 64
MEAN_UTTERANCE_S = 2.8  # only to plan how many shards to start with

# Every accent of English that the package's data holds, except the one in Shavian script.
ACCENTS = (
    "en",
    "en-us",
    "en-gb-scotland",
    "en-029",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-us-nyc",
)
# Voice variants that can be understood; robots, whispers, croaks and near copies are left out, and
# so are those with breath noise (f2, f3, f5, Alicia, victor): espeak-ng 1.52 renders them in one of
# two ways from run to run. Dev and test have variants of their own, so their speakers are unheard.
TRAINING_VARIANTS = (
    "m1 f1 m2 Andrea m3 f4 m5 m6 shelby m7 Alex grandma Andy Denis anika Diogo Henrique aunty Lee "
    "Michael Mario Mike adam Nguyen boris edward marcelo grandpa ian miguel quincy rob paul zac"
)
VARIANTS = {
    "unlabeled": TRAINING_VARIANTS,
    "train": TRAINING_VARIANTS,
    "dev": "Annie m8 max belinda david robert",
    "test": "linda m4 michel steph Reed benjamin announcer norbert",
}

# sha256 over the samples of the first `REFERENCE_UTTERANCES` of each split with seed 0, as made by
# espeakng-loader 0.2.4 on Linux x86_64.
REFERENCE_VERSION = "0.2.4"
REFERENCE_UTTERANCES = 4
REFERENCE_SHA256 = "75f8161780153dce6276525d569107441f69b5b01ee09f0d3b0c30a8c353121f"

# `<name>` stands for one of the entries of that name. Words that sound like another word of the
# lexicon ("for" beside "four", "to" beside "two") are kept out: no listener could spell them.
PHRASES: dict[str, tuple[str, ...]] = {
    "sentence": (
        "the <adjective> <person> <did> the <thing> <where>",
        "the <adjective> <person> <did> <count> <things>",
        "<name> <did> the <adjective> <thing> <when>",
        "<name> and <name> <did> <count> <things> <where>",
        "please <do> the <thing> <where>",
        "please <do> <count> <adjective> <things> before <time>",
        "where did <name> <do> the <thing>",
        "did the <person> <do> the <adjective> <thing> <when>",
        "the <adjective> <thing> is <where>",
        "there are <count> <things> <where>",
        "the price of the <thing> is <number> dollars",
        "call <name> at <digit> <digit> <digit> <digit> <digit>",
        "the <event> starts at <time> <when>",
        "it was <weather> <when> and <name> stayed <where>",
        "every <animal> <where> wants <food>",
        "i think the <animal> <did> my <thing>",
        "we had <food> and <food> <when>",
        "turn the <device> <switch> <where>",
        "<name> lives at number <number> <street> street",
        "my <relative> was born on <month> <ordinal>",
        "the <vehicle> from <city> leaves at <time>",
        "they never <do> the <things> when it is <weather>",
        "the <color> <thing> costs less than the <color> one",
        "<name> said that the <event> was <opinion>",
        "<number> people <did> the <thing> in <city>",
        "can you <do> the <color> <thing> and the <device>",
        "<adverb> the <person> and the <animal> <did> the <thing>",
    ),
    "where": (
        "in the <place>",
        "near the <place>",
        "behind the <place>",
        "under the <furniture>",
        "beside the <adjective> <furniture>",
        "across the <place>",
    ),
    "when": (
        "on <day>",
        "in <month>",
        "before <time>",
        "after the <event>",
        "yesterday",
        "tomorrow morning",
        "last <day>",
        "every <day>",
    ),
    "time": (
        "<hour> thirty",
        "<hour> fifteen",
        "half past <hour>",
        "<hour> in the evening",
    ),
    "number": (
        "<tens> <digit>",
        "<tens>",
        "<teen>",
        "<digit> hundred",
        "<digit> hundred <tens>",
    ),
    "count": (
        "<digit>",
        "<teen>",
        "<tens>",
        "several",
        "many",
        "a dozen",
        "only <digit>",
    ),
}
WORDS = {
    "digit": "one two three four five six seven eight nine",
    "hour": "one two three four five six seven eight nine ten eleven twelve",
    "teen": "ten eleven twelve thirteen fourteen fifteen sixteen nineteen",
    "tens": "twenty thirty forty fifty sixty seventy eighty ninety",
    "ordinal": "first second third fourth fifth sixth seventh tenth twentieth",
    "day": "monday tuesday wednesday thursday friday saturday sunday",
    "month": (
        "january february march april may june july august september october november december"
    ),
    "name": (
        "anna peter maria david laura simon helen oscar nina victor emma thomas julia martin "
        "sarah robert linda george alice kevin"
    ),
    "person": (
        "farmer doctor teacher driver painter singer lawyer student captain baker neighbor "
        "soldier writer dancer tailor visitor manager pilot carpenter nurse"
    ),
    "relative": "mother father sister brother uncle cousin grandmother nephew",
    "animal": (
        "horse rabbit elephant tiger monkey camel donkey chicken turtle spider dolphin puppy "
        "kitten parrot lizard wolf"
    ),
    "adjective": (
        "old young heavy yellow quiet happy angry broken empty dirty famous hungry lonely "
        "modern narrow perfect rusty secret silver simple strange tiny ugly wooden useful "
        "golden clever gentle lazy expensive"
    ),
    "color": "yellow purple orange silver brown pink black golden",
    "opinion": "boring wonderful terrible noisy short useful crowded quiet",
    "weather": "raining snowing windy cloudy sunny foggy freezing",
    "adverb": "suddenly slowly finally perhaps usually later",
    "did": (
        "carried painted opened forgot watched bought dropped followed cleaned borrowed "
        "counted ordered repaired covered pushed remembered finished returned noticed "
        "collected visited measured"
    ),
    "do": (
        "carry paint open forget watch bring drop follow clean borrow count order repair "
        "cover push remember finish return collect measure"
    ),
    "thing": (
        "basket letter window picture bottle camera candle pocket ladder hammer jacket guitar "
        "mirror package pencil pillow ticket umbrella wallet blanket envelope barrel compass "
        "necklace newspaper"
    ),
    "things": (
        "baskets letters windows pictures bottles cameras candles pockets ladders hammers "
        "jackets guitars mirrors packages pencils pillows tickets umbrellas wallets blankets "
        "envelopes barrels"
    ),
    "furniture": "table sofa cupboard ladder carpet staircase bench counter",
    "device": "lamp heater radio engine fountain television fan",
    "switch": "on off",
    "place": (
        "garden kitchen market river mountain station library village castle forest factory "
        "harbor hospital museum office valley theater bridge school island desert church"
    ),
    "city": "london paris berlin madrid boston chicago dublin cairo lisbon vienna",
    "street": "garden river castle market station orange elephant silver",
    "vehicle": "bus tractor ferry airplane taxi wagon",
    "event": "meeting concert wedding lesson festival funeral breakfast dinner",
    "food": (
        "bread butter cheese coffee honey lemon mushrooms onions pepper potatoes rice salad "
        "soup sugar tomatoes carrots"
    ),
}
GRAMMAR = PHRASES | {name: tuple(words.split()) for name, words in WORDS.items()}
BUCKETS = {"unlabeled": range(40, 100), "train": range(40, 100), "dev": range(20, 40)}
BUCKETS["test"] = range(20)  # of 100: the share of all sentences that a split may draw from


@dataclass(frozen=True)
class CorpusPaths:
    """A finished corpus on disk."""

    unlabeled: Path
    """Manifest without text."""
    train: Path
    """Manifest with text, from the speakers of `unlabeled`."""
    dev: Path
    """Manifest with text; speakers and sentences of its own."""
    test: Path
    """Manifest with text; speakers and sentences of its own."""
    sha256: str
    """Over the int16 samples of all utterances in manifest order: equal corpora, equal digests."""
    note: str | None
    """A sentence for the person if the audio is not known to be the reference audio."""


@dataclass(frozen=True)
class Speaker:
    """One espeak-ng voice with its habits."""

    accent: str
    variant: str
    words_per_minute: int
    pitch: int
    """espeak-ng's scale, 0 to 99, 50 is the variant's own."""

    @property
    def name(self) -> str:
        return f"{self.accent}_{self.variant}"

    @property
    def voice(self) -> str:
        return f"{self.accent}+{self.variant}"


@dataclass(frozen=True)
class Script:
    """What the speaking process needs to know about one utterance."""

    id: str
    speaker: str
    text: str
    voice: str
    words_per_minute: int
    pitch: int
    gain_db: float
    lead_s: float
    """Silence before the speech."""
    tail_s: float
    """Silence after it."""


@dataclass(frozen=True)
class Spoken:
    """What came of a script: the written file's length and the digest of its samples."""

    script: Script
    num_samples: int
    sha256: str

    @property
    def duration_s(self) -> float:
        return self.num_samples / SAMPLE_RATE


# -- what is said, and by whom ------------------------------------------------------------------


def make_sentence(generator: np.random.Generator, symbol: str = "sentence") -> str:
    """A random sentence of lower-case words separated by single spaces."""
    entries = GRAMMAR[symbol]
    entry = entries[int(generator.integers(len(entries)))]
    return re.sub(r"<(\w+)>", lambda match: make_sentence(generator, match[1]), entry)


def lexicon() -> set[str]:
    """Every word that a sentence may hold."""
    entries = " ".join(entry for entries in GRAMMAR.values() for entry in entries)
    return set(re.sub(r"<\w+>", " ", entries).split())


def sentence_bucket(sentence: str) -> int:
    """0..99 by a hash of the sentence: which split may say it, whatever the sizes of the splits."""
    return int.from_bytes(hashlib.blake2b(sentence.encode(), digest_size=4).digest(), "big") % 100


def speakers(split: str) -> list[Speaker]:
    """The voices of a split: every variant of it with two of the accents."""
    found = []
    for i, variant in enumerate(VARIANTS[split].split()):
        for accent in (ACCENTS[i % len(ACCENTS)], ACCENTS[(i + 3) % len(ACCENTS)]):
            habits = rng(0, "synthetic speaker", accent, variant)
            words_per_minute, pitch = habits.integers((140, 38), (190, 63))
            found.append(Speaker(accent, variant, int(words_per_minute), int(pitch)))
    return found


def scripts(split: str, seed: int) -> Iterator[Script]:
    """The endless list of utterances of a split; no sentence occurs twice."""
    voices, said, number = speakers(split), set[str](), 0
    while True:
        generator = rng(seed, "synthetic", split, number)
        text = make_sentence(generator)
        while sentence_bucket(text) not in BUCKETS[split] or text in said:
            text = make_sentence(generator)
        said.add(text)
        # Blocks of len(voices) utterances hold each voice once, in an order of their own.
        block = rng(seed, "synthetic voices", split, number // len(voices))
        speaker = voices[int(block.permutation(len(voices))[number % len(voices)])]
        yield Script(
            id=f"{split}_{number:05d}",
            speaker=speaker.name,
            text=text,
            voice=speaker.voice,
            words_per_minute=speaker.words_per_minute + int(generator.integers(-8, 9)),
            pitch=speaker.pitch + int(generator.integers(-4, 5)),
            gain_db=round(float(generator.uniform(-6.0, 0.0)), 2),
            lead_s=round(float(generator.uniform(0.05, 0.2)), 3),
            tail_s=round(float(generator.uniform(0.05, 0.2)), 3),
        )
        number += 1


# -- the corpus ---------------------------------------------------------------------------------


def make_corpus(
    out: str | Path,
    *,
    unlabeled_minutes: float,
    labeled_minutes: float,
    dev_minutes: float,
    test_minutes: float,
    seed: int = 0,
    num_workers: int = 2,
) -> CorpusPaths:
    """Write the corpus into the folder `out` and return where its manifests are.

    Each split is the shortest beginning of its endless list that holds the asked minutes. A
    finished corpus with the same settings is used again; one with other settings is replaced.
    Raises ValueError for impossible sizes, for a missing espeakng-loader, and for failed speech.
    """
    minutes = dict(
        zip(SPLITS, (unlabeled_minutes, labeled_minutes, dev_minutes, test_minutes), strict=True)
    )
    for split, value in minutes.items():
        if not 0 < value <= 6000:
            raise ValueError(f"the {split} minutes are {value}; give more than 0, at most 6000")
    if num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}; give 1 or more")
    out = Path(out).resolve()
    version = _espeak_loader()[2]
    settings = {"minutes": minutes, "seed": seed, "espeakng_loader": version, "format": 1}
    marker = out / "corpus.json"
    known = _read_marker(marker)
    if known is not None and known["settings"] == settings and _is_complete(out, known):
        return _paths(out, known["sha256"], known["note"])
    if known is not None:  # ours, but unfinished or of other settings
        for file in _wav_files(out):
            file.unlink()
    out.mkdir(parents=True, exist_ok=True)
    _write_marker(marker, {"settings": settings, "files": None, "sha256": None, "note": None})
    with ThreadPoolExecutor(num_workers) as pool:
        spoken = _speak_splits(out, minutes, seed, pool)
    for split, utterances in spoken.items():
        _write_manifest(out, split, utterances)
    digest = _digest(s for split in SPLITS for s in spoken[split])
    note = _compare(spoken, seed, version)
    files = sum(map(len, spoken.values()))
    _write_marker(marker, {"settings": settings, "files": files, "sha256": digest, "note": note})
    return _paths(out, digest, note)


def _speak_splits(
    out: Path, minutes: dict[str, float], seed: int, pool: ThreadPoolExecutor
) -> dict[str, list[Spoken]]:
    """All splits, shard by shard, until each has its minutes; files beyond them are removed."""
    streams = {split: scripts(split, seed) for split in SPLITS}
    spoken: dict[str, list[Spoken]] = {split: [] for split in SPLITS}
    wanted_s = {split: 60 * minutes[split] for split in SPLITS}
    while missing_s := {
        split: wanted_s[split] - sum(s.duration_s for s in spoken[split])
        for split in SPLITS
        if sum(s.duration_s for s in spoken[split]) < wanted_s[split]
    }:
        started = []
        for split, lack_s in missing_s.items():
            for _ in range(math.ceil(lack_s / (SHARD_UTTERANCES * MEAN_UTTERANCE_S))):
                shard = list(islice(streams[split], SHARD_UTTERANCES))
                started.append((split, pool.submit(_speak_shard, out / "wav" / split, shard)))
        for split, shard_result in started:
            spoken[split] += shard_result.result()
    for split, utterances in spoken.items():
        ends_s = np.cumsum([s.duration_s for s in utterances])
        keep = int(np.searchsorted(ends_s, wanted_s[split])) + 1
        for extra in utterances[keep:]:
            _wav_path(out / "wav" / split, extra.script.id).unlink()
        del utterances[keep:]
    return spoken


def _speak_shard(folder: Path, shard: list[Script]) -> list[Spoken]:
    """Let a fresh process speak the shard into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    # -P keeps the caller's folder off the path; our own package is named instead.
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "speechssl.data.synthetic"],
        input=json.dumps({"folder": str(folder), "scripts": [asdict(s) for s in shard]}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ValueError(f"espeak-ng could not speak {shard[0].id} to {shard[-1].id}: {reason}")
    results = json.loads(done.stdout)
    return [Spoken(script, *result) for script, result in zip(shard, results, strict=True)]


def _write_manifest(out: Path, split: str, spoken: list[Spoken]) -> None:
    from speechssl.data.manifest import Utterance, write_manifest

    utterances = [
        Utterance(
            id=s.script.id,
            audio=_wav_path(out / "wav" / split, s.script.id),
            start_s=0.0,
            duration_s=s.duration_s,
            sample_rate=SAMPLE_RATE,
            speaker=s.script.speaker,
            text=None if split == "unlabeled" else s.script.text,
        )
        for s in spoken
    ]
    write_manifest(out / f"{split}.jsonl", utterances)


def _digest(spoken: Iterable[Spoken]) -> str:
    return hashlib.sha256("".join(s.sha256 for s in spoken).encode()).hexdigest()


def _compare(spoken: dict[str, list[Spoken]], seed: int, version: str) -> str | None:
    """None if the audio is the reference audio, or a sentence that says why it may differ."""
    first = [s for split in SPLITS for s in spoken[split][:REFERENCE_UTTERANCES]]
    if seed != 0 or len(first) < REFERENCE_UTTERANCES * len(SPLITS):
        return None  # nothing to compare with
    if _digest(first) == REFERENCE_SHA256:
        return None
    if version != REFERENCE_VERSION:
        return (
            f"espeakng-loader {version} is installed, the published numbers were made with "
            f"{REFERENCE_VERSION}: the speech differs a little, and so may the error rates"
        )
    return (
        f"the speech made by espeakng-loader {version} on {platform.system()} "
        f"{platform.machine()} is not sample for sample that of the published numbers (Linux "
        "x86_64): error rates may differ a little"
    )


def _paths(out: Path, digest: str, note: str | None) -> CorpusPaths:
    unlabeled, train, dev, test = (out / f"{split}.jsonl" for split in SPLITS)
    return CorpusPaths(unlabeled, train, dev, test, digest, note)


def _read_marker(marker: Path) -> dict[str, Any] | None:
    """The settings a corpus was started with, None if there is none."""
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    keys = {"settings", "files", "sha256", "note"}
    return found if isinstance(found, dict) and set(found) == keys else None


def _is_complete(out: Path, known: dict[str, Any]) -> bool:
    """Whether all that a finished corpus wrote is still there."""
    manifests = all((out / f"{split}.jsonl").is_file() for split in SPLITS)
    return manifests and known["files"] == len(_wav_files(out))


def _wav_files(out: Path) -> list[Path]:
    """The files under `out` that bear the name of an utterance."""
    return [file for split in SPLITS for file in (out / "wav" / split).glob(f"{split}_*.wav")]


def _write_marker(marker: Path, content: dict[str, Any]) -> None:
    with writing(marker) as file:
        file.write(json.dumps(content, indent=1) + "\n")


def _wav_path(folder: Path, utterance_id: str) -> Path:
    return folder / f"{utterance_id}.wav"


# -- the speaking process -----------------------------------------------------------------------


def _espeak_loader() -> tuple[str, str, str]:
    """(shared library, data folder, version) of the espeakng-loader package."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise ValueError(
            "the demo's speech needs the package espeakng-loader; "
            "install it with: pip install 'speechssl[demo]'"
        ) from error
    version = importlib.metadata.version("espeakng-loader")
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path(), version


class Espeak:
    """espeak-ng through ctypes; one per process, since the library keeps global state.

    Changes the process's current folder.
    """

    _SYNCHRONOUS, _DO_NOT_EXIT, _UTF8, _RATE, _PITCH = 2, 0x8000, 1, 1, 3

    def __init__(self) -> None:
        library, data, _ = _espeak_loader()
        self._library = ctypes.CDLL(library)
        self._blocks: list[bytes] = []
        callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
        )  # (int16 samples, their number, events) -> 0 to go on
        self._callback = callback(self._receive)
        # The library keeps the path in 160 bytes and long ones fail: a relative path is short.
        os.chdir(Path(data).parent)
        self.sample_rate = int(
            self._library.espeak_Initialize(
                self._SYNCHRONOUS, 200, os.fsencode(Path(data).name), self._DO_NOT_EXIT
            )
        )
        if self.sample_rate <= 0:
            raise ValueError(f"espeak-ng cannot use its data in {data}; reinstall espeakng-loader")
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: int | None, num_samples: int, _events: int | None) -> int:
        if samples and num_samples > 0:
            self._blocks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    def say(self, script: Script) -> np.ndarray:
        """(S,) int16 at ``sample_rate``."""
        if self._library.espeak_SetVoiceByName(script.voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {script.voice}")
        self._library.espeak_SetParameter(self._RATE, script.words_per_minute, 0)
        self._library.espeak_SetParameter(self._PITCH, script.pitch, 0)
        self._blocks.clear()
        text = script.text.encode()
        if self._library.espeak_Synth(text, len(text) + 1, 0, 0, 0, self._UTF8, None, None) != 0:
            raise ValueError(f"espeak-ng refused to say: {script.text}")
        return np.frombuffer(b"".join(self._blocks), dtype=np.int16)


def finish_wave(spoken: np.ndarray, source_rate: int, script: Script) -> np.ndarray:
    """(S,) int16 of espeak-ng -> (S',) int16 at 16 kHz with the script's gain and silences.

    Worked out in float64, so that rounding to int16 hides what processors do differently.
    """
    import soxr

    resampled = soxr.resample(spoken / 32768.0, source_rate, SAMPLE_RATE, quality="VHQ")  # (S',)
    peak = float(np.abs(resampled).max(initial=0.0))
    if len(resampled) < SAMPLE_RATE // 2 or peak < 0.02:
        raise ValueError(f"the voice {script.voice} stayed silent at: {script.text}")
    # Loudness is made equal before the gain: variants differ by 18 dB and some reach full scale.
    active = resampled[np.abs(resampled) > 0.01 * peak]
    gain = 10 ** (script.gain_db / 20) * 0.12 / math.sqrt(float(np.mean(active**2)))
    gain = min(gain, 0.98 / peak)
    lead, tail = (round(seconds * SAMPLE_RATE) for seconds in (script.lead_s, script.tail_s))
    padded = np.pad(resampled * gain, (lead, tail))
    return np.round(padded * 32767).astype("<i2")


def _speak(folder: Path, shard: list[Script]) -> list[tuple[int, str]]:
    """Write each script's WAV; (number of samples, sha256 of the samples) of each."""
    espeak, results = Espeak(), []
    for script in shard:
        samples = finish_wave(espeak.say(script), espeak.sample_rate, script).tobytes()
        with wave_file.open(str(_wav_path(folder, script.id)), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(samples)
        results.append((len(samples) // 2, hashlib.sha256(samples).hexdigest()))
    return results


def _main() -> int:
    """Read a shard as JSON from stdin, speak it, write its results as JSON to stdout."""
    job = json.load(sys.stdin)
    try:
        results = _speak(Path(job["folder"]), [Script(**fields) for fields in job["scripts"]])
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(results, sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
