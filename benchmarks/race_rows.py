"""Rows of results/race.json from what `speechssl compare` wrote.

    python benchmarks/race_rows.py race/compare.json --conditions r --into results/race.json

`--conditions` is the key under which results/race.json says how the numbers were made; rows that
have it already are replaced. Models from scratch are rows too; of a causal one the entry says so.
"""

import argparse
import json
from pathlib import Path
from typing import Any


def main() -> None:
    """Read, replace, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("compared", type=Path, metavar="compare.json")
    parser.add_argument("--conditions", required=True, help="key in the file's conditions")
    parser.add_argument("--into", type=Path, required=True)
    args = parser.parse_args()
    compared = json.loads(args.compared.read_text(encoding="utf-8"))
    subject = json.loads(args.into.read_text(encoding="utf-8"))
    if args.conditions not in subject["conditions"]:
        raise SystemExit(f"{args.into} does not say what conditions {args.conditions!r} are.")
    rows = rows_of(compared, args.conditions)
    kept = [row for row in subject["rows"] if row["conditions"] != args.conditions]
    subject["rows"] = kept + rows
    args.into.write_text(json.dumps(subject, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def rows_of(compared: dict[str, Any], conditions: str) -> list[dict[str, Any]]:
    """One for each entry and label budget, as results/README.md describes them."""
    entries = {entry["name"]: entry for entry in compared["entries"]}
    found = []
    for row in compared["rows"]:
        entry, against = entries[row["entry"]], row["cer_against_scratch"]
        marked = entry["causal"] and not row["entry"].endswith("causal")
        one = {
            "conditions": conditions,
            "entry": row["entry"] + (" (causal)" if marked else ""),
            "labels": row["labels"],
            "seeds": row["seeds"],
            "cer": _rounded(row["cer"]),
            "wer": _rounded(row["wer"]),
        }
        if entry["pretraining_updates"]:
            one["pretraining_updates"] = entry["pretraining_updates"]
        if against and against["change"] is not None:
            spans = {"value": "change", "low": "change_high", "high": "change_low"}
            one["reduced"] = {k: -100.0 * against[name] for k, name in spans.items()}
            one["p"] = row["p_holm"]
        for condition, rate in row["conditions"].items():
            if condition != "clean":
                one[condition.replace("-", "_")] = _rounded(rate)
        found.append(one)
    return found


def _rounded(rate: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in rate.items()}


if __name__ == "__main__":
    main()
