"""From recordings to the utterances of a manifest."""

from dataclasses import dataclass, replace

from speechssl.audio import NARROW_SHARE
from speechssl.data.layouts import Recording, Split
from speechssl.data.manifest import Utterance
from speechssl.data.prepare.drop import Dropped
from speechssl.data.prepare.inspection import Inspection
from speechssl.data.prepare.transcripts import clean_text
from speechssl.spelling import name_key


@dataclass(frozen=True)
class Kept:
    """An utterance on its way into a manifest, with what the manifest does not hold."""

    utterance: Utterance
    split: Split | None
    narrow_band: bool


def to_utterances(
    usable: list[tuple[Recording, Inspection]],
) -> tuple[list[Kept], list[Dropped]]:
    """One utterance a recording, or those of a long one, whose silent parts are dropped."""
    kept, dropped = [], []
    for record, seen in usable:
        narrow = seen.high_share < NARROW_SHARE
        text = None if record.text is None else clean_text(record.text)
        whole = Utterance(
            record.id,
            record.audio,
            record.start_s,
            seen.duration_s,
            seen.sample_rate,
            name_key(record.speaker or "") or None,
            text,
        )
        if not seen.cuts:
            kept.append(Kept(whole, record.split, narrow))
        for number, (start_s, duration_s, silent) in enumerate(seen.cuts):
            name = f"{record.id}-{number:03d}"
            if silent:
                reason = f"silent: the part from {start_s:.2f} s, {duration_s:.2f} s long"
                dropped.append(Dropped(name, record.audio, reason))
            else:
                part = replace(whole, id=name, start_s=start_s, duration_s=duration_s)
                kept.append(Kept(part, record.split, narrow))
    return kept, dropped


def unique_ids(kept: list[Kept]) -> list[Kept]:
    """A second `x`, in whichever spelling, becomes `x_2`: sources repeat names, manifests must
    not."""
    keys = [name_key(item.utterance.id) for item in kept]
    taken = set(keys)
    seen: set[str] = set()
    result = []
    for item, own in zip(kept, keys, strict=True):
        name, key, number = item.utterance.id, own, 2
        while key in seen or (key != own and key in taken):
            name, number = f"{item.utterance.id}_{number}", number + 1
            key = name_key(name)
        seen.add(key)
        if name != item.utterance.id:
            item = replace(item, utterance=replace(item.utterance, id=name))
        result.append(item)
    return result
