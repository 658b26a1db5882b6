"""Transcripts that look wrong as a queue and as a tier."""

from pathlib import Path

import pytest

from speechssl import annotations
from speechssl.annotations.eaf_writing import write_eaf
from speechssl.cli import main
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.desk import corrections
from speechssl.desk.queue import read_queue
from speechssl.desk.suspicious import why
from speechssl.inference.check import Judged


@pytest.fixture
def check(tiny_models, record, tmp_path, capsys):
    rows = [
        Utterance(f"u{i}", record(f"in/{i}.wav", 1.0 + i / 2), 0.0, 1.0 + i / 2, 16000, "ada", text)
        for i, text in enumerate(("abc", "déf", "a" * 200))
    ]
    path = tmp_path / "in" / "all.jsonl"
    write_manifest(path, rows)

    def call(*given: object, code: int = 0) -> tuple[str, str]:
        assert main(["check", str(tiny_models["ctc"]), str(path), *map(str, given)]) == code
        said = capsys.readouterr()
        return said.out, said.err

    return call


def test_a_queue_has_the_transcript_as_text_beside_the_hypothesis(check, tmp_path):
    desk = tmp_path / "desk"
    out, _ = check("--top", 2, "--queue", desk)
    assert "Queue of 2" in out
    items = read_queue(desk)
    assert items[0].audio.name == "2.wav"
    assert items[0].reason == "the recording is too short for its transcript"
    (segment,) = corrections.read(desk / items[0].corrections).segments
    assert segment.text == "a" * 200
    assert segment.hypothesis == items[0].hypothesis != segment.text
    assert not segment.checked
    assert segment.model_digest
    before = (desk / "queue.jsonl").read_bytes()
    check("--top", 2, "--queue", desk)  # again
    assert (desk / "queue.jsonl").read_bytes() == before
    assert len(corrections.read(desk / items[0].corrections).segments) == 1


def test_a_tier_more_in_a_copy_of_the_persons_own_file(check, tmp_path):
    pytest.importorskip("pympi")
    own = annotations.Tier("tx@ada", (annotations.Segment(0.0, 1.0, "abc"),))
    (tmp_path / "in" / "0.eaf").write_text(write_eaf(annotations.Annotations((own,))))
    given = (tmp_path / "in" / "0.eaf").read_bytes()
    out, _ = check("--top", 3, "--eaf", tmp_path / "eaf")
    assert out.count("Tier 'suspicious'") == 3
    assert (tmp_path / "in" / "0.eaf").read_bytes() == given
    tiers = {
        path.name: [tier.name for tier in annotations.read(path).tiers]
        for path in sorted((tmp_path / "eaf").iterdir())
    }
    assert tiers == {
        "0.eaf": ["tx@ada", "suspicious"],
        "1.eaf": ["transcript", "suspicious"],
        "2.eaf": ["transcript", "suspicious"],
    }
    marks = annotations.read(tmp_path / "eaf" / "2.eaf").tiers[1].segments
    assert marks[0].text.endswith("[the recording is too short for its transcript]")


def test_a_file_that_is_there_is_not_overwritten(check, tmp_path):
    (tmp_path / "eaf").mkdir()
    (tmp_path / "eaf" / "1.eaf").write_text("mine")
    _, err = check("--eaf", tmp_path / "eaf", code=2)
    assert "1.eaf is there and is not overwritten" in err
    assert {path.name for path in (tmp_path / "eaf").iterdir()} == {"1.eaf"}


@pytest.mark.parametrize(
    ("suspicion", "said"),
    [
        (2.5, "transcript in doubt: 2.50 nats a symbol, CER 80 %"),
        (float("inf"), "the recording is too short for its transcript"),
    ],
)
def test_what_speaks_against_a_transcript(suspicion, said):
    judged = Judged("u", str(Path("a.wav")), 0.0, suspicion, 0.8, 3.0, 0.5, 0.1, "a", "b")
    assert why(judged) == said
