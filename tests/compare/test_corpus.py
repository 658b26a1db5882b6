"""The sets: found, checked, and a test set made where there is none."""

from pathlib import Path

import pytest

from speechssl.compare.corpus import (
    check_budgets,
    digest_of,
    read_corpus,
    read_written,
    split_valid,
)
from speechssl.compare.run import _keep_data
from speechssl.data.manifest import Utterance, write_manifest


def utterances(num, *, speakers=1, seconds=6.0, text="a b", name="u") -> list[Utterance]:
    return [
        Utterance(
            f"{name}{i}",
            Path(f"/x/{name}{i}.wav"),
            0.0,
            seconds,
            16000,
            f"s{i % speakers}" if speakers else None,
            f"{text} {i}" if text else text,
        )
        for i in range(num)
    ]


def write(folder, **sets) -> Path:
    folder.mkdir(exist_ok=True)
    for name, made in sets.items():
        write_manifest(folder / f"{name}.jsonl", made)
    return folder


def test_a_prepared_folder_and_the_same_as_manifests(tmp_path):
    sets = {name: utterances(4, name=name) for name in ("train", "dev", "test")}
    folder = write(tmp_path / "d", **sets)
    corpus = read_corpus(folder, [], None, None)
    paths = {name: folder / f"{name}.jsonl" for name in sets}
    again = read_corpus(None, [paths["train"]], paths["dev"], paths["test"])
    assert corpus == again
    assert [u.id for u in corpus.test] == [f"test{i}" for i in range(4)]
    assert corpus.test_rule == "the 4 transcribed utterances of test.jsonl"
    assert corpus.train_minutes == corpus.label_minutes == pytest.approx(0.4)
    corpus.write(tmp_path / "kept")
    kept = read_written(tmp_path / "kept")
    assert (kept.train, kept.dev, kept.test) == (corpus.train, corpus.dev, corpus.test)


def test_several_manifests_stay_apart(tmp_path):
    folder = write(tmp_path, a=utterances(2, name="a"), b=utterances(3, name="b", text=None))
    write(tmp_path, dev=utterances(4, name="d", speakers=2))
    corpus = read_corpus(None, [folder / "a.jsonl", folder / "b.jsonl"], folder / "dev.jsonl", None)
    assert [len(part) for part in corpus.train] == [2, 3]
    assert len(corpus.labeled) == 2
    corpus.write(tmp_path / "kept")
    assert read_written(tmp_path / "kept").train == corpus.train


def test_the_kept_manifests_are_those_of_the_command(tmp_path):
    """Where an earlier command began and did no job."""
    write(tmp_path / "d", a=utterances(4, name="a"), b=utterances(4, name="b"))
    write(tmp_path / "d", dev=utterances(4, name="d", speakers=2))
    a, b, dev = (tmp_path / "d" / f"{name}.jsonl" for name in ("a", "b", "dev"))
    for train, test in (([a, b], None), ([a], None), ([a], dev), ([a], dev), ([b], dev)):
        corpus = read_corpus(None, train, dev, test)
        _keep_data(corpus, tmp_path / "kept")
        assert read_written(tmp_path / "kept").sets == corpus.sets


def test_without_a_test_set_speakers_are_split():
    rest, test, rule = split_valid(utterances(40, speakers=4))
    assert {u.speaker for u in rest}.isdisjoint(u.speaker for u in test)
    assert len(rest) + len(test) == 40
    assert len(test) == 20
    assert "20 of the 40 validation utterances, of 2 of the 4 speakers" in rule
    assert split_valid(utterances(40, speakers=4)) == (rest, test, rule)


@pytest.mark.parametrize("speakers", [0, 1])
def test_one_speaker_or_none_known_is_split_by_sentence_and_stated(speakers):
    made = [*utterances(20, speakers=speakers), *utterances(20, speakers=speakers, name="v")]
    rest, test, rule = split_valid(made)
    assert {u.text for u in rest}.isdisjoint(u.text for u in test)
    assert len(test) == 20
    assert rule.endswith(
        "sentences, as fewer than two speakers are known; the others choose the models"
    )


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match=r"of one speaker or sentence, .* give --test"):
        split_valid(utterances(1))


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            {"train": utterances(3, text=None), "dev": utterances(3)},
            "None of the 3 utterances to train",
        ),
        (
            {"train": utterances(3), "dev": utterances(2, text=None)},
            "None of the 2 utterances of .*dev",
        ),
        (
            {"train": utterances(3), "dev": utterances(2), "test": utterances(5, text=None)},
            "None of the 5 utterances of .*test",
        ),
        ({"train": utterances(3)}, "Name the corpus"),
        ({"train": utterances(3, text=""), "dev": utterances(3)}, "has a transcript"),
    ],
)
def test_sets_without_transcripts_are_refused(sets, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read_corpus(write(tmp_path / "d", **sets), [], None, None)


def test_a_folder_that_is_not_prepared_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no train\.jsonl: make one with `speechssl prepare`"
    ):
        read_corpus(tmp_path, [], None, None)
    with pytest.raises(ValueError, match="Name the corpus"):
        read_corpus(None, [], None, None)


def test_a_label_budget_above_the_corpus_is_refused(tmp_path):
    folder = write(tmp_path / "d", train=utterances(20), dev=utterances(4, name="d"))
    corpus = read_corpus(folder, [], None, None)
    check_budgets(corpus, ["1", "2", "all"])
    with pytest.raises(ValueError, match=r"--labels 2.5 is more than the 2.0 transcribed minutes"):
        check_budgets(corpus, ["1", "2.5"])


def test_digests_tell_texts_and_times_but_not_places():
    first = utterances(3)
    assert digest_of(first) == digest_of(list(first))
    moved = [Utterance(u.id, Path("/y.wav"), 0.0, 6.0, 16000, None, u.text) for u in first]
    assert digest_of(first) == digest_of(moved)
    assert digest_of(first) != digest_of(utterances(3, seconds=7.0))
    assert digest_of(first) != digest_of(utterances(3, text="c"))
    assert digest_of(first) != digest_of(first[::-1])
