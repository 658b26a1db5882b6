"""speechssl.decoding.hotwords: whatever a file holds, it is read, or what is wrong is named."""

import math

from hypothesis import given
from hypothesis import strategies as st

from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.hotwords import read_hotwords, spell
from speechssl.text import CharTokenizer
from tests.fuzz.damage import damaged

TOKENIZER = CharTokenizer.train(["abé c"])
WHOLE = "ab c\t2.5\nbé\n\nc\t1e1\r\nca\t\n".encode()
LINES = st.lists(st.text(st.sampled_from("ab é\u0301\t.-15enNaifxç\u2028\ufeff"), max_size=12))


@given(
    content=st.one_of(
        damaged(WHOLE), st.binary(max_size=40), LINES.map(lambda x: "\n".join(x).encode())
    )
)
def test_any_file_is_read_or_named(content, tmp_path):
    path = tmp_path / "hot.txt"
    path.write_bytes(content)
    message = "hot.txt"
    found: dict[str, float] = {}
    try:
        found, _ = read_hotwords(path)
    except ValueError as error:
        message = str(error)
    assert "hot.txt" in message
    if message != "hot.txt":
        return
    assert found
    assert all(phrase.strip() and 0 < weight <= 100 for phrase, weight in found.items())
    spelled, without = spell(TOKENIZER, found)
    assert len(spelled) + len(without) <= len(found)
    if spelled:
        decoder = BeamDecoder(TOKENIZER, BeamConfig(), hotwords=found)
        assert math.isfinite(sum(decoder._guide[1]))
