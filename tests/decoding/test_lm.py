"""N-gram models: probabilities that sum to one, the formula, ARPA files there and back."""

import gzip
import math
from collections import Counter

import pytest

from speechssl.decoding.lm import (
    BEGIN,
    END,
    UNKNOWN_WORD,
    _discounts,
    read_arpa,
    tokens,
    train_lm,
    write_arpa,
)

TEXTS = [
    "wa adí obεngέ bεngε",
    "wa adí ngá",
    "kώ émibonga ngá",
    "ngá wa adí obεngέ",
    "",
    "bána bo báatúsá ambángé",
    "wa  adí\tngá",
]


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_what_follows_sums_to_one(unit, order):
    lm = train_lm(TEXTS, order=order, unit=unit)
    vocabulary = [g[0] for g in lm.entries if len(g) == 1 and g[0] != BEGIN]
    assert {END, UNKNOWN_WORD} <= set(vocabulary)
    contexts = [lm.start, (vocabulary[0],), ("never", "seen"), tuple(vocabulary[:4])]
    contexts += [gram for gram in lm.entries if END not in gram][:200]
    for context in contexts:
        before = context[-(order - 1) :] if order > 1 else ()
        total = sum(math.exp(lm.log_prob(before, token)) for token in vocabulary)
        assert total == pytest.approx(1, abs=1e-6), context


def test_a_bigram_by_hand():
    """Three sentences of one word each: a, a, b; too few for discounts of their own."""
    lm = train_lm(["a", "a", "b"], order=2, unit="word")
    # Unigrams count what they follow: a behind <s>, b behind <s>, </s> behind a and b. Discounts
    # 0.5 (count 1) and 1 (count 2) free 2 of 4, spread over a, b, </s>, <unk>.
    unigram = {"a": (0.5 + 2 / 4) / 4, "b": (0.5 + 2 / 4) / 4, END: (1 + 2 / 4) / 4}
    unigram[UNKNOWN_WORD] = 2 / 4 / 4
    for token, prob in unigram.items():
        assert math.exp(lm.log_prob((), token)) == pytest.approx(prob)
    # Behind <s>: a twice (1 is taken), b once (0.5 is taken), 1.5 of 3 freed.
    first = {"a": (1 + 1.5 * unigram["a"]) / 3, "b": (0.5 + 1.5 * unigram["b"]) / 3}
    for token, prob in first.items():
        assert math.exp(lm.log_prob((BEGIN,), token)) == pytest.approx(prob)
    unknown = 1.5 / 3 * unigram[UNKNOWN_WORD]
    assert math.exp(lm.log_prob((BEGIN,), "zzz")) == pytest.approx(unknown)


def test_discounts_come_from_the_counts_of_counts():
    """Chen and Goodman 1999, equation 26."""
    once, twice, thrice, more = 8, 4, 3, 2
    counts = [1] * once + [2] * twice + [3] * thrice + [4] * more + [9]
    y = once / (once + 2 * twice)
    expected = (0, 1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * more / thrice)
    found = _discounts(Counter({(str(i),): n for i, n in enumerate(counts)}))
    assert found == pytest.approx(expected)
    assert _discounts(Counter({("a",): 1, ("b",): 2})) == (0.0, 0.5, 1.0, 1.5)  # too few


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_an_arpa_file_is_the_same_model(unit, name, tmp_path):
    lm = train_lm(TEXTS, order=4, unit=unit)
    path = tmp_path / name
    write_arpa(lm, path)
    again = read_arpa(path)
    assert (again.order, again.unit, again.entries.keys()) == (4, unit, lm.entries.keys())
    for gram, (log_prob, weight) in lm.entries.items():
        assert again.entries[gram] == pytest.approx((log_prob, weight), abs=1e-5)
    assert again.perplexity(TEXTS) == pytest.approx(lm.perplexity(TEXTS), rel=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    data = path.read_bytes()
    data = gzip.decompress(data) if name.endswith("gz") else data
    assert data.startswith(f"# unit={unit}\n\n\\data\\\nngram 1=".encode())
    assert data.rstrip().endswith(b"\\end\\")


def test_seen_text_is_more_probable_and_longer_context_helps():
    perplexities = [train_lm(TEXTS, order=n, unit="char").perplexity(TEXTS) for n in (1, 2, 3, 6)]
    assert perplexities == sorted(perplexities, reverse=True)
    lm = train_lm(TEXTS, order=3, unit="word")
    assert lm.perplexity(["wa adí ngá"]) < lm.perplexity(["ngá adí wa"])


def test_tokens():
    assert tokens(" ó  ba ", "char") == ["ó", "▁", "b", "a"]
    assert tokens(" ó  ba ", "word") == ["ó", "ba"]


def test_impossible_settings_are_named():
    with pytest.raises(ValueError, match="order must be between 1 and 16, got 0"):
        train_lm(TEXTS, order=0, unit="char")
    with pytest.raises(ValueError, match="unit must be one of char, word, got 'phone'"):
        train_lm(TEXTS, order=2, unit="phone")  # type: ignore[arg-type]
    for nothing in ([], [" ", ""]):
        with pytest.raises(ValueError, match="no text"):
            train_lm(nothing, order=2, unit="word")


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "lm.arpa"
    with pytest.raises(FileNotFoundError, match="no language model"):
        read_arpa(path)
    write_arpa(train_lm(TEXTS, order=3, unit="word"), path)
    whole = path.read_text(encoding="utf-8")
    broken = whole.split("\n").index("\\2-grams:") + 2
    for text, said in (
        (whole[: len(whole) // 2].rsplit("\n", 1)[0], "not a whole ARPA language model"),
        (whole.replace("\\2-grams:\n", "\\2-grams:\nx\twa adí\n"), f"line {broken} cannot be read"),
        (whole.replace("ngram 1=", "ngram 1=1"), "promises"),
        ("hello\n", "not a whole ARPA"),
        ("", "not a whole ARPA"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=said):
            read_arpa(path)
    packed = bytearray(gzip.compress(whole.encode()))
    packed[40:60] = b"\xff" * 20
    (tmp_path / "lm.arpa.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"lm\.arpa\.gz is not an ARPA language model"):
        read_arpa(tmp_path / "lm.arpa.gz")
    path.write_bytes(b"\xff\xfe\x00" * 10)
    with pytest.raises(ValueError, match="line 1 cannot be read"):
        read_arpa(path)


def test_words_of_one_letter_stay_words(tmp_path):
    write_arpa(train_lm(["一 二 三", "二 三"], order=2, unit="word"), tmp_path / "lm.arpa")
    assert read_arpa(tmp_path / "lm.arpa").unit == "word"


def test_a_file_of_another_tool(tmp_path):
    path = tmp_path / "lm.arpa"
    path.write_text(
        "made elsewhere\n\n\\data\\\nngram 1=4\nngram 2=2\n\n"
        "\\1-grams:\n-1.0\t<unk>\n-99\t<s>\t-0.3\n"
        "-0.5\tba\t-0.2\n-0.7\t</s>\n\n\\2-grams:\n-0.1\t<s> ba\n-0.2\tba </s>\n\n\\end\\\n"
    )
    lm = read_arpa(path)
    assert (lm.order, lm.unit) == (2, "word")
    assert lm.log_prob(("<s>",), "ba") == pytest.approx(-0.1 * math.log(10))
    assert lm.log_prob(("ba",), "ba") == pytest.approx(-0.7 * math.log(10))
    assert lm.log_prob(("<s>",), "so") == pytest.approx(-1.3 * math.log(10))
