"""data_prep: published layouts in small, the same as scripts, and downloads that are verified."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from data_prep import commonvoice, fsdd, librispeech, mboshi, wolof
from speechssl.data.corpus import clone, fetch, main, unpack
from speechssl.data.layouts import Recording
from speechssl.data.manifest import read_manifest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def put(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def sound(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, 8000), 16000)
    return path


def facts(records: list[Recording]) -> set[tuple[str, str | None, str | None, str | None]]:
    return {(r.id, r.speaker, r.text, r.split) for r in records}


# ---- layouts ------------------------------------------------------------------------------------


def small_fsdd(folder: Path) -> Path:
    for seed, name in enumerate(("7_jackson_0", "0_theo_12", "3_yweweler_4", "9_george_1")):
        sound(folder / "recordings" / f"{name}.wav", seed)
    return folder


def small_mboshi(folder: Path) -> Path:
    for seed, name in enumerate(("train/abiayi_x_1", "train/martial_x_2", "dev/abiayi_x_3")):
        path = sound(folder / "full_corpus_newsplit" / f"{name}.wav", seed)
        put(path.with_suffix(".mb.cleaned"), "wa\n")
        put(path.with_suffix(".fr.cleaned"), "il\n")
    return folder


def small_wolof(folder: Path) -> Path:
    for seed, split in enumerate(("train", "dev", "test")):
        name = f"WOL_0{seed}_lect_0001"
        sound(folder / "data" / split / "wav" / f"0{seed}" / f"{name}.wav", seed)
        put(folder / "data" / split / "text", f"{name}  dafa  nangu\n")
    return folder


def small_librispeech(folder: Path) -> Path:
    for seed, part in enumerate(("train-clean-100", "dev-clean", "dev-other")):
        chapter = folder / "LibriSpeech" / part / f"8{seed}" / "12"
        sound(chapter / f"8{seed}-12-0000.flac", seed)
        put(chapter / f"8{seed}-12.trans.txt", f"8{seed}-12-0000 CHAPTER ONE\n")
    return folder


def small_commonvoice(folder: Path) -> Path:
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\n"
    for seed, split in enumerate(("train", "dev", "test", "invalidated")):
        put(folder / f"{split}.tsv", f'{header}s{seed}\tcv_{seed}.mp3\tx\t"Hé, said\t2\n')
        sound(folder / "clips" / f"cv_{seed}.mp3", seed)
    return folder


def test_fsdd_holds_speakers_out(tmp_path: Path) -> None:
    assert facts(list(fsdd.recordings(small_fsdd(tmp_path)))) == {
        ("7_jackson_0", "jackson", "seven", "train"),
        ("0_theo_12", "theo", "zero", "dev"),
        ("3_yweweler_4", "yweweler", "three", "test"),
        ("9_george_1", "george", "nine", "train"),
    }
    sound(tmp_path / "recordings" / "x.wav")
    with pytest.raises(ValueError, match=r"x\.wav is not named digit_speaker_number"):
        list(fsdd.recordings(tmp_path))


def test_mboshi_keeps_the_published_split(tmp_path: Path) -> None:
    assert facts(list(mboshi.recordings(small_mboshi(tmp_path)))) == {
        ("abiayi_x_1", "abiayi", "wa", "train"),
        ("martial_x_2", "martial", "wa", "train"),
        ("abiayi_x_3", "abiayi", "wa", "dev"),
    }


def test_mboshi_with_its_translations(tmp_path: Path) -> None:
    small_mboshi(tmp_path)
    with pytest.raises(ValueError, match=r"no French translations: no \.fr file lies beside"):
        list(mboshi.recordings(tmp_path, text="french"))
    folder = tmp_path / "full_corpus_newsplit"
    put(folder / "train" / "abiayi_x_1.fr", "Celui-ci est l\u2019assesseur, n'est-ce pas ?\n")
    put(folder / "dev" / "abiayi_x_3.fr", "Notre VILLAGE.\n")
    assert facts(list(mboshi.recordings(tmp_path, text="french"))) == {
        ("abiayi_x_1", "abiayi", "celui-ci est l'assesseur n'est-ce pas", "train"),
        ("martial_x_2", "martial", None, "train"),
        ("abiayi_x_3", "abiayi", "notre village", "dev"),
    }


@pytest.mark.parametrize(("text", "words"), [("mboshi", {"wa"}), ("french", {"il bat"})])
def test_which_text_is_an_option(tmp_path: Path, text: str, words: set[str]) -> None:
    small_mboshi(tmp_path)
    for path in (tmp_path / "full_corpus_newsplit").rglob("*.wav"):
        put(path.with_suffix(".fr"), "Il bat\n")
    argv = [str(tmp_path), "--out", str(tmp_path / "out"), "--text", text]
    assert main("", mboshi.recordings, mboshi.download, argv, texts=tuple(mboshi.TEXTS)) == 0
    assert {u.text for u in read_manifest(tmp_path / "out" / "train.jsonl")} == words
    with pytest.raises(SystemExit, match="2"):
        main("", mboshi.recordings, mboshi.download, [*argv[:-1], "english"], texts=("mboshi",))


def test_wolof_as_published_and_with_its_own_table(tmp_path: Path) -> None:
    found = list(wolof.recordings(small_wolof(tmp_path)))
    assert facts(found) == {
        ("WOL_00_lect_0001", "WOL_00", "dafa  nangu", "train"),
        ("WOL_01_lect_0001", "WOL_01", "dafa  nangu", "dev"),
        ("WOL_02_lect_0001", "WOL_02", "dafa  nangu", "test"),
    }
    put(
        tmp_path / "splits.tsv", f"id\tpath\tspeaker\tsplit\ttext\nw\t{found[0].audio}\t1\tdev\tx\n"
    )
    assert facts(list(wolof.recordings(tmp_path))) == {("w", "1", "x", "dev")}


def test_librispeech_from_inside_and_outside_and_by_part(tmp_path: Path) -> None:
    small_librispeech(tmp_path)
    everything = facts(list(librispeech.recordings(tmp_path)))
    assert everything == {
        ("80-12-0000", "80", "CHAPTER ONE", "train"),
        ("81-12-0000", "81", "CHAPTER ONE", "dev"),
        ("82-12-0000", "82", "CHAPTER ONE", "dev"),
    }
    assert facts(list(librispeech.recordings(tmp_path / "LibriSpeech"))) == everything
    found = list(librispeech.recordings(tmp_path, ["dev-other"]))
    assert [record.id for record in found] == ["82-12-0000"]
    with pytest.raises(FileNotFoundError, match="test-clean"):
        list(librispeech.recordings(tmp_path, ["test-clean"]))


def test_common_voice_takes_the_three_tables(tmp_path: Path) -> None:
    found = list(commonvoice.recordings(small_commonvoice(tmp_path)))
    assert facts(found) == {
        ("cv_0", "s0", '"Hé, said', "train"),
        ("cv_1", "s1", '"Hé, said', "dev"),
        ("cv_2", "s2", '"Hé, said', "test"),
    }
    assert found[0].audio == tmp_path / "clips" / "cv_0.mp3"


@pytest.mark.parametrize(
    ("module", "make", "name"),
    [
        (wolof, small_wolof, "data/dev/text"),
        (librispeech, small_librispeech, "LibriSpeech/dev-clean/81/12/81-12.trans.txt"),
    ],
)
def test_transcripts_of_other_recordings_are_refused(
    tmp_path: Path, module: ModuleType, make: Callable[[Path], Path], name: str
) -> None:
    put(make(tmp_path) / name, "x1 YES\nx2 NO\n")
    with pytest.raises(ValueError, match=rf"{name} holds 2 transcripts and none .* first id is x1"):
        list(module.recordings(tmp_path))


def test_ids_in_another_unicode_form_are_the_same(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "WOL_né_l_1") for form in ("NFC", "NFD"))
    small_wolof(tmp_path)
    sound(tmp_path / "data" / "dev" / "wav" / f"{nfd}.wav")
    put(tmp_path / "data" / "dev" / "text", f"WOL_01_lect_0001 x\n{nfc} yes\n")
    assert {r.text for r in wolof.recordings(tmp_path) if r.split == "dev"} == {"x", "yes"}


CORPORA = [
    (fsdd, small_fsdd, {"train": 2, "dev": 1, "test": 1}),
    (mboshi, small_mboshi, {"train": 2, "dev": 1}),
    (wolof, small_wolof, {"train": 1, "dev": 1, "test": 1}),
    (librispeech, small_librispeech, {"train": 1, "dev": 2}),
    (commonvoice, small_commonvoice, {"train": 1, "dev": 1, "test": 1}),
]


@pytest.mark.parametrize("module", [corpus[0] for corpus in CORPORA])
def test_another_folder_is_refused_with_a_sentence(tmp_path: Path, module: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        list(module.recordings(tmp_path))


def run(module: ModuleType, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The script as a person runs it, from elsewhere, with the package on the path."""
    return subprocess.run(
        [sys.executable, str(module.__file__), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.parametrize(("module", "make", "counts"), CORPORA)
def test_scripts_write_manifests(
    tmp_path: Path, module: ModuleType, make: object, counts: dict[str, int]
) -> None:
    source = make(tmp_path / "in")  # type: ignore[operator]
    done = run(module, source, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "split by source" in done.stdout
    found = {name: len(read_manifest(tmp_path / "out" / f"{name}.jsonl")) for name in counts}
    assert found == counts
    assert (tmp_path / "out" / "test.jsonl").exists() == ("test" in counts)
    assert (tmp_path / "out" / "dropped.jsonl").read_text() == ""


def test_wrong_input_to_a_script_is_one_sentence(tmp_path: Path) -> None:
    done = run(fsdd, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"fsdd.py: No such folder: {tmp_path / 'nowhere'}."]


# ---- downloads ----------------------------------------------------------------------------------


def test_fetch_verifies_and_leaves_nothing_half(tmp_path: Path) -> None:
    origin = put(tmp_path / "origin", "content")
    md5 = hashlib.md5(b"content").hexdigest()
    target = tmp_path / "new" / "target"
    fetch(origin.as_uri(), target, md5=md5)
    assert target.read_text() == "content"
    origin.unlink()
    fetch(origin.as_uri(), target, md5=md5)  # it is there: nothing is fetched
    with pytest.raises(OSError, match="cannot be fetched"):
        fetch(origin.as_uri(), tmp_path / "other", md5=md5)
    put(origin, "damaged")
    with pytest.raises(ValueError, match="is damaged: its MD5 is"):
        fetch(origin.as_uri(), tmp_path / "other", md5=md5)
    put(target, "damaged by someone")
    put(origin, "content")
    fetch(origin.as_uri(), target, md5=md5)
    assert target.read_text() == "content"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "origin"]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("../escaped")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(ValueError, match=r"bad\.tar\.gz cannot be unpacked"):
        unpack(tmp_path / "bad.tar.gz", tmp_path / "folder")
    assert not (tmp_path / "escaped").exists()


def test_librispeech_is_downloaded_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin, target = small_librispeech(tmp_path / "origin"), tmp_path / "target"
    for part in ("dev-clean", "dev-other"):
        with tarfile.open(origin / f"{part}.tar.gz", "w:gz") as tar:
            tar.add(origin / "LibriSpeech" / part, f"LibriSpeech/{part}")
        content = (origin / f"{part}.tar.gz").read_bytes()
        monkeypatch.setitem(librispeech.MD5, part, hashlib.md5(content).hexdigest())
    for _ in range(2):  # the second time finds everything there
        librispeech.download(target, ["dev-clean", "dev-other"], url=origin.as_uri())
    assert [path.name for path in target.iterdir()] == ["LibriSpeech"]
    assert len(list(librispeech.recordings(target))) == 2
    monkeypatch.setitem(librispeech.MD5, "dev-clean", "0" * 32)
    with pytest.raises(ValueError, match="damaged"):
        librispeech.download(tmp_path / "again", ["dev-clean"], url=origin.as_uri())


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_clone_takes_the_commit_and_not_what_came_after(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", *who, "-C", str(origin), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for content in ("old", "new"):
        put(origin / "file", content)
        git("add", "file")
        git("commit", "-q", "-m", content)
        commits.append(git("rev-parse", "--short=7", "HEAD"))
    for _ in range(2):
        clone(origin.as_uri(), commits[0], tmp_path / "copy")
    assert (tmp_path / "copy" / "file").read_text() == "old"
    with pytest.raises(ValueError, match=r"git .*checkout.* failed"):
        clone(origin.as_uri(), "0123456", tmp_path / "copy")
    with pytest.raises(ValueError, match="is not empty"):
        clone(origin.as_uri(), commits[0], put(tmp_path / "mine" / "x").parent)
    with pytest.raises(ValueError, match=r"git clone .* failed"):
        clone((tmp_path / "nowhere").as_uri(), commits[0], tmp_path / "none")


@pytest.mark.parametrize(
    ("module", "place"), [(wolof, "openslr.org/25"), (commonvoice, "commonvoice.mozilla.org")]
)
def test_no_download_says_where_to_get_it(
    tmp_path: Path, module: ModuleType, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tmp_path), "--out", str(tmp_path / "out"), "--download"]
    from speechssl.data.corpus import main

    assert main("", module.recordings, module.download, arguments) == 2
    assert place in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---- the real corpora ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "counts", "speakers"),
    [
        (mboshi, "mboshi", {"train": 4616, "dev": 514}, 3),
        (wolof, "wolof", {"train": 400, "dev": 91, "test": 109}, 10),
        (fsdd, "fsdd", {"train": 2000, "dev": 500, "test": 500}, 6),
    ],
)
def test_real_corpora_have_their_published_sizes(
    module: ModuleType, name: str, counts: dict[str, int], speakers: int
) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not here")
    found = list(module.recordings(SHARED / name))
    assert Counter(record.split for record in found) == counts
    assert len({record.speaker for record in found}) == speakers
    assert all(record.text and record.audio.is_file() for record in found)
