"""The rehearsal pack: packed, checked, read, and refused where it is damaged."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from recipes.seed.pack_rehearsal import (
    LICENCES,
    Clip,
    choose,
    compression_level,
    fitting_kbps,
    in_turn,
    is_allowed,
    main,
    share_out,
    write_pack,
)
from speechssl import audio
from speechssl.data import rehearsal
from speechssl.data.manifest import Utterance, write_manifest


def wave_of(number, seconds=1.2):
    """A tone with a pitch of its own."""
    time = np.arange(round(16000 * seconds)) / 16000
    return (0.3 * np.sin(2 * np.pi * (200 + 60 * number) * time)).astype(np.float32)


def clips_of(folder, language, num, speakers=2, licence="CC0", first=0):
    """Clips with their sound, of a source named as the language."""
    folder.mkdir(exist_ok=True)
    made = []
    for index in range(num):
        path = folder / f"{language}-{index}.wav"
        audio.write(path, wave_of(first + index), 16000)
        own = Utterance(
            f"{language}-{index}", path, 0.0, 1.2, 16000, f"s{index % speakers}", f"word {index}"
        )
        made.append(Clip(replace(own, ipa="w ɜː d"), language, f"source-{language}", licence))
    return made


def manifest_of(path, clips, name="licence"):
    notes = [{"language": c.language, "source": c.source, name: c.licence} for c in clips]
    write_manifest(path, [c.utterance for c in clips], notes=notes)
    return path


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A pack of two languages, made by the command."""
    folder = tmp_path_factory.mktemp("pack")
    first = manifest_of(folder / "a.jsonl", clips_of(folder / "a", "sw", 4))
    second = clips_of(folder / "b", "de", 3, licence="CC BY 4.0", first=4)
    second += clips_of(folder / "c", "yo", 2, licence="CC BY-NC 4.0")
    second = manifest_of(folder / "b.jsonl", second, "license")
    command = [first, second, "--out", folder / "pack", "--minutes", "1"]
    assert main(list(map(str, command))) == 0
    return folder / "pack"


def copied(pack, tmp_path):
    shutil.copytree(pack, tmp_path / "pack")
    return tmp_path / "pack"


def test_a_pack_is_a_corpus(pack):
    utterances = rehearsal.open_rehearsal(str(pack))
    assert rehearsal.open_rehearsal("pack", pack) == utterances
    assert sorted({u.audio.name for u in utterances}) == ["de.opus", "sw.opus"]
    assert len(utterances) == 7
    assert all(u.is_labeled and u.ipa == "w ɜː d" and u.speaker for u in utterances)
    numbers = {"sw": 0, "de": 4}
    for utterance in utterances:
        wave = audio.read(
            utterance.audio, start_s=utterance.start_s, duration_s=utterance.duration_s
        )
        own = wave_of(numbers[utterance.audio.stem] + int(utterance.text.split()[1]))
        assert len(wave) == len(own)
        power = np.abs(np.fft.rfft(wave))
        assert abs(int(power.argmax()) - int(np.abs(np.fft.rfft(own)).argmax())) <= 1
        assert np.corrcoef(wave, own)[0, 1] > 0.9  # sample for sample at its place


def test_it_says_where_its_clips_are_from(pack):
    page = (pack / rehearsal.LICENCES).read_text(encoding="utf-8")
    assert "| de | source-de | CC BY 4.0 | 2 | 0.1 |" in page
    assert "yo" not in page
    lines = (pack / rehearsal.MANIFEST).read_text(encoding="utf-8").splitlines()
    facts = [json.loads(line) for line in lines]
    assert {f["language"]: (f["source"], f["licence"]) for f in facts} == {
        "sw": ("source-sw", "CC0"),
        "de": ("source-de", "CC BY 4.0"),
    }
    assert all(f["origin"].startswith(f["language"]) for f in facts)
    assert rehearsal.check_pack(pack)["clips"] == 7


def test_it_is_the_same_again(pack, tmp_path):
    folder = pack.parent
    again = [folder / "b.jsonl", folder / "a.jsonl", "--out", tmp_path / "pack", "--minutes", "1"]
    assert main(list(map(str, again))) == 0
    first, second = (rehearsal.check_pack(p)["sha256"] for p in (pack, tmp_path / "pack"))
    assert first["manifest.jsonl"] == second["manifest.jsonl"]
    assert first["LICENCES.md"] == second["LICENCES.md"]


def test_what_has_no_such_licence_is_named(pack, tmp_path, capsys):
    manifest = pack.parent / "b.jsonl"
    assert main([str(manifest), "--out", str(tmp_path / "p"), "--minutes", "1"]) == 0
    captured = capsys.readouterr()
    assert "Left out: 2 clips under CC BY-NC 4.0." in captured.err
    assert "3 clips, 0.1 min, 1 language, " in captured.out


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("CC0", True),
        ("CC0-1.0", True),
        ("cc-by 4.0", True),
        ("CC_BY-3.0", True),
        ("CC-BY-SA-4.0", False),
        ("CC-BY-NC 4.0", False),
        ("CC-BY-ND", False),
        ("Public Domain", True),
        ("MIT", True),
        ("GPL-2", False),
        ("own", False),
        ("", False),
    ],
)
def test_licences(licence, allowed):
    assert is_allowed(licence, LICENCES) is allowed
    assert is_allowed("GPL-2", ["GPL"])


