"""What is in two sets, what is of no use, and what a round learns from."""

from dataclasses import replace
from pathlib import Path

import pytest

from speechssl.data.manifest import Utterance
from speechssl.selftraining.config import SelfTrainConfig
from speechssl.selftraining.gate import Gated, Label
from speechssl.selftraining.sets import choose_sets, in_both, mixed, pseudo_labeled
from speechssl.text import CharTokenizer

TOKENIZER = CharTokenizer.train(["abc def"])


def some(folder: Path, prefix: str, num: int, text="abc", seconds=2.0) -> list[Utterance]:
    """Utterances whose files are there, and empty."""
    made = []
    for i in range(num):
        path = folder / f"{prefix}{i}.wav"
        path.touch()
        made.append(Utterance(f"{prefix}{i}", path, 0.0, seconds, 16000, None, text))
    return made


@pytest.fixture
def sets(tmp_path):
    return some(tmp_path, "p", 4, None), some(tmp_path, "l", 3), some(tmp_path, "v", 2)


def choose(pool, labeled, valid, score_pool=False):
    said: list[str] = []
    found = choose_sets(pool, labeled, valid, TOKENIZER, score_pool=score_pool, say=said.append)
    return found, said


def test_sets_without_overlap_are_as_they_are(sets):
    found, said = choose(*sets)
    assert (list(found.pool), list(found.labeled), list(found.valid)) == sets
    assert said == []


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"id": "other"}, True),  # the same file
        ({"id": "other", "start_s": 1.5}, True),
        ({"id": "other", "start_s": 2.0}, False),  # the next stretch
        ({"id": "other", "start_s": 1.995}, False),
        ({"audio": Path("/elsewhere/v0.wav")}, True),  # a copy
        ({"audio": Path("/elsewhere/v0.wav"), "duration_s": 3.0}, False),
        ({"audio": Path("/elsewhere/v0.wav"), "id": "v0\u200b"}, True),
        ({"audio": Path("/elsewhere/v0.wav"), "id": "other"}, False),
    ],
)
def test_the_same_recording_by_its_place_or_by_its_name(change, same, sets):
    valid = sets[2]
    given = replace(valid[0], **change)
    assert in_both([given], valid) == [given] * same


def test_a_link_to_a_recording_is_the_recording(sets, tmp_path):
    valid = sets[2]
    (tmp_path / "link.wav").symlink_to(valid[0].audio)
    given = replace(valid[0], id="other", audio=tmp_path / "link.wav", duration_s=1.0)
    assert in_both([given], valid) == [given]


@pytest.mark.parametrize("where", [0, 1])
def test_what_is_validated_on_is_not_learned_from(where, sets):
    given = list(sets)
    given[where] = [*given[where], replace(sets[2][1], id="mine")]
    option = ("--unlabeled", "--labeled")[where]
    with pytest.raises(ValueError, match=f"1 of the . utterances of {option} are .*--valid .mine"):
        choose(*given)


def test_a_namesake_is_said(sets, tmp_path):
    pool, labeled, valid = sets
    (tmp_path / "other").mkdir()
    (namesake,) = some(tmp_path / "other", "v", 1, None, seconds=5.0)
    found, said = choose([*pool, namesake], labeled, valid)
    assert namesake in found.pool
    assert said == [
        "1 utterances of --unlabeled have the id of one of --valid (v0) and are other recordings."
    ]


def test_what_is_labeled_is_not_labeled_again(sets):
    pool, labeled, valid = sets
    found, said = choose([*pool, *labeled[:2]], labeled, valid)
    assert list(found.pool) == pool
    assert said[0].startswith("2 of the 6 utterances of --unlabeled are in --labeled")
    with pytest.raises(ValueError, match="there is nothing to add"):
        choose(labeled, labeled, valid)


def test_a_pool_without_recordings_is_a_sentence(sets):
    pool, labeled, valid = sets
    for utterance in pool[1:]:
        utterance.audio.unlink()
    choose(pool, labeled, valid)  # one is there
    pool[0].audio.unlink()
    with pytest.raises(
        ValueError, match=r"None of the recordings of --unlabeled is there.*p0\.wav"
    ):
        choose(pool, labeled, valid)


def test_transcripts_of_the_pool_are_said_or_needed(sets):
    pool, labeled, valid = sets
    with pytest.raises(ValueError, match="--score-pool needs transcripts"):
        choose(pool, labeled, valid, score_pool=True)
    known = [replace(u, text="fed") for u in pool[:3]] + pool[3:]
    _, said = choose(known, labeled, valid)
    assert said[0].startswith(
        "3 of the 4 utterances of --unlabeled have transcripts, which are not"
    )
    assert choose(known, labeled, valid, score_pool=True)[1] == []


def test_labels_in_symbols_that_the_model_lacks(sets):
    pool, labeled, valid = sets
    odd = [*labeled[:2], replace(labeled[2], text="abcz")]
    _, said = choose(pool, odd, valid)
    assert (
        "1 of 3 labeled transcripts (l2) holds characters that the model does not know" in said[0]
    )
    upper = [replace(u, text="ABC") for u in labeled]
    with pytest.raises(ValueError, match=r"upper case.*fine-tune MODEL on them first"):
        choose(pool, upper, valid)


def test_labels_and_validation_need_transcripts(sets):
    pool, labeled, valid = sets
    silent = [replace(u, text=None) for u in labeled]
    with pytest.raises(ValueError, match="No utterance of the labeled set has a transcript"):
        choose(pool, silent, valid)
    with pytest.raises(ValueError, match="No utterance of the validation set"):
        choose(pool, labeled, [replace(u, text=" ") for u in valid])


def test_a_pseudo_label_has_the_teachers_text_and_a_weight(sets):
    labels = [Label(replace(u, text="true"), "made", 0.25) for u in sets[0]]
    made = pseudo_labeled(Gated(tuple(labels[:2]), (), 0.25), SelfTrainConfig(weight_power=0.5))
    assert [(u.text, u.weight) for u in made] == [("made", 0.5)] * 2


@pytest.mark.parametrize(
    ("num_pseudo", "share", "times"),
    [(28, 0.3, 2), (14, 0.3, 1), (7, 0.3, 1), (28, 0.0, 1), (36, 0.5, 6), (10, 0.75, 5)],
)
def test_the_labeled_are_a_share_of_the_seconds(num_pseudo, share, times, tmp_path):
    labeled, pseudo = some(tmp_path, "l", 6), some(tmp_path, "p", num_pseudo)
    found = mixed(labeled, pseudo, share, seed=0)
    assert found[-num_pseudo:] == pseudo
    assert len(found) - num_pseudo == 6 * times
    assert {u.id for u in found[:-num_pseudo]} == {u.id for u in labeled}


def test_a_part_of_the_labeled_fills_the_share_up(tmp_path):
    labeled, pseudo = some(tmp_path, "l", 6), some(tmp_path, "p", 9)
    found = mixed(labeled, pseudo, 0.5, seed=0)
    assert found[:6] == labeled
    assert len(found) == 9 + 9
    assert len({u.id for u in found[6:9]}) == 3
    assert found == mixed(labeled, pseudo, 0.5, seed=0)
    assert found != mixed(labeled, pseudo, 0.5, seed=1)
