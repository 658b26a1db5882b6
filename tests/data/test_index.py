"""Manifests that are indexed instead of read, and several of them in one."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechssl.data import index
from speechssl.data.index import Corpora, ManifestIndex, digests, durations_s, open_manifest
from speechssl.data.manifest import Utterance, read_manifest, write_manifest


def utterances(num: int, prefix: str = "u", folder: Path = Path("/x")) -> list[Utterance]:
    return [
        Utterance(f"{prefix}{i}", folder / f"é{i}.wav", 0.5, 1 + i / 8, 16000, "s", f"ɛ {i}")
        for i in range(num)
    ]


@pytest.fixture
def manifest(tmp_path) -> Path:
    write_manifest(tmp_path / "train.jsonl", utterances(50, folder=tmp_path / "audio"))
    lines = (tmp_path / "train.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_bytes(
        b"\n" + b"".join(lines[:20]) + b" \n\n" + b"".join(lines[20:])
    )
    return tmp_path / "train.jsonl"


def test_an_index_is_the_manifest(manifest):
    whole, opened = read_manifest(manifest), ManifestIndex.open(manifest)
    assert list(opened) == whole
    assert len(opened) == 50
    assert opened[-1] == whole[-1]
    assert opened[3:40:7] == whole[3:40:7]
    assert opened.durations_s().tolist() == [u.duration_s for u in whole]
    assert pickle.loads(pickle.dumps(opened))[20] == whole[20]
    with pytest.raises(IndexError):
        opened[50]


def test_lines_in_any_form(tmp_path):
    written = [
        '{"id": "a\\"b", "audio": "xy.wav", "start_s": 0.0, "duration_s": 1.5, "sample_rate": 8}',
        '{"duration_s":2,"sample_rate":8000,"audio":"y.wav","id":"c","more":{"duration_s":9}}',
        '{"id": "\\u00e9", "audio": "z.wav", "start_s": 1e-05, "duration_s": 3.25, '
        '"sample_rate": 8, "speaker": "s", "text": "say \\"ab\\" \\\\"}',
        '{"id": "d", "audio": "z.wav", "start_s": 0, "duration_s": 4.0, "sample_rate": 8, '
        '"text": ""}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(written), encoding="utf-8")
    opened = ManifestIndex.open(tmp_path / "a.jsonl")
    assert list(opened) == read_manifest(tmp_path / "a.jsonl")
    assert opened.durations_s().tolist() == [1.5, 2.0, 3.25, 4.0]
    assert digests(opened).tolist() == digests(list(opened)).tolist()
    matched = [bool(index._AS_WRITTEN.fullmatch(line.encode())) for line in written]
    assert matched == [False, False, False, True]  # an escaped id is compared as it is read


@pytest.mark.parametrize(
    ("text", "fast"),
    [
        (r'"say \"ab\" \\"', True),
        (r'"\""', True),
        (r'"a\tb\n\u00e9 \u200b"', True),
        (r'"ends with \\"', True),
        ('"wó twεrε"', True),
        (r'"\ud83d\ude00"', False),  # a pair, which might be a half
        (r'"a\u0000b"', False),  # not allowed: looked at more closely
        (r'"\q"', False),
        ('"a\tb"', False),
    ],
)
def test_a_text_with_escapes_takes_the_fast_path(text, fast):
    line = (
        '{"id": "a", "audio": "z \\"1\\".wav", "start_s": 0.0, "duration_s": 4.0, '
        f'"sample_rate": 8, "speaker": "s", "text": {text}}}\n'
    )
    assert bool(index._AS_WRITTEN.fullmatch(line.encode())) is fast


def test_what_is_written_is_not_parsed(tmp_path, monkeypatch):
    """Quotes, backslashes, white space and any script, as transcripts hold them."""
    texts = ['"', "\\", '\\"', "a\tb\nc", "ɛ́ 'x'", "\u200b", "", None]
    given = [
        Utterance(f"u{i}", tmp_path / '"a" \\.wav', 0.0, 1.5, 16000, 's"', text)
        for i, text in enumerate(texts)
    ]
    write_manifest(tmp_path / "a.jsonl", given)
    monkeypatch.setattr(index, "parse_line", lambda *_: pytest.fail("the slow path"))
    opened = ManifestIndex.open(tmp_path / "a.jsonl")
    monkeypatch.undo()
    assert list(opened) == given


@pytest.mark.parametrize("again", ["e\u0301", "é\u200b", " é"])
def test_an_id_in_another_spelling_is_there_already(tmp_path, again):
    given = [Utterance(i, tmp_path / "a.wav", 0.0, 1.0, 8) for i in ("é", "b", again)]
    write_manifest(tmp_path / "a.jsonl", given)
    for read in (read_manifest, ManifestIndex.open):
        with pytest.raises(ValueError, match=r"line 3: id .* is there already, in line 1"):
            read(tmp_path / "a.jsonl")


def test_names_that_are_not_utf8_come_back(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    given = [Utterance(i, Path(f"/x/{i}.wav"), 0.0, 1.0, 16000) for i in (name, "café", "a")]
    write_manifest(tmp_path / "a.jsonl", given)
    opened = ManifestIndex.open(tmp_path / "a.jsonl")
    assert list(opened) == given
    assert os.fsencode(opened[0].audio) == b"/x/caf\xe9.wav"
    write_manifest(tmp_path / "a.jsonl", [*given, given[0]])
    with pytest.raises(ValueError, match=r"line 4: id 'caf\\udce9' is there already, in line 1"):
        ManifestIndex.open(tmp_path / "a.jsonl")


def test_it_is_made_once_and_again_when_the_manifest_changes(manifest, monkeypatch):
    ManifestIndex.open(manifest)
    made = []
    real = index._make_rows
    monkeypatch.setattr(index, "_make_rows", lambda path: made.append(path) or real(path))
    ManifestIndex.open(manifest)
    assert not made
    place = manifest.with_name(".train.jsonl.index.npy")
    place.write_bytes(place.read_bytes()[:200])  # a copy that broke off
    assert len(ManifestIndex.open(manifest)) == 50
    write_manifest(manifest, utterances(7))
    assert len(ManifestIndex.open(manifest)) == 7
    later = place.stat().st_mtime_ns + 10**9
    os.utime(manifest, ns=(later, later))
    ManifestIndex.open(manifest)
    assert len(made) == 3


def test_an_older_manifest_of_the_same_size_has_its_own_index(manifest):
    """`mv` and `cp -p` keep the time of change, so the new manifest is older than the index."""
    ManifestIndex.open(manifest)
    turned = manifest.with_name("turned.jsonl")
    write_manifest(turned, read_manifest(manifest)[::-1])
    turned.write_bytes(turned.read_bytes().ljust(manifest.stat().st_size, b"\n"))
    os.utime(turned, (1e9, 1e9))
    os.replace(turned, manifest)
    opened = ManifestIndex.open(manifest)
    assert list(opened) == read_manifest(manifest)
    assert opened.durations_s()[0] == opened[0].duration_s > opened[-1].duration_s


def test_a_folder_that_cannot_be_written_to(manifest, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(index, "write_array", refuse)
    assert ManifestIndex.open(manifest)[49] == read_manifest(manifest)[49]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{broken", r"line 3: not JSON"),
        (
            b'{"id": "b", "audio": "b.wav", "sample_rate": 1, "duration_s": -1}',
            "line 3: duration_s",
        ),
        (b'{"id": 7, "audio": "b.wav", "sample_rate": 1, "duration_s": 1}', r"line 3: id must be"),
        (
            b'{"id": "u0", "audio": "b.wav", "sample_rate": 1, "duration_s": 1}',
            "line 3: id 'u0' is",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_line(line, said, tmp_path):
    write_manifest(tmp_path / "a.jsonl", utterances(2))
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(ValueError, match=said):
        ManifestIndex.open(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_bytes(b"\n")
    with pytest.raises(ValueError, match="is empty"):
        ManifestIndex.open(tmp_path / "a.jsonl")


def test_only_large_manifests_are_indexed(manifest, monkeypatch):
    assert isinstance(open_manifest(manifest), list)
    monkeypatch.setattr(index, "LARGE_BYTES", 100)
    assert isinstance(open_manifest(manifest), ManifestIndex)
    with pytest.raises(FileNotFoundError, match="No such manifest"):
        open_manifest("gone.jsonl")


def test_digests_tell_utterances_apart_and_not_folders(manifest):
    opened = ManifestIndex.open(manifest)
    assert len(set(digests(opened).tolist())) == 50
    elsewhere = utterances(50, folder=Path("/other/place"))
    assert digests(opened).tolist() == digests(elsewhere).tolist()
    odd = [Utterance("\udc80", Path("a"), 0.0, 1.0, 8, None, None)]
    write_manifest(manifest, odd)
    assert digests(ManifestIndex.open(manifest)).tolist() == digests(odd).tolist()


def test_corpora_are_one_after_the_other(manifest):
    a, b = utterances(5, "a"), ManifestIndex.open(manifest)
    both = Corpora([a, b])
    named = [[replace(u, id=f"{n}/{u.id}") for u in part] for n, part in ((1, a), (2, b))]
    assert list(both) == [*named[0], *named[1]]
    assert both.sizes() == [5, 50]
    assert both[-1].id == "2/u49"
    keep = np.arange(55) % 3 > 0
    some = both.choose(keep)
    assert list(some) == [u for u, k in zip(both, keep, strict=True) if k]
    assert some.sizes() == [3, 33]
    assert durations_s(some).tolist() == [u.duration_s for u in some]
    own = np.concatenate([digests(a), digests(b)])
    assert digests(some).tolist() == own[keep].tolist()
    assert list(Corpora([a])) == a
    fewer = some.choose(np.arange(36) >= 3)
    assert fewer.sizes() == [0, 33]
    assert fewer[0] == some[3]
    assert some[1:3] == [both[2], both[4]]
