"""speechssl.data.manifest: whatever a manifest holds, utterances come out or a line is named."""

import json
import math
import re

from hypothesis import given
from hypothesis import strategies as st

from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from tests.fuzz.damage import damaged, odd_json

GOOD = {
    "id": "a",
    "audio": "wav/a.wav",
    "start_s": 0.5,
    "duration_s": 2.95,
    "sample_rate": 16000,
    "speaker": "abiayi",
    "text": "wó twεrε ya poo",
}

WHOLE = "".join(json.dumps({**GOOD, "id": f"{n}"}, ensure_ascii=False) + "\n" for n in range(3))


def is_read_or_refused(data: bytes, path) -> None:
    path.write_bytes(data)
    said = ""
    try:
        utterances = read_manifest(path)
    except ValueError as error:
        utterances, said = [], str(error)
    assert not said or re.match(
        rf"{re.escape(str(path))}, line \d+: .*\.$|The manifest .* is empty", said
    )
    for u in utterances:
        assert isinstance(u, Utterance)
        assert u.id
        assert 0 <= u.start_s < math.inf
        assert 0 <= u.duration_s < math.inf
        assert u.sample_rate > 0
    if utterances:
        write_manifest(path, utterances)
        again = read_manifest(path)
        assert [(u.id, u.audio, u.text) for u in again] == [
            (u.id, u.audio, u.text) for u in utterances
        ]


@given(data=damaged(WHOLE.encode()))
def test_a_damaged_manifest_is_read_or_a_line_is_named(data, tmp_path):
    is_read_or_refused(data, tmp_path / "x.jsonl")


@given(rows=st.lists(odd_json(GOOD), min_size=1, max_size=3))
def test_odd_values_are_read_or_a_line_is_named(rows, tmp_path):
    data = "".join(json.dumps(row) + "\n" for row in rows)
    is_read_or_refused(data.encode(), tmp_path / "x.jsonl")
