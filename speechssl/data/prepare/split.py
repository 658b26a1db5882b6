"""Train, dev and test without a speaker or a sentence in two of them."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from speechssl.data.layouts import Split
from speechssl.data.manifest import Utterance
from speechssl.data.prepare.config import PrepareConfig
from speechssl.data.prepare.drop import Dropped
from speechssl.data.prepare.transcripts import sentence_key
from speechssl.data.prepare.utterances import Kept, unique_ids
from speechssl.rng import rng
from speechssl.spelling import name_key

SPLITS: tuple[Split, ...] = ("train", "dev", "test")

MAX_SHARED_SHARE = 0.25
"""More of train or dev than this is not dropped for sentences that are in dev or test as well."""


def split_utterances(
    kept: list[Kept], config: PrepareConfig, earlier: Mapping[Split, Sequence[Utterance]]
) -> tuple[str, list[Kept]]:
    """Give each utterance a split, and say what was kept together.

    The split of the source where it has one (what it leaves open goes to train); else by speaker
    when three or more are known (the unknown go to train); else, where there are transcripts, by
    sentence (recordings without go to train: held-out speech is for scoring); else by recording.
    What was in a split `earlier` stays in it.
    """
    if any(item.split for item in kept):
        return "source", [replace(item, split=item.split or "train") for item in kept]
    labeled = any(item.utterance.text for item in kept)
    if len({item.utterance.speaker for item in kept} - {None}) >= 3:
        split_by = "speaker"
        groups = [item.utterance.speaker for item in kept]
    elif labeled:
        split_by = "text"
        texts = (item.utterance.text for item in kept)
        groups = [None if text is None else sentence_key(text) for text in texts]
    else:
        split_by = "recording"
        groups = [name_key(str(item.utterance.audio)) for item in kept]
    hours: dict[str, float] = {}
    for group, item in zip(groups, kept, strict=True):
        if group is not None and (item.utterance.text or not labeled):
            hours[group] = hours.get(group, 0.0) + item.utterance.duration_s
    known = _splits_of_before(kept, groups, earlier)
    chosen = hold_out(hours, config.dev_share, config.test_share, config.seed, known)
    return split_by, [
        replace(item, split=chosen.get(group, "train") if group is not None else "train")
        for group, item in zip(groups, kept, strict=True)
    ]


def _splits_of_before(
    kept: list[Kept],
    groups: Sequence[str | None],
    earlier: Mapping[Split, Sequence[Utterance]],
) -> dict[str, Split]:
    """The split that a group was in: that of its recordings with a transcript, where there were
    some. A group of which some were in one split and some in another is as a new one.

    A recording is known by where it lies, through whichever link; one that was moved by its name
    and times, as a run knows it again. Both in any Unicode form, but the very same one first.
    """
    places: dict[tuple[str | float, ...], tuple[bool, Split]] = {}
    alike: dict[tuple[str | float, ...], tuple[bool, Split]] = {}
    for split in earlier:
        for utterance in earlier[split]:
            was = utterance.is_labeled, split
            for known in (_name(utterance), _place(utterance)):
                places[known] = alike[_key(known)] = was
    if not places:
        return {}
    found: dict[str, set[tuple[bool, Split]]] = {}
    for item, named, group in zip(kept, unique_ids(kept), groups, strict=True):
        if group is None:
            continue
        place, name = _place(item.utterance), _name(named.utterance)
        before = places.get(place) or places.get(name)
        before = before or alike.get(_key(place)) or alike.get(_key(name))
        if before:
            found.setdefault(group, set()).add(before)
    splits_of: dict[str, Split] = {}
    for group, seen in found.items():
        splits = {split for had_text, split in seen if had_text} or {split for _, split in seen}
        if len(splits) == 1:
            splits_of[group] = splits.pop()
    return splits_of


def _key(known: tuple[str, *tuple[float, ...]]) -> tuple[str | float, ...]:
    """A :func:`_place` or :func:`_name` in one Unicode form."""
    return name_key(known[0]), *known[1:]


def _place(utterance: Utterance) -> tuple[str, float]:
    """Where an utterance is, whatever its id."""
    return os.path.realpath(utterance.audio), round(utterance.start_s, 6)


def _name(utterance: Utterance) -> tuple[str, float, float]:
    """What an utterance is called, wherever it is: what the digest of a run's inputs is of."""
    return utterance.id, round(utterance.start_s, 6), round(utterance.duration_s, 6)


def hold_out(
    sizes: dict[str, float],
    dev_share: float,
    test_share: float,
    seed: int,
    known: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """``{group: "dev" | "test"}`` so that each split has about its share of the total size.

    Groups are taken whole, in an order drawn from `seed`; where even one is more than the share,
    the smallest is taken. One group at least stays for train, and dev comes before test. Groups
    whose split is `known` keep it, and count for their share.
    """
    known = known or {}
    names = sorted(sizes)
    names = [names[i] for i in rng(seed, "split").permutation(len(names))]
    total = sum(sizes.values())
    chosen: dict[str, Split] = {n: split for n, split in known.items() if split != "train"}
    shares: tuple[tuple[Split, float], ...] = (("dev", dev_share), ("test", test_share))
    for split, share in shares:
        filled = sum(sizes.get(name, 0.0) for name in chosen if chosen[name] == split)
        spare = 2 if split == "dev" and test_share > 0 else 1  # groups left for what comes after
        for name in names:
            fits = filled + sizes[name] <= 1.1 * share * total
            free = name not in chosen and name not in known
            if free and fits and len(chosen) < len(names) - spare:
                chosen[name] = split
                filled += sizes[name]
            if filled >= share * total:
                break
        left = [name for name in names if name not in chosen and name not in known]
        if share > 0 and filled == 0 and len(left) > 1:
            chosen[min(left, key=lambda name: sizes[name])] = split
    return chosen


def drop_shared_sentences(kept: list[Kept]) -> tuple[list[Kept], list[Dropped]]:
    """Take sentences of test out of dev and train, and those of dev out of train.

    Other speakers may have read them too. Where that would cost more than a quarter of train or
    dev (digits or commands: everyone says the same) they stay, and the summary counts them.
    """
    keys = {split: sentences_of(kept, split) for split in SPLITS}
    held: dict[str, set[str]] = {"train": keys["dev"] | keys["test"], "dev": keys["test"]}
    result, dropped = [], []
    for item in kept:
        text, where = item.utterance.text, "test" if item.split == "dev" else "dev or test"
        if text and sentence_key(text) in held.get(item.split or "", ()):
            reason = f"shared sentence: it is in {where} too"
            dropped.append(Dropped(item.utterance.id, item.utterance.audio, reason))
        else:
            result.append(item)
    sizes = Counter(item.split for item in kept)
    left = Counter(item.split for item in result)
    if any(sizes[split] - left[split] > MAX_SHARED_SHARE * sizes[split] for split in SPLITS[:2]):
        return kept, []
    return result, dropped


def sentences_of(kept: list[Kept], split: Split) -> set[str]:
    return {sentence_key(k.utterance.text) for k in kept if k.split == split and k.utterance.text}
