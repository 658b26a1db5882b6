"""What finished jobs say together, on the page, in the table and in compare.json."""

import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from speechssl.compare.jobs import SCORES
from speechssl.compare.page import page, verdict_sentences
from speechssl.compare.scores import Scores
from speechssl.compare.summary import p_text, summarize
from speechssl.compare.table import as_data, markdown, write_json
from tests.compare.finished import CERS, LENGTH, finished

BEST = "masked_units+reconstruction=0.5"


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    out = tmp_path_factory.mktemp("race")
    found = summarize(finished(out), out, {})
    (out / "report.html").write_text(page(found))
    return found


def test_rates_are_those_of_the_scores_over_both_seeds(summary):
    assert len(summary.rows) == sum(map(len, CERS.values()))
    for row in summary.rows:
        jobs = [j for j in summary.plan.jobs if (j.entry, j.labels) == (row.entry, row.labels)]
        assert len(jobs) == 2
        assert row.cer.value == pytest.approx(CERS[row.entry][row.labels] + 0.005, abs=0.03)
        assert row.cer.low < row.cer.value < row.cer.high
        assert np.mean(row.cer_of_seeds) == pytest.approx(row.cer.value)
        harder = [row.conditions[c].value for c in ("clean", "snr-20", "snr-10", "snr-5", "snr-0")]
        assert harder == sorted(harder)
    assert (summary.resampled, summary.num_units) == ("speaker", 8)


def test_rows_are_by_label_budget_the_best_first(summary):
    keys = [(row.minutes, row.cer.value) for row in summary.rows]
    assert keys == sorted(keys)
    assert summary.rows[-1].minutes == pytest.approx(120)  # all


def test_each_entry_is_compared_with_the_baseline_of_its_form(summary):
    causal = summary.row("future_frames", "10")
    own = summary.row("from scratch, causal", "10")
    assert causal.against.difference == pytest.approx(causal.cer.value - own.cer.value)
    assert own.against is None
    usual = summary.row(BEST, "10")
    other = summary.row("from scratch", "10")
    assert usual.against.change == pytest.approx(usual.cer.value / other.cer.value - 1)
    assert usual.against.change_low < usual.against.change < usual.against.change_high < 0


def test_p_is_adjusted_over_all_rows(summary):
    compared = [row for row in summary.rows if row.against]
    assert len(compared) == 8
    smallest = min(row.against.p for row in compared)
    assert min(row.p for row in compared) == pytest.approx(8 * smallest)
    assert all(row.p >= row.against.p for row in compared)


def test_label_minutes_saved_are_read_off_the_own_curve(summary):
    row = summary.row(BEST, "10")
    curve = [summary.row("from scratch", labels).cer.value for labels in ("10", "60")]
    share = (curve[0] - row.cer.value) / (curve[0] - curve[1])
    expected = math.exp(math.log(10) + share * (math.log(60) - math.log(10))) - 10
    assert row.saved.value == pytest.approx(expected)
    assert row.saved.low < row.saved.value < row.saved.high


def test_the_winner_and_whom_it_beats(summary):
    winner = summary.winner
    assert winner.entry == BEST
    assert winner.others[0][0] == "masked_units"
    means = [mean.value for _, mean, _ in winner.others]
    assert means == sorted(means)
    p = {name: p for name, _, p in winner.others}
    assert p["from scratch"] < 0.05 < p["masked_units"] <= 1
    first, better, alike = winner.sentences()
    assert first.startswith(f"Lowest mean CER: {BEST}, 3")
    assert "from scratch (" in better
    assert alike.startswith("No significant difference from masked_units (p = ")
    assert winner.score.value == pytest.approx(
        np.mean([summary.row(BEST, labels).cer.value for labels in ("10", "60")])
    )


def test_the_words_of_the_verdict(summary):
    sentences = verdict_sentences(summary)
    assert sentences[0].endswith("(The mean is over 10 min and 60 min of labels.)")
    assert sum("; label minutes saved: " in s for s in sentences) == 2
    assert (p_text(0.001), p_text(0.0123), p_text(1.0)) == ("p < 0.002", "p = 0.012", "p = 1")


