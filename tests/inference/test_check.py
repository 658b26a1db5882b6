"""Wrong transcripts come out on top."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch

from benchmarks import label_errors
from speechssl.checkpoint import load_model
from speechssl.cli import main
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.inference.check import _ctc_losses, check, describe, write_check
from speechssl.inference.transcribe import transcribe
from speechssl.text import UNKNOWN_ID


@pytest.fixture
def checkpoint(tiny_models):
    return load_model(tiny_models["ctc"])


@pytest.fixture
def utterances(checkpoint, record) -> list[Utterance]:
    """With the output of the model as transcripts."""
    made = []
    for i in range(8):
        path = record(f"{i}.wav", 0.6 + 0.2 * i)
        text = transcribe(checkpoint, path).text
        made.append(Utterance(f"u{i}", path, 0.0, 0.6 + 0.2 * i, 16000, None, text))
    return made


def test_swapped_transcripts_come_first(checkpoint, utterances):
    swapped = list(utterances)
    swapped[2] = replace(utterances[2], text=utterances[5].text)
    swapped[5] = replace(utterances[5], text=utterances[2].text)
    found = check(checkpoint, swapped)
    assert {j.id for j in found.judged[:2]} == {"u2", "u5"}
    right = found.judged[2:]
    assert all(j.suspicion < found.judged[1].suspicion / 3 and j.cer < 0.1 for j in right)
    assert found.judged[0].cer > 0.3
    assert all(0 < j.alignment <= 1 for j in right)


def test_the_order_does_not_depend_on_the_batches(checkpoint, utterances):
    wrong = [replace(u, text="abc def") for u in utterances]
    together, alone = (check(checkpoint, wrong, batch_s=s).judged for s in (60.0, 0.1))
    assert [j.id for j in together] == [j.id for j in alone]
    assert [j.loss for j in together] == pytest.approx([j.loss for j in alone], rel=1e-4)


def test_losses_are_the_sum_over_all_paths():
    torch.manual_seed(0)
    rows = torch.randn(1, 3, 3).log_softmax(-1)
    paths = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]

    def spelled(path):
        return [s for t, s in enumerate(path) if s and (t == 0 or path[t - 1] != s)]

    total = sum(
        math.exp(sum(float(rows[0, t, s]) for t, s in enumerate(path)))
        for path in paths
        if spelled(path) == [1, 2]
    )
    (loss,) = _ctc_losses(rows, torch.tensor([3]), [[1, 2]])
    assert loss == pytest.approx(-math.log(total), rel=1e-5)
    assert _ctc_losses(rows, torch.tensor([3]), [[1, 1, 2, 2]]) == [math.inf]


def test_what_cannot_be_right_or_read(checkpoint, utterances, tmp_path):
    odd = [
        replace(utterances[0], text="abc def " * 50),
        utterances[1],
        replace(utterances[2], audio=tmp_path / "gone.wav"),
        replace(utterances[3], text=None),
        utterances[4],
        replace(utterances[5], text=" \u200b"),  # blank: not judged as if nothing had been said
    ]
    found = check(checkpoint, odd)
    ids = [j.id for j in found.judged]
    assert (ids[0], sorted(ids)) == ("u0", ["u0", "u1", "u4"])
    assert found.judged[0].suspicion == math.inf
    assert [u.audio for u in found.unreadable] == ["u2"]
    assert found.num_untranscribed == 2
    shown = describe(found, 2)
    assert shown.startswith("3 transcripts checked; the 2 that look most wrong:")
    assert "1. u0: the recording is too short for it" in shown
    assert "Left out: 2 utterances without a transcript" in shown
    write_check(tmp_path / "found.jsonl", found)
    lines = (tmp_path / "found.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["suspicion"] is None for line in lines] == [True, False, False]
    with pytest.raises(ValueError, match=r"must end in \.jsonl or \.tsv"):
        write_check(tmp_path / "found.txt", found)
    named = replace(found.judged[0], id="caf\udce9")  # by a file's name that is no UTF-8
    found = replace(found, judged=(named, *found.judged[1:]))
    for name in ("found.jsonl", "found.tsv"):
        write_check(tmp_path / name, found)
        assert r"caf\udce9" in (tmp_path / name).read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="None of the 1 utterances has a transcript"):
        check(checkpoint, [odd[3]])


@pytest.fixture
def spelling(checkpoint):
    """A model that never outputs the unknown symbol."""
    with torch.no_grad():
        checkpoint.model.head.linear.bias[UNKNOWN_ID] = -1e4
    return checkpoint


@pytest.fixture
def spelled(spelling, utterances) -> list[Utterance]:
    return [replace(u, text=transcribe(spelling, u.audio).text) for u in utterances]


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        (str.upper, "ABCDÉF"),
        (lambda text: text + "1999", "19"),
        (lambda text: "«" + text + "!»", "«!»"),
        (lambda text: "Ω" + text[1:], "Ω"),
        (lambda text: "日本語" * 20 + text, "日本語"),  # would need 119 frames, were it one symbol
    ],
    ids=["case", "digits", "punctuation", "one letter", "many"],
)
def test_unknown_characters_are_no_sign_of_a_wrong_transcript(change, unknown, spelling, spelled):
    swapped = [*spelled[:6], *(replace(u, text="fad cba") for u in spelled[6:])]
    odd = [replace(u, text=change(u.text)) if i == 2 else u for i, u in enumerate(swapped)]
    said: list[str] = []
    found = check(spelling, odd, say=said.append)
    assert len(said) == 1
    assert said[0].startswith("1 of 8 transcripts (u2) hold")
    assert {j.id for j in found.judged[:2]} == {"u6", "u7"}
    (judged,) = (j for j in found.judged if j.unknown)
    assert judged.id == "u2"
    assert set(judged.unknown) <= set(unknown)
    assert judged.suspicion < 0.1
    shown = describe(found, 8)
    assert "too short" not in shown
    assert "1 transcripts were compared without the characters that the model does not" in shown
    assert ", compared without " in shown


def test_a_swapped_transcript_with_an_unknown_character_still_comes_first(spelling, spelled):
    odd = [replace(u, text="fad cba!") if i == 4 else u for i, u in enumerate(spelled)]
    first, *right = check(spelling, odd).judged
    assert (first.id, first.unknown) == ("u4", "!")
    assert first.suspicion > 3 * max(j.suspicion for j in right)


def test_without_unknown_characters_nothing_is_said(spelling, spelled):
    said: list[str] = []
    found = check(spelling, spelled, say=said.append)
    assert not said
    assert not found.unknown
    assert "compared without" not in describe(found, 8)


def test_the_command(utterances, tiny_models, tmp_path, capsys):
    wrong = [replace(utterances[0], text="fed\tcba"), *utterances[1:]]
    write_manifest(tmp_path / "data.jsonl", wrong)
    command = ["check", str(tiny_models["ctc"]), str(tmp_path / "data.jsonl")]
    assert main([*command, "--out", str(tmp_path / "found.tsv"), "--top", "1"]) == 0
    out = capsys.readouterr().out
    assert "1. u0: " in out
    assert "2. " not in out
    write_manifest(tmp_path / "upper.jsonl", [replace(utterances[0], text="ABC")])
    for name in ("check", "evaluate"):
        options = ["--normalize", "none"] if name == "evaluate" else []
        assert main([name, command[1], str(tmp_path / "upper.jsonl"), *options]) == 0
        assert "1 of 1 transcripts (u0) holds characters" in capsys.readouterr().err
    with (tmp_path / "found.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows[0]["id"] == "u0"
    assert len(rows) == 8
    assert main([*command, "--out", str(tmp_path / "found.txt")]) == 2
    assert main(["check", str(tiny_models["speech"]), str(tmp_path / "data.jsonl")]) == 2
    utterances[3].audio.unlink()
    assert main(command) == 1
    assert "1 of 8 recordings could not be read" in capsys.readouterr().err


def test_the_benchmark_rates_a_ranking(checkpoint, utterances):
    swapped, wrong = label_errors.swap(utterances, 3, seed=0)
    assert sum(a.text != b.text for a, b in zip(utterances, swapped, strict=True)) == len(wrong)
    rated = label_errors.rate(check(checkpoint, swapped).judged, wrong)
    assert rated["suspicion"] == {
        "precision_at_swaps": 1.0,
        "precision_top_5_percent": 1.0,
        "recall_top_5_percent": pytest.approx(1 / len(wrong)),
        "auc": 1.0,
    }
    reverse = label_errors.rate(check(checkpoint, utterances).judged[::-1], {"u0"})
    assert 0 <= reverse["suspicion"]["auc"] <= 1
    with pytest.raises(ValueError, match="between 2 and 8"):
        label_errors.swap(utterances, 9, seed=0)
