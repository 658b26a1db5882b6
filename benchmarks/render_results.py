"""Write RESULTS.md, and the table of results in README.md, from results/*.json.

    python benchmarks/render_results.py            # write
    python benchmarks/render_results.py --check    # say whether they are what the numbers give

results/README.md describes the files. Only the standard library is used.
"""

import argparse
import json
import re
import string
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MAX_TABLE_LINES = 150
HEAD = """# Results

Rendered by `python benchmarks/render_results.py` from [results/](results/README.md), where each
number stands with its conditions. Letters in the last columns name the conditions below a table;
what was tried, and what did not work, is in the [log](docs/log/README.md). Intervals are 95 %,
bootstrap over utterances unless said; a reduction is paired, on the same utterances.
"""
README_MARKS = ("<!-- results -->", "<!-- end of results -->")


class Cells(string.Formatter):
    """Formats ``{name:spec}`` with a row: an interval as ``0.5 [0.4, 0.6]``, a list with commas,
    what is missing as nothing."""

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> object:
        del args
        return kwargs.get(key, "")

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, dict):
            low, high = (self.format_field(value[k], format_spec) for k in ("low", "high"))
            return f"{self.format_field(value['value'], format_spec)} [{low}, {high}]"
        if isinstance(value, list):
            return ", ".join(self.format_field(one, format_spec) for one in value)
        if not isinstance(value, float):
            return str(value)
        return format(value, format_spec)


def load(folder: Path) -> list[dict[str, Any]]:
    """The subjects in their order."""
    found = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]
    for subject, path in zip(found, sorted(folder.glob("*.json")), strict=True):
        subject["file"] = path.name
    return sorted((s for s in found if "tables" in s), key=lambda subject: int(subject["order"]))


def num_table_lines(text: str) -> int:
    """Lines of tables in a Markdown text, heads and rules too."""
    return sum(line.startswith("|") for line in text.splitlines())


def machines(folder: Path) -> dict[str, str]:
    """What each short name of a machine stands for."""
    return dict(json.loads((folder / "machines.json").read_text(encoding="utf-8"))["machines"])


def chosen(subject: dict[str, Any], table: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table: those that are shown and have the values of `where`."""
    where = table.get("where", {})
    return [
        row
        for row in subject["rows"]
        if row.get("shown", True) and all(row.get(k) == v for k, v in where.items())
    ]


def render_table(columns: dict[str, str], rows: list[dict[str, Any]]) -> list[str]:
    """A table of Markdown; columns that are empty everywhere are left out."""
    cells = [[Cells().format(t, **row) for t in columns.values()] for row in rows]
    kept = [i for i in range(len(columns)) if any(line[i] for line in cells)]
    heads = [head.strip() for head in columns]
    lines = [[heads[i] for i in kept], ["---"] * len(kept)]
    lines += [[line[i] for i in kept] for line in cells]
    return [f"| {' | '.join(line)} |" for line in lines]


def render_conditions(subject: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """What each letter that the rows name stands for, on one line."""
    parts, known = [], dict[tuple[str, str], str]()
    for key in dict.fromkeys(row["conditions"] for row in rows):
        one = subject["conditions"][key]
        is_hash = re.fullmatch("[0-9a-f]{7}", one["commit"])
        named = [one["date"], f"`{one['commit']}`" if is_hash else one["commit"]]
        how = (one.get("data", ""), f"`{one['command']}`")
        same = known.setdefault(how, key)
        named += [one.get("machine", ""), *(how if same == key else (f"as {same}",))]
        named += [one.get("wall_time", ""), one.get("note", "")]
        parts.append(f"**{key}** {', '.join(part for part in named if part)}")
    return "; ".join(parts) + "."


def render(folder: Path) -> str:
    """RESULTS.md."""
    named = ", ".join(f"**{name}**: {what}" for name, what in machines(folder).items())
    lines = [*HEAD.splitlines(), "", f"Machines: {named}."]
    for subject in load(folder):
        for table in subject["tables"]:
            rows = [subject["conditions"][r["conditions"]] | r for r in chosen(subject, table)]
            logs = ", ".join(f"[{name}](docs/log/{name}.md)" for name in table["log"])
            lines += ["", f"## {table['title']}", *render_table(table["columns"], rows), ""]
            note = f"{table['note']} " if "note" in table else ""
            where = f"Numbers: [{subject['file']}](results/{subject['file']}); log: {logs}."
            lines.append(f"{note}{where} {render_conditions(subject, rows)}")
    return "\n".join(lines) + "\n"


def render_summary(folder: Path) -> str:
    """The table of README.md: CER by minutes of labels, the mean of the seeds."""
    (subject,) = [s for s in load(folder) if s["file"] == "label_efficiency.json"]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in chosen(subject, {"where": {"table": "mended"}}):
        groups.setdefault((row["corpus"], str(row["labels_min"]), row["decoding"]), []).append(row)
    heads = ["speech", "labels, min", "decoding", "from scratch: CER", "pretrained: CER"]
    heads += ["errors removed", "pretrained on", "pretraining, min", "fine-tuning, min", "machine"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (corpus, minutes, decoding), rows in groups.items():
        scratch, pretrained = (
            sum(row[side]["value"] for row in rows) / len(rows)
            for side in ("scratch_cer", "pretrained_cer")
        )
        low = min(row["reduced_percent"]["low"] for row in rows)
        high = max(row["reduced_percent"]["high"] for row in rows)
        spent = [row["pretrained_minutes"] for row in rows if "pretrained_minutes" in row]
        ends = (min(spent), max(spent)) if spent else ()
        brief = subject["conditions"][rows[0]["conditions"]]["summary"]
        cells = [corpus, minutes, decoding, f"{scratch:.3f}", f"**{pretrained:.3f}**"]
        cells.append(f"{100 * (1 - pretrained / scratch):.0f} % [{low}, {high}]")
        cells += [brief["pretrained_on"], brief["pretraining_min"]]
        cells += [" to ".join(dict.fromkeys(f"{end:.0f}" for end in ends)), brief["machine"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_summary(readme: str, table: str) -> str:
    """README.md with the table between its marks."""
    before, rest = readme.split(README_MARKS[0])
    _, after = rest.split(README_MARKS[1])
    return f"{before}{README_MARKS[0]}\n{table}\n{README_MARKS[1]}{after}"


def main(argv: list[str] | None = None) -> int:
    """0: done, or nothing differs; 1: a file is not what the numbers give, or is too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    check = parser.parse_args(argv).check
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    wanted = {
        "RESULTS.md": render(ROOT / "results"),
        "README.md": with_summary(readme, render_summary(ROOT / "results")),
    }
    if (num := num_table_lines(wanted["RESULTS.md"])) > MAX_TABLE_LINES:
        print(
            f"RESULTS.md would have {num} lines of tables, {MAX_TABLE_LINES} are allowed: show "
            "fewer rows.",
            file=sys.stderr,
        )
        return 1
    differing = [n for n, t in wanted.items() if (ROOT / n).read_text(encoding="utf-8") != t]
    if check and differing:
        print(
            f"{' and '.join(differing)} differ from results/: run python "
            "benchmarks/render_results.py.",
            file=sys.stderr,
        )
        return 1
    for name in differing:
        (ROOT / name).write_text(wanted[name], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
