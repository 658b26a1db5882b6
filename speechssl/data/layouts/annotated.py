"""Recordings with files of annotations: ELAN, Praat, subtitles, labels, tables of times, CTM, STM.

Each segment with a text is an utterance; what lies between is there too, without a transcript. A
file belongs to the recording that it names (MEDIA_DESCRIPTOR of ELAN, the first column of CTM), or
that has its name; a recording that was moved is found by its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from speechssl.annotations import (
    Annotations,
    Tier,
    TierChoice,
    TierError,
    choose_tiers,
    describe_tiers,
)
from speechssl.annotations.reading import read_all
from speechssl.audio import AudioError, probe
from speechssl.data.layouts.folder import read_folder
from speechssl.data.layouts.join import join_table
from speechssl.data.layouts.listing import Listing
from speechssl.data.layouts.media import Sessions, annotation_files, rank
from speechssl.data.layouts.plain_text import MOST_LISTED
from speechssl.data.layouts.recording import Recording, nfc, stem
from speechssl.data.layouts.timed_table import read_timed_table
from speechssl.data.layouts.unused import Account

END_S = 0.25
"""By so much a segment may go beyond the end of its recording: programs round."""

_CHOOSE = "Choose with --tier NAME (tx@* means all that begin with tx@) or --tier-type TYPE"


@dataclass
class _Seen:
    """What files of annotations held that is no utterance, by the names of their first places."""

    no_media: list[str] = field(default_factory=list)
    first_media: str = ""
    unreadable: dict[str, str] = field(default_factory=dict)
    ambiguous: dict[str, Annotations] = field(default_factory=dict)
    no_tier: dict[str, Annotations] = field(default_factory=dict)
    blank: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    unplaced: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """The first reason of a kind, and the annotations."""
    taken: dict[Path, str] = field(default_factory=dict)
    """The file that a recording's utterances are of."""
    second: list[str] = field(default_factory=list)


def read_annotated(
    listing: Listing, choice: TierChoice, account: Account, *, only: str | None = None
) -> list[Recording]:
    """All recordings of a folder, those with files of annotations in their segments.

    `only`: the one file of annotations that is meant, and its recordings alone. Raises ValueError
    where the tiers that are meant are unclear or nowhere (they are listed), and where no file of
    annotations can be read and nothing else has a transcript.
    """
    sessions, seen = Sessions(listing), _Seen()
    rows: list[Recording] = []
    lengths: dict[Path, float | None] = {}
    documents = sorted(annotation_files(listing), key=rank) if only is None else [only]
    for document in documents:
        for annotations in _read(document, sessions, seen, account):
            rows += _rows_of(document, annotations, choice, sessions, seen, lengths)
    _raise_if_unclear(seen, choice, found=bool(rows))
    mains = {nfc(str(row.audio)) for row in rows}
    spare = sessions.spare(mains)
    kept = [path for path in listing.audio if path not in spare]
    if only is not None:
        kept = [path for path in kept if nfc(path) in mains]
    account.add(
        "recordings",
        sorted(spare),
        "they are of the same session as another one, which is taken",
    )
    recordings = read_folder(
        listing.folder,
        listing=replace(listing, audio=kept),
        in_table=lambda path: nfc(path) in mains,
        account=account,
    )
    joined, elsewhere = join_table(recordings, rows, all_timed=True)
    if seen.unreadable and not any(each.text is not None for each in (*joined, *elsewhere)):
        raise ValueError(_all_unreadable(seen.unreadable))
    _tell(seen, choice, account)
    return joined + elsewhere


def _read(document: str, sessions: Sessions, seen: _Seen, account: Account) -> list[Annotations]:
    """The annotations of a file, whose recording is known then; none where it cannot be read."""
    path = Path(document)
    try:
        if sessions.is_table(document):
            found = [read_timed_table(path, sessions.beside(document)[0])]
        else:
            found = read_all(path)
    except (ValueError, OSError) as error:
        seen.unreadable[document] = str(error)
        return []
    account.use(document)
    return found


def _rows_of(
    document: str,
    annotations: Annotations,
    choice: TierChoice,
    sessions: Sessions,
    seen: _Seen,
    lengths: dict[Path, float | None],
) -> list[Recording]:
    """The utterances of one recording; what is none goes to `seen`."""
    found = sessions.find(document, annotations)
    if found is None:
        seen.no_media.append(document)
        places = [place for media in annotations.media for place in media.places]
        seen.first_media = seen.first_media or (places[0] if places else "")
        return []
    audio, origin_s = found
    better = seen.taken.get(audio)
    if better is not None and rank(better) < rank(document):
        seen.second.append(document)
        return []
    try:
        tiers = choose_tiers(annotations, choice)
    except TierError as error:
        (seen.no_tier if error.is_missing else seen.ambiguous)[document] = annotations
        return []
    chosen = {tier.name for tier in tiers}
    for lost in annotations.unplaced:
        if lost.tier in chosen or not choice.is_given:
            kind = " ".join(lost.reason.split()[:3])
            seen.unplaced.setdefault(kind, (lost.reason, []))[1].append(
                f"{document}: {lost.id} {lost.text!r}"
            )
    if audio not in lengths:
        lengths[audio] = _length(audio)
    rows = [
        row
        for tier in tiers
        for row in _rows_of_tier(tier, audio, origin_s, lengths[audio], document, seen)
    ]
    if rows:
        seen.taken.setdefault(audio, document)
    return rows


