"""speechssl.data.prepare: what is held out, and that nothing is in two splits."""

from dataclasses import replace
from pathlib import Path

import pytest

from speechssl.data.layouts import Recording, Split
from speechssl.data.prepare import (
    PrepareConfig,
    hold_out,
    prepare,
    sentence_key,
)
from tests.data.prepare.recordings import manifests, many, record, speech


def speakers(out: Path) -> dict[str, set[str | None]]:
    return {name: {u.speaker for u in us} for name, us in manifests(out).items()}


def texts(out: Path) -> dict[str, set[str]]:
    return {name: {sentence_key(u.text or "") for u in us} for name, us in manifests(out).items()}


def disjoint(sets: dict[str, set[str]] | dict[str, set[str | None]]) -> bool:
    return sum(map(len, sets.values())) == len(set().union(*sets.values()))


def test_three_speakers_are_held_apart(tmp_path: Path) -> None:
    records = [
        replace(recording, speaker=f"s{i % 7}", text=f"number {i}")
        for i, recording in enumerate(many(tmp_path, 70))
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.split_by == "speaker"
    assert {name: len(s) for name, s in speakers(tmp_path / "out").items()} == {
        "train": 5,
        "dev": 1,
        "test": 1,
    }
    assert disjoint(speakers(tmp_path / "out"))
    assert summary.warnings == {}


def test_sentences_of_held_out_speakers_leave_train(tmp_path: Path) -> None:
    records = [
        replace(recording, speaker=f"s{i // 10}", text=f"number {i}")
        for i, recording in enumerate(many(tmp_path, 50))
    ]
    for first in range(0, 50, 10):  # one sentence is said by all
        records[first] = replace(records[first], text="Yes!" if first % 20 else "yes")
    summary = prepare(records, tmp_path / "out")
    assert summary.dropped == {"shared sentence": 4}
    assert summary.splits["test"].utterances == 10
    assert disjoint(texts(tmp_path / "out"))


def test_digits_keep_their_sentences_and_are_counted(tmp_path: Path) -> None:
    records = [
        replace(recording, speaker=f"s{i // 4}", text=f"{i % 4}")
        for i, recording in enumerate(many(tmp_path, 20))
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.dropped == {}
    assert summary.warnings == {"shared_sentences": 4}


def test_fewer_speakers_are_split_by_sentence(tmp_path: Path) -> None:
    words = ["One, two.", "one two", "ONE TWO!", "three", "four", "five", "six", "seven", "x", "y"]
    records = [
        replace(recording, speaker=f"s{i % 2}", text=words[i % 10])
        for i, recording in enumerate(many(tmp_path, 40))
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.split_by == "text"
    assert set(summary.splits) == {"train", "dev", "test"}
    assert disjoint(texts(tmp_path / "out"))


def test_without_transcripts_recordings_stay_whole_and_apart(tmp_path: Path) -> None:
    records = [record(tmp_path, f"r{i}", speech(2.5, seed=i)) for i in range(10)]
    summary = prepare(records, tmp_path / "out", PrepareConfig(max_duration_s=1.0))
    assert summary.split_by == "recording"
    files = {name: {u.audio for u in us} for name, us in manifests(tmp_path / "out").items()}
    assert {name: len(f) for name, f in files.items()} == {"train": 8, "dev": 1, "test": 1}
    assert sum(map(len, files.values())) == len(set().union(*files.values()))
    assert summary.utterances >= 30


def test_unlabeled_recordings_go_to_train_where_others_have_transcripts(tmp_path: Path) -> None:
    records = [
        replace(recording, text=f"number {i}" if i < 10 else None)
        for i, recording in enumerate(many(tmp_path, 40))
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.splits["train"].utterances == 38
    assert summary.splits["train"].labeled_utterances == 8
    assert summary.splits["test"].labeled_utterances == 1


def test_the_split_of_the_source_is_kept(tmp_path: Path) -> None:
    splits = ["test", "dev", None, "train"]
    records = [
        replace(r, split=s, speaker="s", text="x")  # type: ignore[arg-type]
        for r, s in zip(many(tmp_path, 4), splits, strict=True)
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.split_by == "source"
    assert {n: [u.id for u in us] for n, us in manifests(tmp_path / "out").items()} == {
        "train": ["r2", "r3"],
        "dev": ["r1"],
        "test": ["r0"],
    }
    assert summary.warnings == {"shared_speakers": 1, "shared_sentences": 1}


def test_what_was_held_out_stays_so_and_what_was_trained_on_too(tmp_path: Path) -> None:
    records = [
        replace(recording, text=f"number {i}" if i < 10 else None)
        for i, recording in enumerate(many(tmp_path, 40))
    ]
    prepare(records, tmp_path / "out")
    earlier = manifests(tmp_path / "out")
    more = [replace(r, text=f"number {i}") for i, r in enumerate(records)]
    more[11] = replace(more[11], text=earlier["test"][0].text)  # stays with its sentence
    prepare(more, tmp_path / "out", earlier=earlier)  # type: ignore[arg-type]
    now = {split: {u.id for u in us} for split, us in manifests(tmp_path / "out").items()}
    assert now["dev"] == {u.id for u in earlier["dev"]}
    assert now["test"] == {u.id for u in earlier["test"]} | {"r11"}
    (tmp_path / "new").mkdir()
    fresh = [
        replace(r, id=f"new {r.id}", text=f"new {r.id}") for r in many(tmp_path / "new", 40, 90)
    ]
    prepare([*more, *fresh], tmp_path / "out", earlier=manifests(tmp_path / "out"))  # type: ignore[arg-type]
    grown = {split: {u.id for u in us} for split, us in manifests(tmp_path / "out").items()}
    assert all(now[split] < grown[split] for split in now)
    assert len(grown["dev"]) == len(grown["test"]) == 8


def same_ids(folder: Path) -> list[Recording]:
    """Three names for forty recordings, of which the manifests make forty."""
    records = [record(folder, f"r{i}", speech(0.5 + i / 50, seed=i)) for i in range(40)]
    return [replace(r, id=f"x{i % 3}") for i, r in enumerate(records)]


@pytest.mark.parametrize("make", [lambda folder: many(folder, 40), same_ids])
@pytest.mark.parametrize("link", [False, True])
def test_recordings_that_are_reached_in_another_way_keep_their_splits(tmp_path, make, link) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    records = [replace(r, text=f"number {i}") for i, r in enumerate(make(here))]
    prepare(records, tmp_path / "out")
    earlier = manifests(tmp_path / "out")
    if link:
        there.symlink_to(here)
    else:
        here.rename(there)
    found = [replace(r, audio=there / r.audio.name) for r in records]
    prepare(found, tmp_path / "out", PrepareConfig(seed=1), earlier=earlier)  # type: ignore[arg-type]
    now = manifests(tmp_path / "out")
    names = {split: [u.id for u in us] for split, us in now.items()}
    assert names == {split: [u.id for u in us] for split, us in earlier.items()}


@pytest.mark.parametrize("link", [False, True])
def test_recordings_that_are_named_anew_keep_their_splits(tmp_path: Path, link: bool) -> None:
    """Also where each gets the name of another one, and is reached in another way."""
    records = [replace(r, text=f"number {i}") for i, r in enumerate(many(tmp_path, 40))]
    prepare(records, tmp_path / "out")
    earlier = manifests(tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path)
    folder = tmp_path / "link" if link else tmp_path
    named = [replace(r, id=f"r{i + 1}", audio=folder / r.audio.name) for i, r in enumerate(records)]
    prepare(named, tmp_path / "out", PrepareConfig(seed=1), earlier=earlier)  # type: ignore[arg-type]
    now = manifests(tmp_path / "out")
    files = {split: {u.audio.name for u in us} for split, us in now.items()}
    assert files == {split: {u.audio.name for u in us} for split, us in earlier.items()}


def test_speakers_that_become_known_are_split_anew(tmp_path: Path) -> None:
    """Each was in several splits: nothing is known of them."""
    records = [replace(r, text=f"number {i}") for i, r in enumerate(many(tmp_path, 30))]
    prepare(records, tmp_path / "out")
    earlier = manifests(tmp_path / "out")
    named = [replace(r, speaker=f"s{i % 3}") for i, r in enumerate(records)]
    summary = prepare(named, tmp_path / "out", earlier=earlier)  # type: ignore[arg-type]
    assert summary.split_by == "speaker"
    assert disjoint(speakers(tmp_path / "out"))
    assert set(summary.splits) == {"train", "dev", "test"}


def test_known_groups_keep_their_split_and_count_for_its_share() -> None:
    sizes = {f"g{i}": 1.0 for i in range(20)}
    before = hold_out(sizes, 0.1, 0.1, seed=0)
    known: dict[str, Split] = dict.fromkeys(sizes, "train")
    known |= before
    assert hold_out(sizes, 0.1, 0.1, seed=1, known=known) == before
    more = sizes | {f"h{i}": 1.0 for i in range(20)}
    grown = hold_out(more, 0.1, 0.1, seed=0, known=known)
    assert sorted(grown.values()) == ["dev"] * 4 + ["test"] * 4
    assert all(name[0] == "h" for name in grown.keys() - before.keys())


def test_shares_and_seed() -> None:
    sizes = {f"g{i}": 1.0 for i in range(100)}
    chosen = hold_out(sizes, 0.2, 0.3, seed=0)
    assert sorted(chosen.values()).count("dev") == 20
    assert sorted(chosen.values()).count("test") == 30
    assert hold_out(dict(reversed(sizes.items())), 0.2, 0.3, seed=0) == chosen
    assert hold_out(sizes, 0.2, 0.3, seed=1) != chosen
    assert hold_out(sizes, 0.0, 0.0, seed=0) == {}


@pytest.mark.parametrize(
    ("sizes", "held"),
    [
        ([], []),
        ([1.0], []),
        ([1.0, 2.0], ["dev"]),
        ([1.0, 2.0, 3.0], ["dev", "test"]),
        ([100.0, 1.0, 1.0, 1.0], ["dev", "test"]),
    ],
)
def test_few_groups_leave_one_for_train(sizes: list[float], held: list[str]) -> None:
    chosen = hold_out({str(i): size for i, size in enumerate(sizes)}, 0.1, 0.1, seed=0)
    assert sorted(set(chosen.values())) == held
    assert len(chosen) < max(len(sizes), 1)
    assert "0" not in chosen or len(sizes) < 4  # the large group stays for train


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        ("Yes, sir!", "yes sir", True),
        ("ɛ\u0301", "ɛ", False),  # a tone mark is a letter
        ("कि", "की", False),
        ("don't", "don t", True),
        ("?!", "...", False),
    ],
)
def test_which_sentences_are_the_same(one: str, two: str, equal: bool) -> None:
    assert (sentence_key(one) == sentence_key(two)) == equal
