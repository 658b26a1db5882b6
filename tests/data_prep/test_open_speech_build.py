"""The whole way on tiny sources: the same bytes each time, doubles, caps, dev, what is named."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.open_speech import command
from data_prep.open_speech.build import Settings, build, find
from data_prep.open_speech.choose import Row, capped, held_out
from data_prep.open_speech.clip import Clip, Source
from data_prep.open_speech.doubles import without_doubles
from data_prep.open_speech.jobs import Job, Making, jobs_of
from data_prep.open_speech.sources import SOURCES
from data_prep.open_speech.summary import table
from speechssl.data.manifest import read_manifest

RATE = 16_000


def read(folder: Path) -> Iterator[Clip]:
    """`SPEAKER/TEXT_N.wav`; the speaker `x` is not known."""
    for path in sorted(folder.glob("*/*.wav")):
        speaker = path.parent.name if path.parent.name != "x" else None
        yield Clip(path.stem, path, "eng", speaker, text=path.stem.partition("_")[0])


SMALL = Source("small", ("folder:small",), ("eng",), "CC0", "LICENSE", "free", read)
SETTINGS = Settings(
    romanise=lambda text, _: text.lower(),
    phonemise=lambda text, _: f"/{text}/" if text != "b" else None,
)


def sound(path: Path, seconds: float = 0.6, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        path, np.random.default_rng(seed).uniform(-0.3, 0.3, round(RATE * seconds)), RATE
    )
    return path


def corpus(root: Path, speakers: int = 5, clips: int = 12) -> Path:
    for number in range(speakers):
        for clip in range(clips):
            text = "ab"[number % 2]
            sound(
                root / "small" / f"s{number}" / f"{text}_{number}-{clip}.wav",
                0.6,
                100 * number + clip,
            )
    sound(root / "small" / "x" / "a_alone.wav", 0.6, 999)
    return root


def made(
    root: Path, out: Path, source: Source = SMALL, settings: Settings = SETTINGS
) -> dict[str, bytes]:
    """Everything that is written, by its place."""
    build(find([source], [root]), out, settings, say=lambda _: None)
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_manifests_and_audio(tmp_path: Path) -> None:
    made(corpus(tmp_path), tmp_path / "out")
    train = read_manifest(tmp_path / "out" / "train.jsonl")
    dev = read_manifest(tmp_path / "out" / "dev.jsonl")
    assert {u.speaker for u in train}.isdisjoint({u.speaker for u in dev})
    assert len({u.speaker for u in (*train, *dev)} - {None}) == 5
    for utterance in (*train, *dev):
        info = soundfile.info(utterance.audio)
        assert (info.samplerate, info.subtype) == (RATE, "PCM_16")
        assert abs(info.duration - utterance.duration_s) < 1e-4
    line = json.loads((tmp_path / "out" / "train.jsonl").read_text().splitlines()[0])
    assert (line["language"], line["source"]) == ("eng", "small")
    assert set(line["text"].split()) <= {"a", "b"}


def test_phones_are_a_manifest_of_their_own(tmp_path: Path) -> None:
    """The texts 'b' have none."""
    made(corpus(tmp_path), tmp_path / "out")
    with_phones = read_manifest(tmp_path / "out" / "train-ipa.jsonl")
    assert {word for u in with_phones for word in str(u.text).split()} == {"/a/"}
    all_of_them = {u.id: u for u in read_manifest(tmp_path / "out" / "train.jsonl")}
    assert all(all_of_them[u.id].audio == u.audio for u in with_phones)


def test_phones_of_the_source_itself(tmp_path: Path) -> None:
    def with_phones(folder: Path) -> Iterator[Clip]:
        for clip in read(folder):
            yield replace(clip, text="صفر", phones="sˤˈifr")

    made(corpus(tmp_path, 1), tmp_path / "out", replace(SMALL, read=with_phones))
    line = json.loads((tmp_path / "out" / "train-ipa.jsonl").read_text().splitlines()[0])
    assert set(line["text"].split()) == {"sˤifr"}
    assert set(line["roman"].split()) == {"sˤifr"}  # romanised from the phones, not the letters
    assert set(line["orthography"].split()) == {"صفر"}


def test_the_same_bytes_again_in_two_processes_and_after_an_interruption(tmp_path: Path) -> None:
    root = corpus(tmp_path, 3, 4)
    first = made(root, tmp_path / "out")
    assert len(first) > 8
    assert made(root, tmp_path / "out") == first
    again = made(root, tmp_path / "two", settings=replace(SETTINGS, processes=2))
    assert again == first
    (lost, *_) = (tmp_path / "two" / "parts" / "small").glob("*.jsonl")
    lost.unlink()
    assert made(root, tmp_path / "two") == first


def test_only_what_changed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = corpus(tmp_path, 3, 4)
    made(root, tmp_path / "out")
    worked: list[str] = []
    whole = Making.make

    def watched(self: Making, job: Job) -> Path:
        worked.append(job.key)
        return whole(self, job)

    monkeypatch.setattr(Making, "make", watched)
    made(root, tmp_path / "out")
    assert worked == []
    sound(root / "small" / "s1" / "b_new.wav", 0.7, 5)
    made(root, tmp_path / "out")
    assert worked == ["eng/s1"]


def test_what_is_no_longer_in_the_source_is_removed(tmp_path: Path) -> None:
    root = corpus(tmp_path, 2, 4)
    sound(root / "small" / "s9" / "a_more.wav", 0.7, 5)
    made(root, tmp_path / "out")
    other = tmp_path / "out" / "audio" / "other" / "x.flac"  # of another source
    other.parent.mkdir()
    other.touch()
    (root / "small" / "s9" / "a_more.wav").unlink()
    again = made(root, tmp_path / "out")
    other.unlink()
    assert {place: again[place] for place in again if "other" not in place} == made(
        root, tmp_path / "fresh"
    )


def test_what_is_dropped_is_named(tmp_path: Path) -> None:
    root = corpus(tmp_path, 2, 3)
    sound(root / "small" / "s1" / "b_copy.wav", 0.6, 0)  # the bytes of s0's first
    (root / "small" / "s0" / "a_broken.wav").write_bytes(b"RIFF")
    made(root, tmp_path / "out")
    lines = (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    reasons = {row["clip"]: row["reason"] for row in map(json.loads, lines)}
    assert reasons["b_copy"] == "double: the same bytes as small: a_0-0"
    assert reasons["a_broken"].startswith("unreadable: ")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["sources"]["small"]["dropped"] == {"double": 1, "unreadable": 1}
    assert summary["sources"]["small"]["clips"] == 9


def test_summary(tmp_path: Path) -> None:
    made(corpus(tmp_path), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = [
        u for split in ("train", "dev") for u in read_manifest(tmp_path / "out" / f"{split}.jsonl")
    ]
    total = summary["total"]
    assert total["crops"] == len(rows)
    assert total["hours"] == pytest.approx(sum(u.duration_s for u in rows) / 3600, abs=1e-3)
    assert 0 < total["active_hours"] <= total["hours"]
    assert (total["speakers"], total["crops_of_unknown_speakers"]) == (5, 1)
    assert total["hours_with_ipa"] < total["hours_with_text"] == total["hours"]
    assert summary["hours_by_terms"] == {"free": pytest.approx(total["hours"], abs=2e-3)}
    assert summary["left_out"]
    lines = table(summary).splitlines()
    assert len(lines) == 4
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_nothing_usable_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "small" / "s").mkdir(parents=True)
    (tmp_path / "small" / "s" / "a.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="No recording of 1 can be used"):
        made(tmp_path, tmp_path / "out")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    other = replace(SMALL, name="other", parts=("github:A/B",))
    two = replace(SMALL, name="two", parts=("folder:small", "debian:not-there"))
    found = find([SMALL, other, two], [tmp_path / "nowhere", corpus(tmp_path, 1, 1)])
    assert found.missing == ["github:A/B", "debian:not-there"]
    assert [source.name for source in found.sources] == ["small"]
    with pytest.raises(FileNotFoundError, match=r"such as A\+B"):
        find([other], [tmp_path])


# ---- doubles, caps, dev -------------------------------------------------------------------------


def test_doubles_across_sources(tmp_path: Path) -> None:
    first, copy = sound(tmp_path / "a.wav"), sound(tmp_path / "b.wav")
    other = sound(tmp_path / "c.wav", seed=1)  # of equal size
    both = tmp_path / "both"
    both.write_bytes(first.read_bytes() * 2)
    size = first.stat().st_size
    clips = [
        ("s", Clip("1", first, "eng")),
        ("t", Clip("1", copy, "eng")),
        ("t", Clip("2", other, "eng")),
        ("t", Clip("3", tmp_path / "missing.wav", "eng")),
        ("u", Clip("4", both, "eng", span=(size, size))),
    ]
    kept, drops = without_doubles(clips)
    assert [(name, clip.name) for name, clip in kept] == [("s", "1"), ("t", "2"), ("t", "3")]
    assert [(name, drop.name, drop.reason) for name, drop in drops] == [
        ("t", "1", "double: the same bytes as s: 1"),
        ("u", "4", "double: the same bytes as s: 1"),
    ]


def rows(seconds: dict[str, list[float]]) -> list[Row]:
    return [
        {
            "id": f"{speaker}-{i}",
            "speaker": speaker if speaker != "?" else None,
            "duration_s": value,
        }
        for speaker, values in seconds.items()
        for i, value in enumerate(values)
    ]


def test_a_cap_is_kept_and_shared_by_the_speakers() -> None:
    members = rows({"a": [36.0] * 100, "b": [36.0] * 10, "?": [36.0] * 2})
    taken = capped(members, 0.3, 0, "x")
    assert len(taken) == 30
    counts = {s: sum(row["speaker"] == s for row in taken) for s in ("a", "b", None)}
    assert counts == {"a": 18, "b": 10, None: 2}
    assert taken == [row for row in members if row in taken]  # in their order
    assert capped(members, 0.3, 0, "x") == taken
    assert capped(members, 0.3, 1, "x") != taken
    assert capped(members, None, 0, "x") == capped(members, 2.0, 0, "x") == members


def test_some_speakers_are_held_out() -> None:
    members = rows({f"s{i}": [10.0] * 10 for i in range(40)})
    chosen = held_out(members, SMALL, 0)
    assert len(chosen) == 2
    assert held_out(members, SMALL, 0) == chosen
    assert held_out(members, replace(SMALL, name="other"), 0) != chosen


@pytest.mark.parametrize(
    ("seconds", "known"),
    [
        ({"a": [9.0], "b": [9.0], "c": [9.0]}, True),  # too few
        ({"?": [9.0] * 20}, True),
        ({f"s{i}": [9.0] for i in range(40)}, False),  # the source does not say who speaks
    ],
)
def test_nobody_is_held_out(seconds: dict[str, list[float]], known: bool) -> None:
    assert held_out(rows(seconds), replace(SMALL, held_out=known), 0) == set()


def test_the_main_speaker_is_not_held_out() -> None:
    members = rows({"main": [900.0], "a": [9.0], "b": [9.0], "c": [9.0]})
    for seed in range(5):
        assert "main" not in held_out(members, SMALL, seed)


# ---- jobs ---------------------------------------------------------------------------------------


def clip(name: str, speaker: str | None, session: str = "", language: str = "eng") -> Clip:
    return Clip(name, Path(name), language, speaker, session)


def test_jobs_are_speakers_sessions_and_languages() -> None:
    clips = [clip("1", "a"), clip("2", "b"), clip("3", "a", "x"), clip("4", "a", language="deu")]
    clips += [clip("5", "a"), clip("6", None), clip("7", None)]
    found = [(job.key, [c.name for c in job.clips], job.joins) for job in jobs_of(SMALL, clips)]
    assert found == [
        ("deu/a", ["4"], True),
        ("eng-000", ["6", "7"], False),
        ("eng/a", ["1", "5"], True),
        ("eng/a/x", ["3"], True),
        ("eng/b", ["2"], True),
    ]


def test_names_of_files_are_plain_and_distinct() -> None:
    keys = ["eng/a", "eng-a", "eng/Ä", "eng/ä", "x" * 300, "x" * 301, "ㄊㄢ"]
    names = [Job("s", key, (), True).name for key in keys]
    assert len(set(names)) == len(keys)
    assert all(name.isascii() and "/" not in name and len(name) < 310 for name in names)


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(command, "SOURCES", (SMALL, replace(SMALL, name="gpl", terms="alike")))
    monkeypatch.setattr(command, "Settings", lambda **named: replace(SETTINGS, **named))
    return lambda *argv: command.main([str(arg) for arg in argv])


def test_the_command(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus(tmp_path, 1, 2)
    assert run(tmp_path, "--out", tmp_path / "out", "--terms", "free") == 0
    assert "| small | small | eng | CC0 | nothing |" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["sources"]) == ["small"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere", "--out", "out"], "No source is in nowhere"),
        (["small", "--out", "out", "--processes", "0"], "--processes must be at least 1"),
        ([], "give the folders"),
        (["small"], "give the folders"),
        (["small", "--out", "out", "--terms", "commercial"], "invalid choice"),
        (["small", "--out", "out", "--only", "mboshi"], "invalid choice"),
    ],
)
def test_wrong_input_is_a_sentence(
    arguments: list[str],
    says: str,
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = run(*arguments)
    except SystemExit as stopped:
        code = stopped.code  # type: ignore[assignment]
    error = capsys.readouterr().err
    assert code == 2
    assert says in error
    assert "Traceback" not in error


def test_list_names_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list", "--terms", "free"]) == 0
    parts = capsys.readouterr().out.split()
    assert parts == [part for s in SOURCES if s.terms == "free" for part in s.parts]