@pytest.mark.parametrize(
    ("total", "there", "temperature", "wanted"),
    [
        (60, [100, 100], 1.0, [30, 30]),
        (60, [300, 100], 1.0, [45, 15]),
        (60, [300, 100], 0.0, [30, 30]),
        (60, [300, 10], 0.0, [50, 10]),
        (60, [1000, 10, 20], 0.0, [30, 10, 20]),
        (60, [5, 10, 20], 0.5, [5, 10, 20]),
        (60, [400, 100], 0.5, [40, 20]),
    ],
)
def test_minutes_are_shared_out(total, there, temperature, wanted):
    assert share_out(total, np.array(there, float), temperature).tolist() == pytest.approx(wanted)


def test_speakers_take_turns(tmp_path):
    clips = clips_of(tmp_path / "a", "sw", 9, speakers=3)
    order = in_turn(clips, 0)
    assert sorted(c.utterance.id for c in order) == sorted(c.utterance.id for c in clips)
    for first in range(0, 9, 3):
        assert len({c.speaker for c in order[first : first + 3]}) == 3
    assert order == in_turn(clips[::-1], 0)
    assert order != in_turn(clips, 1)


def test_a_choice_has_the_minutes_asked_for(tmp_path):
    clips = clips_of(tmp_path / "a", "sw", 30) + clips_of(tmp_path / "b", "de", 10)
    settings = {"shortest_s": 1.0, "longest_s": 12.0, "seed": 0}
    chosen = choose(clips, minutes=0.4, temperature=0.0, **settings)
    assert Counter(clip.language for clip in chosen) == {"de": 10, "sw": 10}
    with pytest.raises(ValueError, match=r"No transcribed clip of 1 to 1.1 s"):
        choose(clips, minutes=1, temperature=0.3, **(settings | {"longest_s": 1.1}))


def test_bit_rates():
    assert compression_level(16) == pytest.approx(0.96)
    assert compression_level(3) == 1.0
    clip = Clip(Utterance("a", None, 0.0, 9.8, 16000), "sw", "s", "CC0")
    assert fitting_kbps([clip] * 60, 8.0) == 24.0
    hour = [clip] * 360
    assert 15 < fitting_kbps(hour, 8.0) < 17.8
    with pytest.raises(ValueError, match=r"120 minutes fit into 8 MB with 8.2 kbit/s only.*98"):
        fitting_kbps(hour * 2, 8.0)


def test_a_pack_that_is_too_large_is_not_left_behind(tmp_path):
    clips = clips_of(tmp_path / "a", "sw", 3)
    with pytest.raises(ValueError, match=r"would have 0\.0. MB, more than 0\.001"):
        write_pack(clips, tmp_path / "pack", kbps=16, most_bytes=1000)
    assert not (tmp_path / "pack").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="holds something else"):
        write_pack(clips_of(tmp_path / "a", "sw", 1), tmp_path, kbps=16, most_bytes=10**6)
    assert (tmp_path / "mine.txt").exists()


def test_a_clip_must_say_where_it_is_from(tmp_path, capsys):
    clips = clips_of(tmp_path / "a", "sw", 1)
    write_manifest(tmp_path / "m.jsonl", [c.utterance for c in clips], notes=[{"language": "sw"}])
    assert main([str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "p")]) == 2
    assert "m.jsonl, line 1: source must say" in capsys.readouterr().err


# --- damaged, missing, of another version ---------------------------------------------------------


def damage(pack, name, change):
    path = pack / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda p: damage(p, "sw.opus", lambda b: b[:-9]), "sw.opus is damaged, by its checksum"),
        (lambda p: damage(p, "manifest.jsonl", lambda b: b + b"\n"), "manifest.jsonl is damaged"),
        (lambda p: (p / "de.opus").unlink(), "de.opus is missing: install speechssl again"),
        (lambda p: damage(p, "pack.json", lambda b: b[:20]), "pack.json is damaged"),
        (lambda p: damage(p, "pack.json", lambda _: b"[]"), "pack.json is damaged"),
        (
            lambda p: damage(p, "pack.json", lambda _: b'{"version": 1, "sha256": {}}'),
            "does not name manifest.jsonl",
        ),
        (
            lambda p: damage(p, "pack.json", lambda b: b.replace(b'"version": 1', b'"version": 2')),
            "of version 2 of its form",
        ),
    ],
)
def test_a_pack_that_is_not_whole(harm, said, pack, tmp_path):
    own = copied(pack, tmp_path)
    harm(own)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        rehearsal.open_rehearsal("pack", own)


def test_a_pack_or_manifest_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no rehearsal pack in this installation"):
        rehearsal.open_rehearsal("pack", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"pack\.json is missing"):
        rehearsal.open_rehearsal("pack", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="--rehearsal clips: there is no such manifest"):
        rehearsal.open_rehearsal("clips")


def test_a_manifest_can_be_rehearsed(tmp_path):
    clips = clips_of(tmp_path / "a", "sw", 2)
    path = manifest_of(tmp_path / "m.jsonl", clips)
    assert [u.id for u in rehearsal.open_rehearsal(str(path))] == ["sw-0", "sw-1"]


def test_the_pack_of_the_package_is_whole_where_it_is_there():
    if not rehearsal.PACK_FOLDER.exists():
        with pytest.raises(FileNotFoundError):
            rehearsal.open_rehearsal("pack")
        return
    about = rehearsal.check_pack(rehearsal.PACK_FOLDER)
    assert 30 <= about["minutes"] <= 65
    size = sum(path.stat().st_size for path in rehearsal.PACK_FOLDER.iterdir())
    assert size <= rehearsal.MOST_BYTES
    assert all(u.is_labeled for u in rehearsal.open_rehearsal("pack"))
