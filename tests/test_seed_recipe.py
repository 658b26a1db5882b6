"""The scripts of the recipe seed: a manifest in parts, and the held-out probe."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.seed_probe import as_phones, judge_log, romanised, some
from benchmarks.seed_probe import main as probe
from data_prep.open_speech.sources import ATTRIBUTION, SOURCES
from recipes.seed.by_language import main as by_language
from recipes.seed.card import main as make_card
from speechssl.checkpoint import Checkpoint, save_model
from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.seed.card import Score, notice, read_card
from speechssl.text import CharTokenizer
from tests.training.conftest import MICRO, tone_utterances


def utterances(num):
    return [
        Utterance(f"u{i}", Path("/speech") / f"{i}.wav", 0.0, 36.0, 16000, None, f"t {i}", ipa="t")
        for i in range(num)
    ]


def written(path, languages, name="language"):
    notes = [{name: language, "more": i} for i, language in enumerate(languages)]
    path.parent.mkdir(exist_ok=True, parents=True)
    write_manifest(path, utterances(len(languages)), notes=notes)
    return path


def test_a_manifest_in_parts(tmp_path, capsys):
    manifest = written(tmp_path / "data" / "train.jsonl", ["sw", "de", "sw", "yo-x", "sw"])
    out = tmp_path / "deep" / "languages"
    assert by_language([str(manifest), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("sw 0.03 h, ")
    parts = {path.stem: read_manifest(path) for path in out.glob("*.jsonl")}
    assert {name: [u.id for u in own] for name, own in parts.items()} == {
        "sw": ["u0", "u2", "u4"],
        "de": ["u1"],
        "yo-x": ["u3"],
    }
    whole = {u.id: u for u in read_manifest(manifest)}
    assert all(whole[u.id] == u for own in parts.values() for u in own)  # paths and ipa too
    line = json.loads((out / "de.jsonl").read_text(encoding="utf-8"))
    assert line["more"] == 1
    assert by_language([str(manifest), "--out", str(out)]) == 0  # again, over what is there


def test_parts_by_another_field(tmp_path):
    manifest = written(tmp_path / "train.jsonl", ["a", "b"], "source")
    out = tmp_path / "out"
    assert by_language([str(manifest), "--out", str(out), "--field", "source"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("languages", "said"),
    [
        (["sw", None], "line 2: language must be a string"),
        (["sw", "../up"], "line 2: language must be a string"),
        (["sw", ""], "line 2: language must be a string"),
        ([], "is empty"),
    ],
)
def test_what_cannot_be_parted(languages, said, tmp_path, capsys):
    manifest = written(tmp_path / "train.jsonl", languages)
    assert by_language([str(manifest), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_parts_of_another_manifest_are_not_mixed_in(tmp_path, capsys):
    written(tmp_path / "out" / "fr.jsonl", ["fr"])
    manifest = written(tmp_path / "train.jsonl", ["sw"])
    assert by_language([str(manifest), "--out", str(tmp_path / "out")]) == 2
    assert "holds fr.jsonl, which is no part of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("wó twεrε ya poo", "wo twere ya poo"),
        ("Ŋórɔ, ɓá!", "ngoro ba"),
        ("ñówul", "nowul"),
        ("l'eau  ", "l'eau"),
        ("漢字", ""),
    ],
)
def test_both_sides_are_compared_as_plain_letters(text, wanted):
    assert romanised(text) == wanted


def test_phones_are_one_character_each():
    (first, second) = as_phones(utterances(2), utterances(1))
    assert first[0].text == first[1].text == second[0].text
    assert len(first[0].text) == 1


def test_the_same_utterances_are_judged():
    chosen = some(utterances(50), 10)
    assert chosen == some(utterances(50), 10)
    assert len(chosen) == 10
    assert [u.id for u in chosen] == sorted((u.id for u in chosen), key=lambda i: int(i[1:]))


@pytest.mark.parametrize(
    ("at", "scores", "improved", "flat"),
    [
        ([100], [0.5], True, False),
        ([100, 200], [0.5, 0.4], True, False),
        ([100, 200], [0.5, 0.6], False, True),
        ([100, 800, 1000], [0.5, 0.4, 0.399], True, True),
        ([100, 700, 850, 1000], [0.5, 0.4, 0.38, 0.39], False, False),
        ([100, 790, 900, 1000], [0.5, 0.4, 0.4, 0.4], True, True),
    ],
)
def test_what_the_log_says(at, scores, improved, flat):
    lines = [{"at": a, "score": s} for a, s in zip(at, scores, strict=True)]
    assert judge_log(lines) == {"improved": improved, "flat": flat}


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Manifests of tones, and a model of fresh weights with a head."""
    folder = tmp_path_factory.mktemp("held")
    spoken = tone_utterances(folder, 16, 3)
    write_manifest(folder / "train.jsonl", spoken[:10])
    write_manifest(folder / "dev.jsonl", spoken[10:])
    tokenizer = CharTokenizer.train(["abcdef"])
    model = CTCModel(SpeechModel(MICRO), CTCHead(MICRO.context.dim, tokenizer.vocab_size))
    save_model(folder / "model", Checkpoint(model, tokenizer, {"steps": 7}))
    return folder


