"""What disks, copies and people do to files, as strategies."""

import json

from hypothesis import strategies as st

ODD_WORDS = (
    b"\x00",
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xc3\x28",  # broken UTF-8
    b"\n",
    b'"',
    b"NaN",
    b"-1",
    b"1e999",
    b"9" * 5000,  # more digits than Python turns into a number
    b"\\ud800",  # half a character, in JSON
    b"\\u0000",
    b"[" * 20000,  # deeper than a recursion goes
)

NAMES = st.text(max_size=8)

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 10**9, 10**400, 1e308, float("nan"), float("inf"), "\ud800", "\0"]),
    st.floats(),
    st.text(max_size=12),
)

JSON_VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` after one to four accidents: bits that flipped, an end or a middle that is gone,
    bytes that do not belong there."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        if draw(st.booleans()):  # headers are where it matters
            at = min(at, draw(st.integers(0, 64)))
        kind = draw(st.sampled_from(["flip", "cut", "drop", "insert", "overwrite"]))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.sampled_from(ODD_WORDS) | st.binary(max_size=8))
        else:
            word = draw(st.sampled_from(ODD_WORDS[:4]) | st.binary(min_size=1, max_size=4))
            data[at : at + len(word)] = word
    return bytes(data)


@st.composite
def odd_json(draw: st.DrawFn, whole: dict[str, object]) -> dict[str, object]:
    """A JSON object, some of its values at any depth replaced, dropped or joined by others."""
    data = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        place = data
        while True:
            inner = sorted(k for k, v in place.items() if isinstance(v, dict))
            if not inner or draw(st.booleans()):
                break
            place = place[draw(st.sampled_from(inner))]
        name = draw(st.sampled_from([*sorted(place), "odd"]))
        if draw(st.integers(0, 4)) == 0:
            place.pop(name, None)
        else:
            place[name] = draw(JSON_VALUES)
    return data
