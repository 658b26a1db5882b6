import json
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from speechssl.model import config as model_config
from speechssl.report.page import Sample, Score, write_report
from speechssl.report.results import WITH_LM, Table
from speechssl.report.runs import read_run
from speechssl.report.settings import differing, facts, flatten

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Checker(HTMLParser):
    """Every tag that is opened is closed, in order; collects text, tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def check(path: Path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    checker.close()
    assert not checker.open
    return checker


def pretraining(num: int) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(20, 20 * num + 1, 20):
        values = {"loss/total": 60 / step, "loss/contrastive": 50 / step, "lr": 1e-3}
        lines.append({"step": step, "time_s": step * 0.1, **values, "grad_norm": 1.0})
        if step % 100 == 0:
            valid = {"valid/loss": 61 / step, "valid/contrastive": 51 / step}
            lines.append({"step": step, "time_s": step * 0.1, **valid, "valid/health/rank": 30.0})
    return lines


def finetuning(num: int) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(20, 20 * num + 1, 20):
        lines.append({"step": step, "time_s": step * 0.1, "loss/ctc": 60 / step})
        if step % 100 == 0:
            valid = {"valid/cer": 10 / step, "valid/wer": 1.2, "valid/loss": 70 / step}
            lines.append({"step": step, "time_s": step * 0.1, **valid, "valid/blank_rate": 0.8})
    return lines


def make_run(folder: Path, lines: list[dict[str, Any]], **config: Any) -> Path:
    folder.mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    if config:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def headings(page: Checker) -> str:
    return "|".join(page.texts)


def test_the_whole_page(tmp_path):
    runs = [
        make_run(
            tmp_path / "pretrain", pretraining(30), tasks={"contrastive": {}}, optim={"lr": 1e-3}
        ),
        make_run(tmp_path / "pretrained", finetuning(20), tokenizer="char", batch_s=15.0),
        make_run(tmp_path / "from-scratch", finetuning(10), tokenizer="char", batch_s=30.0),
    ]
    path = write_report(
        runs,
        tmp_path / "new" / "report.html",
        title="A demo",
        scores=[Score("pretrained", (0.2, 0.1, 0.3), (0.5, 0.4, 0.6))],
        samples=[Sample("said so", (("pretrained", "sad so"),))],
    )
    page = check(path)
    told = headings(page)
    parts = ["A demo", "Results", "Transcripts", "Character error rate"]
    parts += ["CTC loss", "Contrastive loss", "Effective rank", "20.0 %", "10.0 – 30.0", "batch_s"]
    assert [part for part in parts if part not in told] == []
    sections = ["results", "transcripts", "runs", "verdicts", "curves", "pretext", "codes"]
    sections += ["utterances", "settings"]
    assert [name for name in page.ids if not name.startswith("theme-")] == sections
    html = path.read_text(encoding="utf-8")
    assert all(f'href="#{name}"' in html for name in sections)
    assert list(tmp_path.glob("new/*")) == [path]


def test_the_page_needs_no_network_and_no_script(tmp_path):
    path = write_report([make_run(tmp_path / "a", pretraining(10))], tmp_path / "r.html")
    page, html = check(path), path.read_text(encoding="utf-8")
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [word for word in ("http:", "https:", "@import", "url(") if word in html]
    assert "prefers-color-scheme: dark" in html


def test_the_same_runs_give_the_same_bytes(tmp_path):
    runs = [make_run(tmp_path / "a", pretraining(10), loop={"seed": 1})]
    first, second = (write_report(runs, tmp_path / f"{i}.html").read_bytes() for i in range(2))
    assert first == second


def test_training_and_validation_share_a_chart(tmp_path):
    runs = [make_run(tmp_path / "a", pretraining(10)), make_run(tmp_path / "b", finetuning(10))]
    path = write_report(runs, tmp_path / "r.html")
    titles = [text for text in check(path).texts if text in ("CTC loss", "Total loss")]
    assert titles == ["CTC loss", "Total loss"]
    assert path.read_text(encoding="utf-8").count('class="line c1 faint"') == 1


def test_what_is_not_in_the_catalogue_has_a_chart_too(tmp_path):
    lines = [{"step": 1, "loss/new_task": 2.0, "odd": 3.0, "loss/reconstruction_mfcc_masked": 1.0}]
    tasks = {"reconstruction": {"features": ["mfcc"]}}
    path = write_report([make_run(tmp_path / "a", lines, tasks=tasks)], tmp_path / "r.html")
    told = headings(check(path))
    assert all(name in told for name in ("New task", "Odd", "Reconstruction of mfcc, masked"))


def test_a_run_without_validation(tmp_path):
    path = write_report([make_run(tmp_path / "a", pretraining(3))], tmp_path / "r.html")
    assert "training" in headings(check(path))
    assert "60 in 6 s" in headings(check(path))


def test_a_run_that_has_logged_nothing(tmp_path):
    path = write_report([make_run(tmp_path / "a", [])], tmp_path / "r.html")
    told = headings(check(path))
    assert "Nothing has been logged yet." in told
    assert "parameters" not in told


def test_a_run_that_has_only_begun(tmp_path):
    folder = make_run(tmp_path / "a", [], loop={"seed": 3})
    (folder / "metrics.jsonl").unlink()
    assert read_run(folder, "a").steps == 0


def test_a_last_line_that_was_cut_off(tmp_path):
    folder = make_run(tmp_path / "a", pretraining(3))
    whole = read_run(folder, "a").series["loss/total"]
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert read_run(folder, "a").series["loss/total"] == whole[:-1]
    check(write_report([folder], tmp_path / "r.html"))


def test_values_that_are_no_numbers_are_left_out(tmp_path):
    odd = [float("nan"), float("inf"), "text", None, True, [1]]
    lines = [{"step": i, "lr": value} for i, value in enumerate([*odd, 0.5], 1)]
    folder = make_run(tmp_path / "a", lines)
    assert read_run(folder, "a").series == {"lr": [(7.0, 0.5)]}
    assert "nan" not in write_report([folder], tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("time_s", "abc", "a number of seconds"),
        ("time_s", None, "a number of seconds"),
        ("time_s", True, "a number of seconds"),
        ("step", "3", "a whole number"),
        ("step", 1.5, "a whole number"),
        ("step", [1], "a whole number"),
    ],
)
def test_a_text_in_place_of_a_number_is_named_by_its_line(name, value, wanted, tmp_path):
    lines = pretraining(3)
    lines[1][name] = value
    folder = make_run(tmp_path / "a", lines)
    with pytest.raises(ValueError, match=rf"metrics\.jsonl, line 2: {name} is .*, not {wanted}"):
        read_run(folder, "a")


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        write_report([tmp_path / "gone"], tmp_path / "r.html")
    with pytest.raises(ValueError, match=r"is not a run folder: it has no metrics\.jsonl"):
        write_report([tmp_path], tmp_path / "r.html")
    make_run(tmp_path / "inside", [])
    with pytest.raises(ValueError, match="holds the runs inside"):
        write_report([tmp_path], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_runs_further_down_are_named_too(tmp_path):
    for place in ("round-1/student", "round-2/student", "pretrain", "finetune/a/b"):
        make_run(tmp_path / place, [])
    make_run(tmp_path / "much/too/deep/down", [])
    named = "the runs finetune/a/b, pretrain, round-1/student, round-2/student: give"
    with pytest.raises(ValueError, match=named):
        write_report([tmp_path], tmp_path / "r.html")
    for number in range(20):
        make_run(tmp_path / f"run-{number:02}", [])
    with pytest.raises(ValueError, match=r"round-2/student, run-00, run-01 and 18 more: give"):
        write_report([tmp_path], tmp_path / "r.html")


def test_a_log_that_is_damaged_in_the_middle_is_shown_up_to_there(tmp_path):
    folder = make_run(tmp_path / "a", pretraining(5))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2][:20]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = read_run(folder, "a")
    assert run.steps == 40
    assert facts(run)["log"] == "damaged from line 3 on"


def test_chance_is_a_level_in_the_chart_of_the_loss(tmp_path):
    lines = [{**line, "valid/contrastive/chance": 5.5} for line in pretraining(10)]
    run = make_run(tmp_path / "a", lines, tasks={"contrastive": {}})
    html = write_report([run], tmp_path / "r.html").read_text("utf-8")
    assert html.count('class="line c0 level"') == 1
    assert "a, chance: 5.5" in html
    assert "Contrastive chance" not in html


def test_each_curve_tells_its_values(tmp_path):
    runs = [make_run(tmp_path / "a", pretraining(10)), make_run(tmp_path / "b", pretraining(5))]
    html = write_report(runs, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<title>update 100; a, training: 0.6; a, validation: 0.61; b, training: 0.6; b," in html


def test_light_and_dark_can_be_chosen_without_a_script(tmp_path):
    path = write_report([make_run(tmp_path / "a", [])], tmp_path / "r.html")
    html = path.read_text(encoding="utf-8")
    names = [name for name in check(path).ids if name.startswith("theme-")]
    assert names == ["theme-auto", "theme-light", "theme-dark"]
    assert all(f":has(#{name}:checked)" in html for name in names[1:])


@pytest.mark.parametrize("log", [b"hello\nyou\n", b"\xff\xfe{\n"], ids=["text", "bytes"])
def test_a_log_that_is_no_log_is_named(log, tmp_path):
    folder = make_run(tmp_path / "a", [])
    (folder / "metrics.jsonl").write_bytes(log)
    with pytest.raises(ValueError, match="is damaged: its first line is not JSON"):
        write_report([folder], tmp_path / "r.html")


def test_everything_is_escaped(tmp_path):
    evil = "<script>x&'\""
    config = {evil: {evil: evil}, "tokenizer": evil}
    lines = [{"step": 1, evil: 1.0, f"loss/{evil}": 2.0, f"valid/{evil}": 2.0}]
    runs = [make_run(tmp_path / str(i) / "<script>x&'", lines, **config, n=i) for i in range(2)]
    (runs[0] / "best").mkdir()
    meta = {"task": evil, "steps": 1, "speechssl": evil}
    (runs[0] / "best" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    path = write_report(
        runs,
        tmp_path / "r.html",
        title=evil,
        scores=[Score(evil, (0.2, 0.1, 0.3), (0.5, 0.4, 0.6))],
        samples=[Sample(evil, ((evil, evil + "y"),))],
    )
    assert "script" not in check(path).tags


def test_a_run_has_one_colour_all_over_the_page(tmp_path):
    runs = [make_run(tmp_path / name, finetuning(10)) for name in ("pretrain", "from-scratch")]
    rate = (0.2, 0.1, 0.3)
    scores = [Score("from-scratch", rate, rate), Score("somebody else's", rate, rate)]
    html = write_report(runs, tmp_path / "r.html", scores=scores).read_text(encoding="utf-8")
    bars = html.count('class="bar c1"'), html.count('class="bar plain"')
    assert bars == (2, 2)
    assert "labelled transcripts" not in html
    scores.append(Score(f"from-scratch{WITH_LM}", rate, rate))
    html = write_report(runs, tmp_path / "r.html", scores=scores).read_text(encoding="utf-8")
    assert html.count('class="bar c1"') == 4
    assert "LM: a language model of nothing but the labelled transcripts." in html
    assert '<i class="key c1"></i><span>from-scratch</span>' in html


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / part / "tune", finetuning(5)) for part in ("a", "b")]
    told = headings(check(write_report(runs, tmp_path / "r.html")))
    assert "a/tune" in told
    assert "b/tune" in told


def test_what_a_run_is(tmp_path):
    model = model_config.to_dict(model_config.tiny())
    folder = make_run(tmp_path / "a", finetuning(10), tokenizer="char", loop={"seed": 4})
    (folder / "best").mkdir()
    (folder / "best" / "config.json").write_text(json.dumps({"model": model}), encoding="utf-8")
    meta = {"task": "finetune", "pretrained": True, "steps": 100, "train_minutes": 5.0}
    meta |= {"valid": {"cer": 0.1, "wer": 0.4}, "dropped_too_many_symbols": ["x"]}
    (folder / "best" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    header = json.dumps({"__metadata__": {}, "w": {"shape": [1000, 2000]}, "b": {"shape": []}})
    tensors = struct.pack("<Q", len(header)) + header.encode()
    (folder / "best" / "model.safetensors").write_bytes(tensors)
    told = facts(read_run(folder, "a"))
    assert told["model"] == "tiny, 2 M parameters"
    assert told["start"] == "from a pretrained model"
    assert told["training data"] == "5.0 min"
    assert told["left out"].startswith("1 utterance with")
    assert told["best model"] == "update 100: CER 10.0 %, WER 40.0 %"
    assert told["seed"] == "4"
    (folder / "best" / "model.safetensors").write_bytes(b"\xff" * 20)
    assert facts(read_run(folder, "a"))["model"] == "tiny"


def test_settings_that_differ():
    first = {"optim": {"lr": 0.1, "eps": 1e-6}, "name": "a", "old": None}
    second = {"optim": {"lr": 0.2, "eps": 1e-6}, "name": "a", "new": [1, 2]}
    assert differing([first, second]) == [
        ("optim.lr", ["0.1", "0.2"]),
        ("old", ["null", "–"]),
        ("new", ["–", "[1, 2]"]),
    ]
    assert flatten(first)["optim.eps"] == "1e-06"


def test_runs_with_the_same_settings_say_so(tmp_path):
    runs = [make_run(tmp_path / name, [], tokenizer="char") for name in "ab"]
    told = headings(check(write_report(runs, tmp_path / "r.html")))
    assert "The fine-tuning runs have the same settings." in told


def test_a_table_with_a_row_too_short_is_refused():
    with pytest.raises(ValueError, match="2 heads, and a row of 1"):
        Table("T", ("a", "b"), (("x",),))


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    run = make_run(tmp_path / "a", [])
    (tmp_path / "r.html").mkdir()
    with pytest.raises(OSError, match=r"r\.html"):
        write_report([run], tmp_path / "r.html")
    assert not list(tmp_path.glob(".r.html*"))
