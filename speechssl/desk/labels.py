"""What was checked, as labels to learn from, and how right the model was on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechssl import audio, shards
from speechssl.data.manifest import Utterance
from speechssl.data.prepare.transcripts import clean_text
from speechssl.desk import corrections
from speechssl.desk.corrections import SUFFIX, CorrectedSegment, Corrections
from speechssl.files import sha256
from speechssl.scoring.wer import EvalResult, score
from speechssl.spelling import name_key


@dataclass(frozen=True)
class Checked:
    """A segment that somebody checked, and the file that it is of."""

    name: str
    """Of the file of corrections, without its suffix."""
    of: Corrections
    segment: CorrectedSegment


def checked_in(folder: Path) -> list[Checked]:
    """The checked segments of all corrections in a folder (or of one file), also those in which
    nothing is said. Errors are those of :func:`corrections.find` and :func:`corrections.read`."""
    found = []
    for path in corrections.find(folder):
        made = corrections.read(path)
        name = path.name.removesuffix(SUFFIX)
        found += [Checked(name, made, segment) for segment in made.segments if segment.checked]
    return found


def to_manifest(folder: Path) -> list[Utterance]:
    """The labels in a folder of corrections as rows of a manifest, transcripts in NFC.

    Raises ValueError where a recording is not there, or is another than the one that was corrected.
    """
    utterances: list[Utterance] = []
    rates: dict[Path, int] = {}
    taken: Counter[str] = Counter()
    for item in checked_in(folder):
        if not item.segment.is_label:
            continue
        place = item.of.audio
        if place not in rates:
            rates[place] = _rate(item.of)
        segment, name = item.segment, f"{item.name}-{item.segment.id}"
        taken[name_key(name)] += 1
        if (times := taken[name_key(name)]) > 1:
            name = f"{name}_{times}"
        utterances.append(
            Utterance(
                name,
                place,
                segment.start_s,
                round(segment.end_s - segment.start_s, 6),
                rates[place],
                name_key(segment.speaker) or None,
                clean_text(segment.text),
            )
        )
    return utterances


def _rate(made: Corrections) -> int:
    """Samples a second of a recording that is still the one that was corrected."""
    try:
        if made.audio_sha256 and audio_digest(made.audio) != made.audio_sha256:
            raise ValueError(
                f"{made.audio} is another recording than the one that was corrected: put that one "
                "back, or correct this one."
            )
        return audio.probe(made.audio).sample_rate
    except OSError as error:
        raise ValueError(
            f"The recording {made.audio}, which was corrected, is not there: put it back, or mend "
            "its path in the corrections."
        ) from error


def audio_digest(path: Path) -> str:
    """SHA-256 of a recording's bytes; of a member of a tar file those of the member. OSError where
    it cannot be read."""
    from hashlib import sha256 as of_bytes

    member = shards.read_member(path)
    return sha256(path) if member is None else of_bytes(member).hexdigest()


def error_rate(items: Sequence[Checked]) -> EvalResult | None:
    """Hypotheses against checked texts, with 95 % intervals; None where nothing was said in any.

    What `next` chose is harder than the rest: it is no estimate for other recordings.
    """
    texts = [clean_text(item.segment.text) for item in items]
    if not any(texts):
        return None
    speakers = [name_key(item.segment.speaker) or None for item in items]
    return score(
        texts,
        [item.segment.hypothesis for item in items],
        ids=[f"{item.name}-{item.segment.id}" for item in items],
        speakers=speakers,
    )