def test_the_probe_writes_one_line_and_its_log(held, tmp_path, capsys):
    log = tmp_path / "deep" / "log.jsonl"
    given = [str(held / "model"), "--steps", "3", "--log", str(log)]
    given += ["--train", str(held / "train.jsonl"), "--dev", str(held / "dev.jsonl")]
    assert probe(given) == 0
    line = json.loads(capsys.readouterr().out)
    (found,) = line["languages"].values()
    assert found["probe"]["of"] == "phones"
    assert found["probe"]["rate"] == min(found["probe"]["layers"]) == line["score"]
    assert len(found["probe"]["layers"]) == MICRO.context.num_layers + 1
    assert found["cer"] is not None
    assert (line["at"], line["improved"], line["flat"]) == (7, True, False)
    assert probe([*given, "--at", "90"]) == 0
    lines = [json.loads(text) for text in log.read_text(encoding="utf-8").splitlines()]
    assert [one["at"] for one in lines] == [7, 90]
    assert lines[1]["flat"]
    assert np.isclose(lines[0]["score"], lines[1]["score"])


def test_what_the_probe_cannot_use(held, tmp_path, capsys):
    manifests = ["--train", str(held / "train.jsonl"), "--dev", str(held / "dev.jsonl")]
    assert probe([str(held / "model"), *manifests, str(held / "dev.jsonl")]) == 2
    assert "--train names 1 manifests and --dev 2" in capsys.readouterr().err
    (tmp_path / "log").write_text("{}\n")
    assert probe([str(held / "model"), *manifests, "--steps", "1", "--log", str(tmp_path / "log")])
    assert "is no log of this script" in capsys.readouterr().err


def crops(folder, *sources):
    rows = [
        {"source": name, "language": "eng", "duration_s": 1800.0, "text": text}
        for name, text in sources
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = {
        source.name: {
            "parts": source.parts,
            "licence": source.licence,
            "terms": source.terms,
            "attribution": ATTRIBUTION.get(source.name, ""),
        }
        for source in SOURCES
    }
    (folder / "summary.json").write_text(json.dumps({"sources": known}))
    return folder


def test_a_card_names_who_asks_to_be_named(tmp_path, capsys):
    data = crops(tmp_path, ("intents", "turn on"), ("precise", None), ("intents", None))
    out = tmp_path / "card.json"
    stated = ["--license", "CC-BY-4.0", "--score", "FSDD, WER", "9 %"]
    assert make_card([str(data), "--out", str(out), *stated]) == 0
    assert capsys.readouterr().out == "2 sources, 1.5 h, 1 languages\n"
    card = read_card(out)
    assert [(s.name, s.hours, s.transcripts) for s in card.sources] == [
        ("intents", 1.0, True),
        ("precise", 0.5, False),
    ]
    assert card.scores == (Score("FSDD, WER", "9 %"),)
    assert "Picovoice" in notice(card)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_is_attributed_or_kept_out_of_a_card(tmp_path, source, capsys):
    data = crops(tmp_path, (source.name, "a"))
    code = make_card([str(data), "--out", str(tmp_path / "c.json"), "--license", "CC-BY-4.0"])
    assert code == (2 if source.terms == "alike" else 0)
    if source.terms == "alike":
        assert "--terms free notice" in capsys.readouterr().err


def test_a_card_of_an_unknown_source(tmp_path, capsys):
    data = crops(tmp_path, ("nobody", "a"))
    assert make_card([str(data), "--out", str(tmp_path / "c.json"), "--license", "MIT"]) == 2
    assert "says nothing of the source nobody" in capsys.readouterr().err
