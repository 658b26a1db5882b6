"""The verdict on curves that are written down, as some runs had them: milliseconds each."""

import math
from typing import Any

import pytest

from speechssl.doctor import describe_verdict
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.training.findings_ctc import UNKNOWN_CHARACTERS
from speechssl.training.verdict import (
    HEALTHY,
    TOO_EARLY,
    Verdict,
    judge,
    with_characters,
)
from speechssl.training.version_0_1 import upgraded_records

FINETUNE = {"tokenizer": "char", "optim": {"lr": 2e-3}}


def finetuning(train: list[float], **valid: Any) -> Verdict:
    """A training loss each ten updates; in validation each name has a list or a constant, and the
    values of a list are spread evenly."""
    records: list[dict[str, Any]] = [
        {"step": 10 * (i + 1), "loss/ctc": loss, "data/level_db": valid.get("train_db", -25.0)}
        for i, loss in enumerate(train)
    ]
    names = {k.replace("__", "/"): v for k, v in valid.items() if k != "train_db"}
    num = max(len(v) for v in names.values() if isinstance(v, list))
    for k in range(num):
        record = {"step": 10 * len(train) * (k + 1) // num}
        for name, value in names.items():
            record[f"valid/{name}"] = value[k] if isinstance(value, list) else value
        records.append(record)
    return judge(records, FINETUNE)


def falling(first: float, last: float, num: int = 30) -> list[float]:
    return [last + (first - last) * math.exp(-5 * i / num) for i in range(num)]


TRUE = {
    "loss": [1.72, 2.33, 1.95, 1.31, 1.28, 1.21, 1.64, 1.69, 1.70, 1.48, 1.40, 1.53],
    "cer": [0.42, 0.42, 0.42, 0.36, 0.32, 0.30, 0.39, 0.31, 0.29, 0.27, 0.27, 0.27],
    "permuted__cer": 0.90,
    "permuted__z": [21.9, 18.9, 20.6, 23.2, 25.9, 24.5, 21.6, 22.0, 21.9, 23.5, 24.0, 23.0],
    "ctc__chance": 2.473,
    "blank_rate": 0.75,
}
"""Spoken digits, each recording with its transcript."""
SWAPPED = {
    "loss": [2.12, 2.06, 2.01, 1.93, 1.92, 1.96, 1.88, 1.88, 1.88, 1.88, 1.88, 1.88],
    "cer": [0.76, 0.77, 0.76, 0.75, 0.75, 0.77, 0.75, 0.73, 0.73, 0.75, 0.74, 0.74],
    "permuted__cer": 0.75,
    "permuted__z": [0.2, 0.1, 0.1, 0.1, 0.4, 0.1, 0.0, 0.2, -0.1, 0.4, 0.0, 0.7],
    "ctc__chance": 2.465,
    "blank_rate": 0.79,
}
"""The same with all transcripts swapped: the loss is below the unigram entropy all the same."""


def test_a_closed_set_of_words_with_true_transcripts():
    found = finetuning(falling(3.0, 0.02), **TRUE)
    assert "at chance" not in [f.name for f in found.findings]
    steady = finetuning(falling(3.0, 1.0), **TRUE | {"loss": falling(1.7, 1.2, 12)})
    assert (steady.name, steady.findings) == (HEALTHY, ())


def test_a_closed_set_of_words_with_swapped_transcripts():
    found = finetuning(falling(2.4, 1.87), **SWAPPED)
    assert found.name == "at chance"
    told = " ".join(found.findings[0].evidence)
    assert "fits the transcripts of other utterances (character error rate 75 %)" in told
    assert "is below the entropy of the symbols (2.465) all the same" in told
    assert found.findings[0].advice.startswith("Check that the transcripts belong to the record")
    assert dict(found.measures)["of other utterances' text"] == "75.0 % (0.7 standard errors apart)"


def test_swapped_transcripts_learned_by_heart():
    found = finetuning(falling(2.4, 0.1), **SWAPPED)
    assert found.name == "overfitting"
    assert found.findings[0].advice.startswith("Check that the transcripts belong")


@pytest.mark.parametrize(
    "loss",
    [
        [2.9, 2.6, *[2.5] * 10],  # validation is at a standstill
        [2.6 - 0.05 * i for i in range(12)],  # below the entropy already
    ],
)
def test_swapped_transcripts_while_the_training_loss_still_falls(loss):
    found = finetuning([2.4 - 0.03 * i for i in range(30)], **SWAPPED | {"loss": loss})
    assert found.name == "at chance"


def test_swapped_transcripts_when_both_still_fall():
    valid = SWAPPED | {"loss": [3.9 - 0.1 * i for i in range(12)]}
    found = finetuning([4 - 0.05 * i for i in range(30)], **valid)
    assert found.name == TOO_EARLY
    assert "check that the transcripts belong to the recordings" in describe_verdict(found, "run")


def test_few_utterances_of_a_model_that_listens():
    """Eight of them: fewer errors, but no proof."""
    valid = TRUE | {"permuted__z": 3.0, "cer": [0.6] * 12, "loss": falling(1.7, 1.2, 12)}
    assert finetuning(falling(3.0, 1.0), **valid).name == HEALTHY


def test_a_run_of_before_is_judged_by_its_loss():
    old = {k: v for k, v in SWAPPED.items() if not k.startswith("permuted")}
    assert finetuning(falling(2.4, 1.87), **old).name == HEALTHY
    assert finetuning(falling(2.6, 2.45), **old | {"loss": [2.5] * 12}).name == "at chance"


def test_a_poor_model_that_listens_is_not_at_chance():
    """A large alphabet and few labels: most characters are wrong, and the loss is above the
    entropy, but what is right is no accident."""
    valid = TRUE | {"cer": falling(0.85, 0.7, 12), "loss": falling(3.2, 2.6, 12)}
    valid |= {"permuted__z": falling(2, 9, 12), "permuted__cer": 0.85}
    assert finetuning(falling(3.2, 2.2), **valid).name == HEALTHY


# ---- unknown characters -------------------------------------------------------------------------


def test_validation_in_another_case():
    """The output is right, and each letter counts as an error."""
    valid = {"cer": [1.0] * 12, "blank_rate": 0.7, "permuted__z": 0.0, "permuted__cer": 1.0}
    valid |= {"unknown__characters": 0.95, "unknown__utterances": 1.0}
    found = finetuning(falling(3.0, 0.1), **valid)
    assert [f.name for f in found.findings] == [UNKNOWN_CHARACTERS]
    told = describe_verdict(with_characters(found, ["A", "B", "\u200b"]), "run")
    assert "95.0 % of the characters in the validation transcripts are not in the model's" in told
    assert "They are: A B U+200B" in told
    assert "case, alphabet, digits" in told
    assert "upsample" not in told


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_some_unknown_characters_beside_another_fault(share):
    valid = SWAPPED | {"unknown__characters": share, "unknown__utterances": 0.3}
    found = finetuning(falling(2.4, 1.87), **valid)
    assert [f.name for f in found.findings] == [UNKNOWN_CHARACTERS, "at chance"]


def test_a_rare_letter_is_measured_and_no_fault():
    valid = TRUE | {"loss": falling(1.7, 1.2, 12), "unknown__characters": 0.004}
    found = finetuning(falling(3.0, 1.0), **valid | {"unknown__utterances": 0.01})
    assert (found.name, found.findings) == (HEALTHY, ())
    assert dict(found.measures)["unknown characters"] == "0.4 %"
    assert with_characters(found, ["ž"]) == found


# ---- levels -------------------------------------------------------------------------------------


def pretraining(train_db: float, valid_db: float, *, overfits: bool) -> Verdict:
    valid_loss = [5.0, 4.6, 4.9, 5.6] if overfits else [5.0, 4.6, 4.3, 4.2]
    records: list[dict[str, Any]] = [
        {"step": 10 * i, "loss/total": loss, "loss/contrastive": loss, "data/level_db": train_db}
        for i, loss in enumerate(falling(5.5, 0.5 if overfits else 4.0, 40), 1)
    ]
    records += [
        {"step": 100 * i, "valid/loss": loss, "valid/data/level_db": valid_db}
        for i, loss in enumerate(valid_loss, 1)
    ]
    return judge(records, {"tasks": {"contrastive": {}}})


def test_silent_training_beside_spoken_validation():
    found = pretraining(-120.0, -24.0, overfits=True)
    assert [f.name for f in found.findings] == ["silent recordings"]
    assert (
        "of the training set are silent: training -120 dB, validation -24 dB"
        in (found.findings[0].evidence[0])
    )
    assert pretraining(-25.0, -24.0, overfits=True).name == "overfitting"


@pytest.mark.parametrize(
    ("train_db", "valid_db", "named"),
    [
        (-90.3, -20.0, "the training set"),  # one bit of sixteen
        (-20.0, -120.0, "the validation set"),
        (-110.0, -96.0, "the training and the validation set"),
    ],
)
def test_silence_on_either_side(train_db, valid_db, named):
    found = pretraining(train_db, valid_db, overfits=False)
    assert found.name == "silent recordings"
    assert named in found.findings[0].evidence[0]


@pytest.mark.parametrize("quiet", [-45.0, -60.0, -70.0])
def test_quiet_speech_is_not_silent(quiet):
    assert pretraining(quiet, quiet, overfits=False).name == HEALTHY
    assert pretraining(quiet, quiet, overfits=True).name == "overfitting"


@pytest.mark.parametrize(
    ("train_db", "valid_db", "overfits", "names"),
    [
        (-60.0, -20.0, True, ["levels differ", "overfitting"]),
        (-20.0, -60.0, True, ["levels differ", "overfitting"]),
        (-20.0, -60.0, False, []),  # the model normalises
        (-20.0, -35.0, True, ["overfitting"]),
    ],
)
def test_levels_that_differ(train_db, valid_db, overfits, names):
    found = pretraining(train_db, valid_db, overfits=overfits)
    assert [f.name for f in found.findings] == names


# ---- a copy -------------------------------------------------------------------------------------


def rebuilding(*validations: dict[str, float]) -> Verdict:
    """Each: distances of a feature whose mean is 0.8 from the clean speech."""
    stem = "valid/reconstruction/logmel_"
    base = {"unmasked_mean": 0.8, "masked_mean": 0.8, "masked": 0.75}
    records: list[dict[str, Any]] = []
    for i, values in enumerate(validations, 1):
        logged = {f"{stem}{name}": value for name, value in (base | values).items()}
        records.append({"step": i, "valid/loss": 1.0, "loss/total": 1.0, **logged})
    return judge(upgraded_records(records, {}), {}, ReconstructionConfig().signals)


COPY = {"unmasked": 0.3, "to_heard": 0.2, "copy": 0.2}
CLOSE = {"unmasked": 0.300, "to_heard": 0.301, "copy": 0.2}
REPAIRS = {"unmasked": 0.2, "to_heard": 0.3, "copy": 0.2}


@pytest.mark.parametrize(
    ("validations", "name"),
    [
        ([COPY], "reconstruction is a copy"),
        ([CLOSE], "reconstruction is a copy"),  # was none, by a thousandth
        ([CLOSE, COPY], "reconstruction is a copy"),
        ([REPAIRS], HEALTHY),
        ([COPY, REPAIRS], HEALTHY),
        ([REPAIRS, COPY], HEALTHY),  # one close call is not enough
        ([REPAIRS, COPY, COPY], "reconstruction is a copy"),
        ([COPY | {"copy": 0.0, "to_heard": 0.3}], "reconstruction is a copy"),  # no distortion
        ([COPY | {"masked": 0.4}], HEALTHY),  # masked frames are rebuilt too
        ([COPY | {"unmasked": 0.78, "to_heard": 0.75}], HEALTHY),  # nothing is rebuilt yet
        ([COPY | {"unmasked_mean": 0.0}], HEALTHY),
    ],
)
def test_a_copy_is_told_on_the_scale_of_the_distortion(validations, name):
    assert rebuilding(*validations).name == name


@pytest.mark.parametrize("noise", [-0.002, -0.001, 0.0, 0.001, 0.002])
def test_a_thousandth_does_not_decide(noise):
    for values in (COPY, CLOSE, REPAIRS):
        moved = values | {"unmasked": values["unmasked"] + noise}
        assert rebuilding(moved).name == rebuilding(values).name


@pytest.mark.parametrize("config", [{}, {"tasks": {"ctc": {}, "masked_units": {}}}])
def test_pretraining_with_the_task_ctc_is_no_finetuning(config):
    """As a run on digits had it: the sum of both losses in validation is above the chance of ctc
    alone, which is no sign of overfitting."""
    from speechssl.pretext.masked_units import MaskedUnitsConfig
    from speechssl.pretext.supervised import CTCConfig

    records = [
        {"step": 10 * i, "loss/total": 5.5, "loss/ctc": 0.56, "loss/masked_units": 4.9}
        for i in range(1, 16)
    ]
    for step, ctc, units in ((75, 1.97, 5.2), (150, 1.6, 4.9)):
        records.append(
            {"step": step, "valid/loss": ctc + units, "valid/ctc": ctc, "valid/ctc/chance": 2.48}
            | {"valid/masked_units": units, "valid/masked_units/chance": 5.3}
            | {"valid/ctc/left_out": 0.01, "valid/ctc/cer": 0.51}
        )
    found = judge(records, config, (*CTCConfig().signals, *MaskedUnitsConfig().signals))
    assert found.name == HEALTHY
    assert dict(found.measures)["CER of the task ctc"] == "51.0 %"


def test_transcripts_left_out_are_said():
    from speechssl.pretext.supervised import CTCConfig

    records = [{"step": 10, "loss/total": 2.0, "loss/ctc": 2.0}] + [
        {"step": step, "valid/loss": 1.5, "valid/ctc": 1.5, "valid/ctc/chance": 2.9}
        | {"valid/ctc/left_out": 0.3, "valid/ctc/too_long": 0.2, "valid/ctc/unknown": 0.1}
        for step in (5, 10)
    ]
    config = {"tasks": {"ctc": {"upsample": 1}}, "ctc": {"upsample": 1}}
    found = judge(records, config, CTCConfig().signals)
    assert found.name == "transcripts left out of the loss"
    said = describe_verdict(found, "run").replace("\n ", "")
    assert "20" in said
    assert "--ctc.upsample" in said
