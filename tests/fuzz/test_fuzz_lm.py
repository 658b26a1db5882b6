"""speechssl.decoding.lm: whatever a file holds, it is read and gives numbers, or it is named."""

import gzip
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechssl.decoding.arpa import SPACES, read_arpa, write_arpa
from speechssl.decoding.lm import train_lm
from speechssl.decoding.ngram import NgramLM
from tests.fuzz.damage import damaged

TEXTS = ["wa adí obεngέ", "wa adí ngá", "ngá"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("lm")
    found = {}
    for name, unit in (("char.arpa", "char"), ("word.arpa.gz", "word")):
        write_arpa(train_lm(TEXTS, order=3, unit=unit), folder / name)
        found[name] = (folder / name).read_bytes()
    return found


def read(path) -> NgramLM | None:
    message = path.name
    try:
        return read_arpa(path)
    except ValueError as error:
        message = str(error)
    assert path.name in message
    return None


@given(name=st.sampled_from(["char.arpa", "word.arpa.gz"]), data=st.data())
def test_a_damaged_file_is_read_or_named(whole, name, data, tmp_path):
    text = whole[name]
    inside = name.endswith(".gz") and data.draw(st.booleans())
    if inside:
        text = gzip.decompress(text)
    text = data.draw(damaged(text))
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if inside else text)
    lm = read(path)
    if lm is not None:
        before = lm.start
        for token in ("wa", "zzz", "</s>"):
            assert not math.isnan(lm.log_prob(before, token))
            before = lm.after(before, token)
            assert len(before) < max(lm.order, 1)


@given(texts=st.lists(st.text(max_size=20), max_size=5), order=st.integers(1, 5))
def test_any_text_makes_a_model_or_is_too_little(texts, order, tmp_path):
    for unit in ("char", "word"):
        if not any(text.split() for text in texts):
            with pytest.raises(ValueError, match="no text"):
                train_lm(texts, order=order, unit=unit)
            continue
        lm = train_lm(texts, order=order, unit=unit)
        try:
            write_arpa(lm, tmp_path / "lm.arpa")
        except UnicodeEncodeError:  # half a character has no UTF-8
            continue
        again = read(tmp_path / "lm.arpa")
        assert again is not None
        assert again.entries.keys() == lm.entries.keys()
        assert all(math.isfinite(lm.log_prob(lm.start, token)) for token in ("a", "</s>"))


TOKENS = st.sampled_from(
    ["<s>", "</s>", "<unk>", "<UNK>", "<S>", "a", "b", "é", "e\u0301", "wa", "<noise>", "\u2028x"]
) | st.sampled_from(sorted(SPACES))


@st.composite
def foreign(draw: st.DrawFn) -> str:
    """An ARPA file as any tool may have made it, or nearly one."""
    words = draw(st.lists(TOKENS, min_size=1, max_size=8, unique=True))
    grams = [(word,) for word in words]
    for size in range(2, draw(st.integers(1, 3)) + 1):
        one = st.tuples(*[st.sampled_from(words)] * size)
        grams += draw(st.lists(one, max_size=5, unique=True))
    numbers = st.sampled_from(["-0.5", "-99", "-inf", "-1e-3", "0", "-7.25"])
    sections: dict[int, list[str]] = {1: []}
    for gram in grams:
        tab = draw(st.sampled_from(["\t", "\t", " "]))
        behind = draw(st.sampled_from(["", tab, f"{tab}-0.25"]))
        line = f"{draw(numbers)}{tab}{' '.join(gram)}{behind}"
        sections.setdefault(len(gram), []).append(line)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = ["\\data\\", *(f"ngram {n}={len(g)}" for n, g in sections.items())]
    for n, entries in sections.items():
        lines += ["", f"\\{n}-grams:", *entries]
    return end.join([*lines, "", "\\end\\", ""])


@given(text=foreign())
def test_a_file_of_any_tool_gives_bounded_costs_or_is_named(text, tmp_path):
    (tmp_path / "lm.arpa").write_bytes(text.encode())
    lm = read(tmp_path / "lm.arpa")
    if lm is None:
        return
    before = lm.start
    for token in ("a", "▁", "wa", "zzz", "</s>", "é"):
        assert -1e4 < lm.log_prob(before, token) < 1e4
        before = lm.after(before, token)
    assert lm.log_prob((), "zzz") > -30 * math.log(10)
    write_arpa(lm, tmp_path / "again.arpa")
    again = read(tmp_path / "again.arpa")
    assert again is not None
    assert again.entries.keys() == lm.entries.keys()