def _rows_of_tier(
    tier: Tier,
    audio: Path,
    origin_s: float,
    length_s: float | None,
    document: str,
    seen: _Seen,
) -> list[Recording]:
    rows = []
    for segment in tier.segments:
        start_s, end_s = segment.start_s + origin_s, segment.end_s + origin_s
        where = f"{document} at {segment.start_s:.3f} s"
        if not segment.text:
            seen.blank.append(where)
            continue
        if end_s <= 0 or (length_s is not None and start_s >= length_s):
            seen.beyond.append(f"{where} {segment.text!r}")
            continue
        if start_s < 0 or (length_s is not None and end_s > length_s + END_S):
            seen.cut.append(where)
        start_s = max(start_s, 0.0)
        end_s = end_s if length_s is None else min(end_s, length_s)
        rows.append(
            Recording(
                f"{nfc(stem(audio.name))}@{start_s:.3f}",
                audio,
                round(start_s, 6),
                round(end_s - start_s, 6),
                nfc(segment.speaker) or None,
                segment.text,
            )
        )
    return rows


def _length(audio: Path) -> float | None:
    """Seconds of a recording; None where that cannot be known, which `prepare` names."""
    try:
        return probe(audio).duration_s
    except (AudioError, OSError):
        return None


# ---- what is said --------------------------------------------------------------------------------


def _raise_if_unclear(seen: _Seen, choice: TierChoice, *, found: bool) -> None:
    unclear = seen.ambiguous or (seen.no_tier if not found else {})
    if not unclear:
        return
    num, first = len(unclear), next(iter(unclear))
    more = f"{num - 1} more file{'s' * (num > 2)}"
    of = f"{first} and {more} have" if num > 1 else f"{first} has"
    listed = describe_tiers(_different(unclear))
    if seen.ambiguous:
        raise ValueError(f"{of} several tiers that may be the transcripts: {listed}. {_CHOOSE}.")
    raise ValueError(f"{of} no {choice}: the tiers are {listed}. {_CHOOSE}.")


def _different(files: Mapping[str, Annotations]) -> list[Tier]:
    """The tiers of several files, of one name and type the first; not more than a person reads."""
    tiers: dict[tuple[str, str], Tier] = {}
    for annotations in files.values():
        for tier in annotations.tiers:
            tiers.setdefault((tier.name, tier.kind), tier)
    return list(tiers.values())[: 3 * MOST_LISTED]


def _all_unreadable(unreadable: Mapping[str, str]) -> str:
    more = len(unreadable) - MOST_LISTED
    lines = list(unreadable.values())[:MOST_LISTED]
    return "\n".join([*lines, *([f"... and {more} more files."] if more > 0 else [])])


def _tell(seen: _Seen, choice: TierChoice, account: Account) -> None:
    """Puts into the account what is no utterance."""
    for document, sentence in list(seen.unreadable.items())[:MOST_LISTED]:
        account.explain([document], _without_name(sentence, document))
    account.explain(list(seen.unreadable)[MOST_LISTED:], "they cannot be read, as those above")
    if seen.no_media:
        named = f" (the first: {seen.first_media})" if seen.first_media else ""
        account.explain(
            seen.no_media,
            f"the recording{named} is neither where they say nor beside them under their name",
        )
    if seen.no_tier:
        tiers = describe_tiers(_different(seen.no_tier))
        account.explain(seen.no_tier, f"no {choice} is in them, but {tiers}")
    account.add("segments without text", seen.blank, "they are taken as speech without transcript")
    account.add(
        "segments",
        seen.beyond,
        "they lie behind the end, or before the beginning, of their recording",
    )
    account.add(
        "segments", seen.cut, "they go beyond their recording, and are taken as far as it goes"
    )
    for reason, names in seen.unplaced.values():
        account.add("annotations", names, f"no place in time (the first: {reason})")
    if seen.second:
        account.explain(seen.second, "another file of annotations of the same recording is taken")


def _without_name(sentence: str, document: str) -> str:
    return sentence.removeprefix(f"{document} ").removeprefix(f"{document}, ").rstrip(".")


def tell_unused_choice(choice: TierChoice, layout: str) -> None:
    """ValueError where a choice of tiers was given for a source without files of annotations."""
    if choice.is_given:
        raise ValueError(
            f"--tier, --tier-type and --tiers are of files of annotations (.eaf, .TextGrid, ...); "
            f"the source is read as layout {layout}; --layout annotations reads them."
        )
