"""speechssl.decoding.lm: whatever a file holds, it is read and gives numbers, or it is named."""

import gzip
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechssl.decoding.lm import NgramLM, read_arpa, train_lm, write_arpa
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
    said = path.name
    try:
        return read_arpa(path)
    except ValueError as error:
        said = str(error)
    assert path.name in said
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
