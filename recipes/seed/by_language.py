"""Part a manifest by language (or another field), so that a pretraining can mix the parts.

    python recipes/seed/by_language.py data/train.jsonl --out data/languages

writes a manifest for each value of the field, `OUT/VALUE.jsonl`, whose lines have the fields that
they had, in their order, and says how many hours each has.
"""

import argparse
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from speechssl.data.manifest import parse_line, relative_path
from speechssl.files import writing


def part(manifest: Path, out: Path, field: str) -> dict[str, float]:
    """Write the parts; the hours of each, the most first.

    Raises ValueError naming a line that does not have the field, or whose value is no file name.
    """
    lines: dict[str, list[str]] = defaultdict(list)
    hours: dict[str, float] = defaultdict(float)
    target = os.path.abspath(out)
    with manifest.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{manifest}, line {number}"
            utterance = parse_line(line, where, os.path.abspath(manifest.parent))
            fields = json.loads(line)
            value = fields.get(field)
            if not isinstance(value, str) or not re.fullmatch(r"[\w+-][\w+.-]*", value):
                raise ValueError(f"{where}: {field} must be a string of letters, digits, - and _.")
            fields["audio"] = relative_path(utterance.audio, target)
            lines[value].append(json.dumps(fields, ensure_ascii=False))
            hours[value] += utterance.duration_s / 3600
    if not lines:
        raise ValueError(f"The manifest {manifest} is empty: it names no utterance.")
    out.mkdir(parents=True, exist_ok=True)
    if others := sorted({path.stem for path in out.glob("*.jsonl")} - set(lines)):
        raise ValueError(
            f"{out} holds {others[0]}.jsonl, which is no part of {manifest}: name another folder."
        )
    for value, own in lines.items():
        with writing(out / f"{value}.jsonl") as file:
            file.write("\n".join(own) + "\n")
    return dict(sorted(hours.items(), key=lambda item: -item[1]))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 2 where what was given is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--field", default="language", help="default %(default)s")
    args = parser.parse_args(argv)
    try:
        hours = part(args.manifest, args.out, args.field)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(", ".join(f"{value} {num:.2f} h" for value, num in hours.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
