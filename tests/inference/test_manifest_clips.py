"""The utterances of a manifest are transcribed as the files that they would be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from speechssl import audio
from speechssl.cli import main
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.inference.manifest_clips import named_by_id
from speechssl.inference.recordings import Clip, output_names


@pytest.fixture
def utterances(record) -> list[Utterance]:
    """Three of one recording, whose ids are like paths."""
    path = record("all.wav", 2.5)
    parts = (("x_1", 0.0, 0.8), ("s/x.2", 0.8, 0.7), ("../../out", 1.5, 1.0))
    return [Utterance(name, path, start, seconds, 16000) for name, start, seconds in parts]


@pytest.fixture
def transcribe(tmp_path, tiny_models, utterances, capsys):
    """Transcribes places, at first the manifest; the exit code, stdout and stderr."""
    write_manifest(tmp_path / "m.jsonl", utterances)

    def run(*arguments: object) -> tuple[int, str, str]:
        places = [str(a) for a in (tmp_path / "m.jsonl", *arguments)]
        code = main(["transcribe", str(tiny_models["ctc"]), *places])
        return code, *capsys.readouterr()

    return run


def test_each_utterance_has_the_text_of_its_part(transcribe, utterances, tmp_path):
    wave, rate = audio.read(utterances[0].audio), 16000
    for number, each in enumerate(utterances):
        start, end = round(each.start_s * rate), round((each.start_s + each.duration_s) * rate)
        audio.write(tmp_path / f"{number}.wav", wave[start:end], rate)
    out = tmp_path / "deep" / "er" / "texts"
    files = [tmp_path / f"{number}.wav" for number in range(3)]
    code, said, _ = transcribe(*files, "--out", out, "--format", "json")
    names = {str(path.relative_to(tmp_path)) for path in (tmp_path / "deep").rglob("*.json")}
    inside = ("x_1", "s/x.2", "_/_/out", "0", "1", "2")
    assert names == {f"deep/er/texts/{name}.json" for name in inside}
    assert (code, said) == (0, "")
    found = [json.loads((out / f"{name}.json").read_text()) for name in inside]
    for part, whole, utterance in zip(found[:3], found[3:], utterances, strict=True):
        assert part.pop("audio") == utterance.id
        whole.pop("audio")
        assert part == whole
    assert len({each["text"] for each in found}) == 3


def test_on_stdout_the_ids_stand_before_the_texts(transcribe, utterances):
    code, said, _ = transcribe()
    assert code == 0
    assert [line.split("\t")[0] for line in said.splitlines()] == [u.id for u in utterances]


def test_what_is_done_is_known_by_the_part(transcribe, utterances, tmp_path):
    out = tmp_path / "texts"
    transcribe("--out", out, "--skip-existing")
    assert "3 of 3 recordings" in transcribe("--out", out, "--skip-existing")[2]
    before = (out / "x_1.txt").stat().st_ino, (out / "s/x.2.txt").stat().st_ino
    utterances[1] = replace(utterances[1], duration_s=0.6)
    write_manifest(tmp_path / "m.jsonl", utterances)
    assert "2 of 3 recordings" in transcribe("--out", out, "--skip-existing")[2]
    assert (out / "x_1.txt").stat().st_ino == before[0]
    assert (out / "s/x.2.txt").stat().st_ino != before[1]


def test_a_manifest_that_is_broken(transcribe, tmp_path):
    (tmp_path / "m.jsonl").write_text('{"id": "a"}\n')
    code, said, why = transcribe()
    assert (code, said) == (2, "")
    assert "m.jsonl" in why
    assert "line 1" in why


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", "a"),
        ("a.b", "a.b"),
        ("a/b", "a/b"),
        ("/etc/x", "etc/x"),
        ("..", "_"),
        ("a\\..\\b", "a/_/b"),
        ("/", "_"),
        ("a\0b", "a_b"),
    ],
)
def test_no_id_leaves_the_folder(name, expected):
    assert output_names([named_by_id(Clip(name, Path("x.wav"), 0.0, 1.0))]) == [expected]


def test_ids_that_differ_by_case_only_have_two_files():
    clips = [named_by_id(Clip(name, Path("x.wav"), 0.0, 1.0)) for name in ("a", "A")]
    assert output_names(clips) == ["a", "A-2"]
