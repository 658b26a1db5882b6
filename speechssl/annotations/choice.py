"""Which tiers of a file hold the transcripts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from speechssl.annotations.parts import Annotations, Segment, Tier
from speechssl.spelling import name_key

SAYMORE_TIER = "Transcription"
"""The tier of transcripts in files of SayMore, whose names end in ``.annotations.eaf``."""

SAYMORE_IGNORED = ("%ignore%", "%junk%")
"""What SayMore writes into segments that its user wants left out."""


class TierError(ValueError):
    """No tier, or none alone, is what was asked for."""

    def __init__(self, message: str, *, is_missing: bool) -> None:
        super().__init__(message)
        self.is_missing = is_missing
        """Whether there is none; else there are several and it is not clear which are meant."""


@dataclass(frozen=True)
class TierChoice:
    """The tiers that a person wants; all empty: the only one, or one for each speaker."""

    names: tuple[str, ...] = ()
    """Names, patterns of names (``tx@*``) or, where no tier is called so, numbers from 1 on."""
    kinds: tuple[str, ...] = ()
    """Linguistic types of ELAN, or patterns of them."""
    saymore: bool = False
    """By the conventions of SayMore."""

    def __post_init__(self) -> None:
        if self.saymore and (self.names or self.kinds):
            raise ValueError(
                f"SayMore's tier of transcripts is always {SAYMORE_TIER!r}: give --tiers saymore "
                "without --tier and --tier-type, or the latter alone."
            )

    @property
    def is_given(self) -> bool:
        return bool(self.names or self.kinds or self.saymore)

    def __str__(self) -> str:
        if self.saymore:
            return f"tier {SAYMORE_TIER!r}"
        parts = [f"tier {name!r}" for name in self.names]
        parts += [f"tier of type {kind!r}" for kind in self.kinds]
        return " or ".join(parts)


def choose_tiers(annotations: Annotations, choice: TierChoice) -> list[Tier]:
    """The tiers that `choice` means, in their order, with the speaker in each segment.

    Without a choice: the only tier that has texts; or several of one linguistic type that depend on
    no other and have a participant each. Raises TierError that lists the tiers otherwise.
    """
    tiers = annotations.tiers
    if choice.saymore:
        chosen = [
            t for t in tiers if SAYMORE_TIER.casefold() in (t.name.casefold(), t.kind.casefold())
        ]
        chosen = [_without_ignored(tier) for tier in chosen[:1]]
    elif choice.is_given:
        named = _of_names(tiers, choice.names)
        typed = [t for t in tiers if any(_fits(t.kind, kind) for kind in choice.kinds)]
        both = bool(choice.names) and bool(choice.kinds)
        chosen = [t for t in tiers if (t in named and t in typed if both else t in named + typed)]
    else:
        chosen = _obvious(tiers)
    if not chosen:
        raise TierError(f"no {choice}; it has {describe_tiers(tiers)}", is_missing=True)
    return _with_speakers(chosen)


def _obvious(tiers: Sequence[Tier]) -> list[Tier]:
    """The tiers that are meant where nobody says which; all that there are where none has texts."""
    written = [tier for tier in tiers if tier.num_texts]
    if len(written) < 2:
        return written or list(tiers[:1])
    speakers = {name_key(tier.speaker) for tier in written}
    kinds = {tier.kind for tier in written}
    alike = len(kinds) == 1 and "" not in kinds and not any(tier.parent for tier in written)
    if alike and (kinds == {"channel"} or ("" not in speakers and len(speakers) == len(written))):
        return written
    raise TierError(
        f"it is not clear which tiers are the transcripts: {describe_tiers(written)}",
        is_missing=False,
    )


def _of_names(tiers: Sequence[Tier], names: Iterable[str]) -> list[Tier]:
    found: list[Tier] = []
    for name in names:
        exact = [tier for tier in tiers if tier.name == name]
        exact = exact or [tier for tier in tiers if _fits(tier.name, name)]
        if not exact and name.isascii() and name.isdigit() and 1 <= int(name) <= len(tiers):
            exact = [tiers[int(name) - 1]]
        found += exact
    return found


def _fits(name: str, pattern: str) -> bool:
    """Whether a name is a pattern's, in any case and Unicode form; `*` stands for anything."""
    folded, wanted = name_key(name).casefold(), name_key(pattern).casefold()
    return folded == wanted or ("*" in wanted and fnmatchcase(folded, wanted.replace("[", "[[]")))


def _with_speakers(tiers: Sequence[Tier]) -> list[Tier]:
    """The speaker of each segment: its own, else the participant, else, where there are several
    tiers, what follows the ``@`` in the tier's name, or the name."""
    made = []
    for tier in tiers:
        speaker = tier.speaker
        if not speaker and len(tiers) > 1:
            speaker = tier.name.rpartition("@")[2] or tier.name
        segments = tuple(replace(s, speaker=s.speaker or speaker) for s in tier.segments)
        made.append(replace(tier, segments=segments))
    return made


def _without_ignored(tier: Tier) -> Tier:
    def kept(segment: Segment) -> Segment:
        ignored = segment.text.casefold() in SAYMORE_IGNORED
        return replace(segment, text="") if ignored else segment

    return replace(tier, segments=tuple(map(kept, tier.segments)))


def describe_tiers(tiers: Iterable[Tier]) -> str:
    """The tiers for a person, each with what tells it from others."""
    return "; ".join(map(_describe, tiers)) or "no tier"


def _describe(tier: Tier) -> str:
    parts = [f"type {tier.kind!r}"] if tier.kind else []
    parts += [f"participant {tier.speaker!r}"] if tier.speaker else []
    parts += [f"below {tier.parent!r}"] if tier.parent else []
    first = next((s.text for s in tier.segments if s.text), "")
    first = first if len(first) <= 30 else f"{first[:29]}…"
    parts.append(f"{tier.num_texts} texts" + (f", the first {first!r}" if first else ""))
    return f"{tier.name!r} ({', '.join(parts)})"
