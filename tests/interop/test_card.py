"""The model card of an export: every field is filled from what the run knew."""

from dataclasses import replace

import pytest

from speechssl.cli import main
from speechssl.interop.card import CardFields, model_card
from tests.interop.test_families import config
from tests.interop.test_folders import own

IMPORTED = {
    "task": "import",
    "source": "facebook/hubert-base-ls960",
    "left_out": ["label_embs_concat"],
}
PRETRAINED = {
    "task": "pretrain",
    "train_minutes": 246.0,
    "train_utterances": 4616,
    "steps": 8000,
    "seed": 3,
    "objectives": ["contrastive prediction of quantized targets", "distortion reconstruction"],
    "init": IMPORTED,
}
FINETUNED = {
    "task": "finetune",
    "train_minutes": 10.2,
    "train_utterances": 190,
    "steps": 1000,
    "seed": 1,
    "valid": {"wer": 0.7451, "cer": 0.274},
    "valid_intervals": {"wer": [0.724, 0.766], "cer": [0.265, 0.284]},
    "valid_utterances": 514,
    "valid_characters_unseen_in_training": {"ž": 3},
    "init": PRETRAINED,
}


@pytest.fixture
def ctc():
    return replace(own(config("group", "post")), meta=FINETUNED)


def front(card: str) -> dict[str, str]:
    """The lines between the two bars."""
    _, lines, _ = card.split("---\n", 2)
    return dict(line.split(": ", 1) for line in lines.splitlines() if ": " in line)


def test_what_the_runs_knew_is_on_the_card(ctc):
    card = model_card(ctc, "hf", None, CardFields("CC-BY-4.0", ["mdw", "fr"]))
    assert front(card) == {
        "library_name": "transformers",
        "pipeline_tag": "automatic-speech-recognition",
        "license": "cc-by-4.0",
    }
    assert "language:\n- mdw\n- fr\n" in card
    for said in (
        "## Languages\n\nmdw, fr",
        "## Licence\n\nCC-BY-4.0",
        "| WER | 74.5 % | 72.4-76.6 % |",
        "| CER | 27.4 % | 26.5-28.4 % |",
        "514 utterances of the validation set",
        "Audio of 16000 Hz",
        "never learned: ž",
        "Not verified: it was exported with --no-verify",
    ):
        assert said in card
    stages = [line for line in card.splitlines() if line.startswith("- ") and " updates" in line]
    assert stages == [
        "- Pretraining on 4.1 hours of audio without transcripts (4616 utterances), objective: "
        "contrastive prediction of quantized targets, distortion reconstruction; 8000 updates, "
        "seed 3.",
        "- CTC fine-tuning on 10 minutes of transcribed speech (190 utterances); 1000 updates, "
        "seed 1.",
    ]
    imported = "- Imported from facebook/hubert-base-ls960; left out: label_embs_concat."
    assert card.index(imported) < card.index(stages[0])


def test_what_nobody_said_is_not_claimed():
    body = own(config("group", "post"), None)
    card = model_card(replace(body, meta={}), "fairseq", None, CardFields())
    assert front(card) == {
        "library_name": "fairseq",
        "pipeline_tag": "feature-extraction",
        "license": "unknown",
    }
    assert "Not stated: ask those who trained it" in card
    assert "## Languages\n\nNot stated." in card
    assert "Of its training nothing was written down." in card
    assert "## Scores" not in card


def test_where_a_batch_changes_what_transformers_writes_it_is_said():
    for norm, kind, said in (
        ("group", "hf", True),
        ("layer", "hf", False),
        ("group", "onnx", False),
    ):
        card = model_card(own(config(norm, "post"), None), kind, None, CardFields())
        assert ("One recording at a time" in card) == said


def test_the_language_of_an_mms_model_is_known(ctc):
    mms = replace(ctc, meta={"task": "import", "source": "mms", "language": "wol"})
    assert "language:\n- wol\n" in model_card(mms, "hf", None, CardFields())
    later = replace(ctc, meta={**FINETUNED, "init": mms.meta})
    assert "- wol\n" not in model_card(later, "hf", None, CardFields())


def test_hubs_read_the_card(ctc):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    data = huggingface_hub.ModelCard(model_card(ctc, "hf", None, CardFields("MIT", ["no"]))).data
    assert data.license == "mit"
    assert data.pipeline_tag == "automatic-speech-recognition"
    assert data.tags == ["speech", "speechssl"]


def test_a_licence_that_would_end_the_front_matter_is_refused(tiny_models, tmp_path, capsys):
    given = ["export", str(tiny_models["conv"]), "--format", "hf", "--out", str(tmp_path / "x")]
    assert main([*given, "--license", "MIT\n---"]) == 2
    assert "is no licence (SPDX" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


CONFIDENCE = {
    "quality": {
        "error_before": 0.529,
        "error_after": 0.0164,
        "num_bins": 10,
        "num_words": 2880,
        "found_after": 0.218,
    }
}


@pytest.mark.parametrize(
    ("calibration", "lines"),
    [
        ({"greedy": CONFIDENCE, "lm": CONFIDENCE}, 2),
        ({"greedy": CONFIDENCE}, 1),
        ({"note": "few words"}, 0),
        (None, 0),
        ({"greedy": {"quality": {"error_before": "x"}}, "lm": CONFIDENCE}, 1),  # damaged
        ([], 0),
    ],
)
def test_how_good_the_confidence_is(calibration, lines, ctc):
    card = model_card(
        replace(ctc, meta={**FINETUNED, "calibration": calibration}), "hf", None, CardFields()
    )
    assert card.count("Confidence of words, ") == lines
    if lines:
        assert "expected calibration error 0.016 (0.529 before calibration), 10 bins" in card
        assert "the least confident 20 % of the words hold 21.8 % of the wrong ones." in card
