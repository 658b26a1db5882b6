"""Long recordings of a source with a transcript each, cut into utterances before `prepare`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from speechssl.audio import AudioError, probe
from speechssl.data.layouts import Recording
from speechssl.data.prepare import Dropped
from speechssl.inference.align import Aligner
from speechssl.inference.cut import MIN_CONFIDENCE, Cut, cut_aligned
from speechssl.inference.known_text import known_text
from speechssl.inference.recordings import Clip
from speechssl.spelling import is_blank


@dataclass
class CutRecordings:
    """What became of the recordings of a source."""

    recordings: list[Recording] = field(default_factory=list)
    """In their order: the utterances of long ones with a transcript, the others as they were."""
    left_out: list[Dropped] = field(default_factory=list)
    """Stretches of long ones whose text and sound do not fit together, and whole ones."""
    num_cut: int = 0
    num_utterances: int = 0
    utterances_s: float = 0.0
    recordings_s: float = 0.0

    def describe(self) -> str:
        """A line for a person."""
        return (
            f"{self.num_cut} long recordings with a transcript ({self.recordings_s / 3600:.2f} h) "
            f"were aligned and cut into {self.num_utterances} utterances "
            f"({self.utterances_s / 3600:.2f} h)"
        )


def cut_recordings(
    recordings: Iterable[Recording],
    aligner: Aligner,
    *,
    longer_than_s: float,
    max_s: float,
    min_confidence: float = MIN_CONFIDENCE,
    say: Callable[[str], None],
) -> CutRecordings:
    """Align the recordings of more than `longer_than_s` seconds that have a transcript, and cut
    them (:func:`speechssl.inference.cut.cut_aligned`).

    `say` gets a sentence for each. One whose text is not of it, or that cannot be read, does not
    end the others: the first is left out with the reason, the second is for `prepare` to name.
    """
    made = CutRecordings()
    for record in recordings:
        seconds = _seconds(record)
        if is_blank(record.text) or seconds <= longer_than_s:
            made.recordings.append(record)
            continue
        try:
            cuts = _cut(record, aligner, max_s, min_confidence, say)
        except (AudioError, OSError):
            made.recordings.append(record)
            continue
        except ValueError as error:
            made.left_out.append(
                Dropped(record.id, record.audio, f"text that cannot be aligned: {error}")
            )
            say(f"{record.id} is left out: {error}")
            continue
        made.num_cut += 1
        made.recordings_s += seconds
        _take(made, record, cuts, say)
    return made


def _take(
    made: CutRecordings, record: Recording, cuts: list[Cut], say: Callable[[str], None]
) -> None:
    kept_s, num_kept = 0.0, 0
    for number, cut in enumerate(cuts):
        name, seconds = f"{record.id}-{number:03d}", cut.end_s - cut.start_s
        if cut.reason:
            made.left_out.append(Dropped(name, record.audio, cut.reason))
            continue
        start_s = record.start_s + cut.start_s
        made.recordings.append(
            replace(record, id=name, start_s=start_s, duration_s=seconds, text=cut.text)
        )
        kept_s, num_kept = kept_s + seconds, num_kept + 1
    made.num_utterances += num_kept
    made.utterances_s += kept_s
    say(
        f"{record.id}: {num_kept} utterances, {kept_s:.0f} s; {len(cuts) - num_kept} stretches "
        "are left out."
    )


def _seconds(record: Recording) -> float:
    """How long a recording is; 0 where it cannot be opened."""
    if record.duration_s is not None:
        return record.duration_s
    try:
        return probe(record.audio).duration_s - record.start_s
    except (AudioError, OSError):
        return 0.0


def _cut(
    record: Recording,
    aligner: Aligner,
    max_s: float,
    min_confidence: float,
    say: Callable[[str], None],
) -> list[Cut]:
    known = known_text((record.text or "").split("\n"), aligner.tokenizer, f"that of {record.id}")
    if known.unknown:
        listed = " ".join(list(known.unknown)[:20])
        say(f"{record.id} has letters that the model does not know: {listed}.")
    clip = Clip(record.id, record.audio, record.start_s, record.duration_s)
    return cut_aligned(aligner(clip, known), max_s=max_s, min_confidence=min_confidence)
