"""Who says what: an endless list of utterances for each split."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from speechssl.data.synthetic.grammar import make_sentence
from speechssl.rng import rng

SPLITS = ("unlabeled", "train", "dev", "test")

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

BUCKETS = {"unlabeled": range(40, 100), "train": range(40, 100), "dev": range(20, 40)}

BUCKETS["test"] = range(20)  # of 100: the share of all sentences that a split may draw from


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
