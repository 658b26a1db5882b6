"""Hotwords: the file, what can be spelled, and what they do."""

import numpy as np
import pytest
import torch

from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.hotwords import DEFAULT_WEIGHT, as_hotwords, read_hotwords, spell
from speechssl.text import BLANK, UNKNOWN, CharTokenizer, VocabularyTokenizer

TOKENIZER = CharTokenizer.train(["abcdé f"])


@pytest.fixture
def read(tmp_path):
    def reader(content: str | bytes):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / "hot.txt").write_bytes(data)
        return read_hotwords(tmp_path / "hot.txt")

    return reader


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("bad\n", {"bad": DEFAULT_WEIGHT}),
        ("bad\t2.5\ncab  bé\n\n \n", {"bad": 2.5, "cab bé": DEFAULT_WEIGHT}),
        ("\ufeffbad\r\ncab\t1\r\n", {"bad": DEFAULT_WEIGHT, "cab": 1.0}),
        ("be\u0301\t3\t\n", {"bé": 3.0}),  # NFC; a tab too many
        ("bad\t", {"bad": DEFAULT_WEIGHT}),
        ("# bad", {"# bad": DEFAULT_WEIGHT}),
    ],
)
def test_the_file(read, content, expected):
    assert read(content) == (expected, [])


def test_lines_that_are_there_twice(read):
    found, notes = read("bad\t2\ncab\nbad\t2\nbad\t2.0\n")
    assert found == {"bad": 2.0, "cab": DEFAULT_WEIGHT}
    (note,) = notes
    assert "'bad' is given more than once, and counted once" in note
    with pytest.raises(ValueError, match="'bad' the weight 2 in line 1 and 3 in line 2: keep one"):
        read("bad\t2\nbad\t3\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no hotword"),
        ("\n \t\n", "holds no hotword"),
        ("bad\t-1", r"line 1: the weight of a hotword is a number above 0 .* and not -1"),
        ("ok\nbad\tnan", r"line 2: the weight .* and not nan"),
        ("bad\tinf", "not inf"),
        ("bad\t0", "not 0"),
        ("bad\t101", "at most 100"),
        ("bad\tmuch", "and not 'much'"),
        ("\t3", "line 1 is no hotword"),
        ("bad\t1\t2", "line 1 is no hotword"),
        (b"caf\xe9", "not UTF-8 text: the byte 0xe9"),
        ("\n".join(f"w{i}" for i in range(10_001)), "10,001 hotwords are more than the 10,000"),
    ],
)
def test_what_is_no_file_of_hotwords(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_hotwords(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no file of hotwords"):
        read_hotwords(tmp_path / "gone.txt")


def test_in_python():
    assert as_hotwords(["bad", "cab  bé"]) == {"bad": DEFAULT_WEIGHT, "cab bé": DEFAULT_WEIGHT}
    assert as_hotwords({"bad": 2}) == {"bad": 2.0}
    for given, message in (
        ({"bad": -1.0}, "'bad': the weight of a hotword is a number above 0"),
        ({"bad": float("nan")}, "not nan"),
        ({"bad": "2"}, "not '2'"),
        ([" "], "A hotword is blank"),
        ([], "holds no word"),
    ):
        with pytest.raises(ValueError, match=message):
            as_hotwords(given)
    with pytest.raises(TypeError, match=r"give \['bad'\]"):
        as_hotwords("bad")


def test_what_the_alphabet_cannot_spell_is_named():
    found, without = spell(TOKENIZER, {"Bad": 1.0, "bad": 3.0, "xyz": 1.0, "ça": 2.0, "a bé": 1.0})
    assert found == {"bad": 3.0, "a▁bé": 1.0}  # in the case of transcripts
    assert without == ["xyz", "ça"]
    decoder = BeamDecoder(TOKENIZER, hotwords=["xyz", "bad", "ça"])
    (note,) = decoder.notes
    assert "2 hotwords are not used, as the model cannot spell them: 'xyz', 'ça'" in note
    assert "(its alphabet lacks x y z ç)" in note
    with pytest.raises(ValueError, match="1 hotword is not used, as the model cannot spell it"):
        BeamDecoder(TOKENIZER, hotwords={"xyz": 2.0})
    assert decoder.with_hotwords(["bad"]).notes == []
    shout = VocabularyTokenizer([BLANK, UNKNOWN, " ", "A", "B"], uppercase=True)
    assert spell(shout, {"Ab ba": 1.0}) == ({"ab▁ba": 1.0}, [])


def sound(text: str, other: str, p: float = 0.45) -> np.ndarray:
    """Log-probabilities of `text`, with `other` in its place as probable as `p`."""
    log_probs = np.full((2 * len(text), TOKENIZER.vocab_size), -12.0, np.float32)
    log_probs[1::2, 0] = -0.001
    for frame, pair in enumerate(zip(text, other, strict=True)):
        one, two = (TOKENIZER.symbols.index(c) for c in pair)
        log_probs[2 * frame, one] = np.log(1 - p)
        log_probs[2 * frame, two] = np.log(p) if one != two else np.log(1 - p)
    return log_probs


@pytest.mark.parametrize(
    ("hotwords", "found"),
    [
        ([], "bad cab"),
        (["cad"], "cad cab"),
        (["cad fab"], "cad fab"),
        (["fab"], "bad fab"),
        (["ca"], "bad cab"),  # no whole word
        (["d"], "bad cab"),
        (["ad fab"], "bad cab"),  # begins within a word
        (["cad cad"], "bad cab"),  # only its beginning
        (["cad", "cad fab"], "cad fab"),
    ],
)
def test_words_that_sound_nearly_the_same(hotwords, found):
    log_probs = sound("bad cab", "cad fab")
    decoder = BeamDecoder(TOKENIZER, hotwords=hotwords or None)
    assert TOKENIZER.decode(decoder.search(log_probs)) == found


def test_a_phrase_is_kept_in_a_narrow_beam():
    """What is lent for its beginning keeps it until its end."""
    log_probs = sound("bababa", "cacaca", p=0.3)
    wide, narrow = (
        BeamDecoder(TOKENIZER, BeamConfig(width=w), hotwords={"cacaca": 8.0}) for w in (200, 2)
    )
    assert TOKENIZER.decode(wide.search(log_probs)) == "cacaca"
    assert TOKENIZER.decode(narrow.search(log_probs)) == "cacaca"


def test_what_is_not_said_does_not_come():
    """A weight is worth a factor of e to its power, and no more."""
    log_probs = sound("bad", "cad", p=1e-4)
    assert (
        TOKENIZER.decode(BeamDecoder(TOKENIZER, hotwords={"cad": 4.0}).search(log_probs)) == "bad"
    )


def test_the_confidence_stays_that_of_the_sound():
    log_probs = torch.from_numpy(sound("bad", "cad", p=0.4))[None]
    lengths = torch.tensor([log_probs.shape[1]])
    (found,) = BeamDecoder(TOKENIZER, hotwords=["cad"])(log_probs, lengths)
    assert found.text(TOKENIZER) == "cad"
    assert found.tokens[0].confidence == pytest.approx(0.4, abs=0.01)
    assert found.posteriors[0] == pytest.approx(0.4, abs=0.01)