def test_a_pretraining_of_a_few_updates_is_no_result(summary):
    short = {**summary.pretrained, "wav2vec": (12, 0.6)}
    said = verdict_sentences(replace(summary, pretrained=short))
    assert any("A pretraining ended after update 12" in s for s in said)
    assert not any("ended after" in s for s in verdict_sentences(summary))


class Checker(HTMLParser):
    """That every element is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, _attrs):
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        """Nothing to close."""


def test_the_page_has_one_table_and_four_pictures(summary):
    text = page(summary)
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert text.count("<svg") == text.count("<figure") == 4
    assert text.count('class="band') == 6  # of the first picture
    assert "Tasks that predict the future get a causal model" in text
    assert "wav2vec: causal model." in text
    assert "nan" not in text.lower().replace("resonan", "")
    assert text == page(summary)
    assert "120 test speakers" not in text
    assert "2000 resamples of the seeds and the 8 test speakers" in text


def test_the_table_and_the_json(summary, tmp_path):
    lines = markdown(summary).splitlines()
    assert len(lines) == 2 + len(summary.rows)
    assert len({line.count("|") for line in lines}) == 1
    assert "future_frames (causal model)" in markdown(summary)
    write_json(summary, tmp_path / "c.json")
    data = json.loads((tmp_path / "c.json").read_text())
    assert data == json.loads(json.dumps(as_data(summary)))
    assert len(data["rows"]) == len(summary.rows)
    assert data["winner"]["entry"] == BEST
    assert {e["baseline"] for e in data["entries"]} == {
        None,
        "from scratch",
        "from scratch, causal",
    }


def test_an_infinite_saving_is_a_word_in_json(tmp_path):
    out = tmp_path
    plan = finished(out, seeds=(0,))
    path = next(j for j in plan.jobs if j.entry == "wav2vec" and j.labels == "60").folder(out)
    scores = Scores.read(path / SCORES / "clean.json")
    none = scores.counts.copy()
    none[:, 3] = 0
    Scores(scores.ids, scores.speakers, none).write(path / SCORES / "clean.json")
    found = summarize(plan, out, {})
    row = next(r for r in as_data(found)["rows"] if (r["entry"], r["labels"]) == ("wav2vec", "60"))
    assert row["label_minutes_saved"]["value"] == "more"
    assert row["label_minutes_saved"]["most"] == pytest.approx(60)
    assert "more than 60" in markdown(found)
    assert "2000 resamples of the 8 test speakers" in page(found)


@pytest.mark.parametrize(
    ("gone", "rows", "has_winner"),
    [
        (("finetune/wav2vec-10-1",), 14 - 1, True),  # of two seeds one is no mean
        (("finetune/from-scratch-10-0", "finetune/from-scratch-10-1"), 14 - 1, True),
        (("probe/untrained", "probe/log-mel"), 14, True),
        (tuple(f"probe/{n}" for n in CERS), 14, True),
    ],
)
def test_what_is_missing_leaves_a_gap(gone, rows, has_winner, tmp_path):
    plan = finished(tmp_path)
    there = {job.name for job in plan.jobs}
    gone = tuple(name for name in gone if name in there)
    plan = finished(tmp_path, without=gone)
    found = summarize(plan, tmp_path, dict.fromkeys(gone, "The disk is full."))
    assert len(found.rows) == rows
    assert (found.winner is not None) is has_winner
    text = page(found)
    assert text.count("The disk is full.") == len(gone)
    Checker().feed(text)
    markdown(found)


def test_nothing_done_is_no_report(tmp_path):
    plan = finished(tmp_path)
    done = tuple(job.name for job in plan.jobs if job.kind == "finetune")
    assert summarize(finished(tmp_path, without=done), tmp_path, {}) is None


def test_the_made_up_scores_are_as_hard_as_they_say(tmp_path):
    plan = finished(tmp_path, seeds=(0,))
    job = next(j for j in plan.jobs if j.kind == "finetune")
    counts = Scores.read(job.folder(tmp_path) / SCORES / "clean.json").counts
    assert counts[:, 2].tolist() == [LENGTH] * len(counts)
