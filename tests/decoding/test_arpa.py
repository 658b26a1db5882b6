"""ARPA files: there and back, those of other tools, and what only looks like one."""

import bz2
import gzip
import lzma
import math

import pytest

from speechssl.decoding.arpa import read_arpa, write_arpa
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.lm import train_lm
from speechssl.decoding.ngram import NgramLM
from speechssl.text import BLANK, UNKNOWN, CharTokenizer, VocabularyTokenizer

LN10 = math.log(10)
TEXTS = ["wa adí obεngέ bεngε", "wa adí ngá", "kώ émibonga ngá", "", "wa  adí\tngá"]


def arpa(tokens: dict[str, float], bigrams: str = "", head: str = "") -> str:
    """An ARPA file with log10 probabilities of tokens, and lines of bigrams."""
    num = bigrams.count("\n")
    ones = "".join(f"{p}\t{token}\t-0.3\n" for token, p in tokens.items())
    twos = f"\n\\2-grams:\n{bigrams}" if num else ""
    count = f"ngram 2={num}\n" if num else ""
    return f"{head}\\data\\\nngram 1={len(tokens)}\n{count}\n\\1-grams:\n{ones}{twos}\n\\end\\\n"


ENDS = {"<s>": -99, "</s>": -1.0}
WORDS = ENDS | {"wa": -0.5, "adí": -2.0}
LETTERS = ENDS | {"a": -0.5, "b": -0.7}


@pytest.fixture
def read(tmp_path):
    """The model of a text or of bytes."""

    def reader(content: str | bytes, name: str = "lm.arpa") -> NgramLM:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return read_arpa(tmp_path / name)

    return reader


# --- there and back


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


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "lm.arpa"
    with pytest.raises(FileNotFoundError, match="no language model"):
        read_arpa(path)
    write_arpa(train_lm(TEXTS, order=3, unit="word"), path)
    whole = path.read_text(encoding="utf-8")
    broken = whole.split("\n").index("\\2-grams:") + 2
    for text, message in (
        (whole[: len(whole) // 2].rsplit("\n", 1)[0], "not a whole ARPA language model"),
        (whole.replace("\\2-grams:\n", "\\2-grams:\nx\twa adí\n"), f"line {broken} cannot be read"),
        (whole.replace("ngram 1=", "ngram 1=1"), "promises"),
        ("hello\n", "not a whole ARPA"),
        ("", "not a whole ARPA"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
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


# --- names of other tools


@pytest.mark.parametrize("words", [WORDS, WORDS | {"<unk>": -100}, WORDS | {"<unk>": -99}])
def test_an_unknown_word_without_a_probability_has_a_bounded_cost(read, words):
    lm = read(arpa(words))
    assert lm.log_prob((), "zzz") == pytest.approx(-3.0 * LN10)  # a tenth of the rarest word's
    (note,) = lm.notes
    assert "lm.arpa has no probability for <unk>" in note
    assert "(log10 -3.00)" in note


@pytest.mark.parametrize("name", ["<unk>", "<UNK>", "<Unk>", "<oov>", "<OOV>", "[UNK]"])
def test_the_unknown_word_by_other_names(read, name):
    lm = read(arpa(WORDS | {name: -1.5}, f"-0.1\twa {name}\n"))
    assert lm.log_prob((), "zzz") == pytest.approx(-1.5 * LN10)
    assert lm.log_prob(("wa",), "zzz") == pytest.approx(-0.1 * LN10)
    assert lm.notes == ()


def test_ends_in_capitals_and_no_end(read):
    lm = read(arpa({"<S>": -99, "</S>": -1.0, "wa": -0.5, "<unk>": -2}, "-0.2\t<S> wa\n"))
    assert lm.log_prob(lm.start, "wa") == pytest.approx(-0.2 * LN10)
    assert lm.log_prob((), "</s>") == pytest.approx(-1.0 * LN10)
    assert read(arpa({"wa": -0.5, "<unk>": -2})).log_prob((), "</s>") == 0.0


SPACES = ["|", "<space>", "<SPACE>", "▁", "_", " ", "<sp>", "[space]", "<|space|>", "␣", "\u00a0"]


@pytest.mark.parametrize("space", [*SPACES, "\u3000"])
def test_spaces_of_character_models(read, space):
    bigrams = f"-0.1\ta {space}\n-0.2\t{space} b\n-0.4\t{space} {space}\n"
    lm = read(arpa(LETTERS | {space: -0.9, "<unk>": -3}, bigrams))
    assert (lm.unit, lm.order, lm.has_space) == ("char", 2, True)
    assert lm.log_prob((), "▁") == pytest.approx(-0.9 * LN10)
    assert lm.log_prob(("a",), "▁") == pytest.approx(-0.1 * LN10)
    assert lm.log_prob(("▁",), "b") == pytest.approx(-0.2 * LN10)
    assert lm.log_prob(("▁",), "▁") == pytest.approx(-0.4 * LN10)
    assert bool(lm.notes) == (space in "|_")  # these may be more than spaces


def test_of_two_spaces_the_more_frequent_is_taken_and_named(read):
    lm = read(arpa(LETTERS | {"_": -4, "|": -0.6, "<unk>": -5}))
    assert lm.log_prob((), "▁") == pytest.approx(-0.6 * LN10)
    assert lm.log_prob((), "_") == pytest.approx(-4 * LN10)
    assert lm.notes == ("lm.arpa: '|' is taken for the space.",)


def test_a_model_that_says_its_unit_keeps_all_names(read):
    lm = read(arpa(LETTERS | {"▁": -0.7, "_": -0.1, "<unk>": -4}, head="# unit=char\n"))
    assert lm.log_prob((), "_") == pytest.approx(-0.1 * LN10)
    assert lm.log_prob((), "▁") == pytest.approx(-0.7 * LN10)
    with pytest.raises(ValueError, match=r"lm\.arpa cannot be used: it says .* token 'wa'"):
        read(arpa(WORDS, head="# unit=char\n"))


def test_tags_do_not_make_words_of_characters(read):
    assert read(arpa(LETTERS | {"<space>": -1, "<noise>": -3, "<unk>": -4})).unit == "char"


@pytest.mark.parametrize(
    ("tokens", "some"),
    [
        ({"▁the": -1, "ing": -1.2, "▁a": -1.1}, "'▁the', '▁a'"),
        ({"the": -1, "##ing": -1.2}, "'##ing'"),
        ({"the@@": -1, "ir": -1.2}, "'the@@'"),
        ({"<space>": -0.7, "AH0": -1, "B": -1.2}, "'AH0'"),
        ({"▁": -0.7, "o\u0323\u0301": -1.1, "a": -2}, "'ọ́'"),
    ],
)
def test_models_of_parts_of_words_are_refused(read, tokens, some):
    with pytest.raises(
        ValueError, match=f"cannot be used: it counts parts of words .such as {some}"
    ):
        read(arpa(ENDS | tokens))


@pytest.mark.parametrize("white", ["\u00a0", "\u3000", "\u2028", "\u0085", "\x1c", "\u2003"])
def test_other_white_space_is_part_of_a_token(read, white):
    word = f"a{white}b"
    for separator in ("\t", " "):
        text = arpa(WORDS | {word: -0.25, f"{white}c": -1.25, "<unk>": -3}, f"-0.1\t{word} wa\n")
        lm = read(text.replace("\t", separator))
        assert lm.log_prob((), word) == pytest.approx(-0.25 * LN10)
        assert lm.log_prob((), f"{white}c") == pytest.approx(-1.25 * LN10)
        assert lm.log_prob((word,), "wa") == pytest.approx(-0.1 * LN10)


def test_tokens_are_brought_to_one_unicode_form(read):
    lm = read(arpa({"adi\u0301": -1.0, "adí": -1.0, "<unk>": -3}, "-0.5\tadi\u0301 adí\n"))
    assert lm.log_prob((), "adí") == pytest.approx(math.log(0.2))  # both were this word
    assert lm.log_prob(("adí",), "adí") == pytest.approx(-0.5 * LN10)


@pytest.mark.parametrize("head", ["\ufeff", "\ufeff# unit=word\n", "comment\n\n", "\r\n"])
def test_marks_and_comments_at_the_head(read, head):
    assert read(arpa(LETTERS, head=head)).unit == ("word" if "unit" in head else "char")


def test_lines_that_end_in_cr_lf_and_fields_without_a_weight(read):
    text = arpa(WORDS | {"<unk>": -3}).replace("\t-0.3", "\t")
    assert read(text.replace("\n", "\r\n")).entries == read(text).entries
    assert read(text).entries["wa",] == pytest.approx((-0.5 * LN10, 0))


def test_weights_of_back_off_that_are_missing_are_one(read):
    """SRILM leaves them out where nothing follows; some tools everywhere."""
    text = arpa(WORDS | {"<unk>": -3}, "-0.1\twa adí\n")
    lm = read(text.replace("\t-0.3", ""))
    assert lm.log_prob(("adí",), "wa") == pytest.approx(-0.5 * LN10)
    assert lm.notes == ()
    tokenizer = CharTokenizer.train(["wa adí"])
    assert BeamDecoder(tokenizer, lm=lm).notes == []


def test_n_grams_of_tokens_without_a_1_gram_are_named(read):
    lm = read(arpa(WORDS | {"<unk>": -3}, "-0.1\twa qua\n-0.2\tqua adí\n-0.3\twa adí\n"))
    assert lm.notes == (
        "lm.arpa: 2 n-grams are not used, as they hold tokens without a 1-gram, such as 'qua'.",
    )
    assert lm.log_prob(("wa",), "adí") == pytest.approx(-0.3 * LN10)
    assert lm.log_prob(("wa",), "qua") == pytest.approx(-3.3 * LN10)  # as any unknown word


@pytest.mark.parametrize("number", ["-inf", "-1e999", "-250"])
def test_what_never_comes_costs_a_bounded_amount(read, number):
    lm = read(arpa(WORDS | {"<unk>": -3, "ko": number}))
    assert lm.log_prob((), "ko") == pytest.approx(-99 * LN10)


def test_a_nul_may_be_a_token(tmp_path):
    write_arpa(train_lm(["a\0b"], order=2, unit="char"), tmp_path / "lm.arpa")
    assert ("\0",) in read_arpa(tmp_path / "lm.arpa").entries


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_compression_is_known_by_the_content(read, pack, name):
    text = arpa(WORDS)
    assert read(pack(text.encode()), name).entries == read(text).entries


# --- what only looks like one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(99),
            "file of KenLM: give",
        ),
        (
            gzip.compress(b"mmap lm http://kheafield.com/code format", mtime=0),
            "binary file of KenLM",
        ),
        (b"SRILM_BINARY_NGRAM_002\n", "binary file of SRILM"),
        (b"blmt 3 9 9", "binary file of IRSTLM"),
        (gzip.compress(b"\\data\\\n" + b" " * (3 << 20)), "line 2 .* longer than 1,048,576 bytes"),
        (b"x" * (1 << 21), "line 1 .* longer than 1,048,576 bytes, as no n-gram is"),
        (b"iARPA\n\\data\\\n", "compile-lm --text=yes"),
        (b"\xd6\xfd\xb2\x7e\x06\0\0\0vector", "OpenFst"),
        (arpa(WORDS).encode("utf-16"), "line 1 cannot be read: it is in UTF-16: save it in UTF-8"),
        (arpa(WORDS).encode("utf-16-le"), "a binary file, or text in UTF-16"),
        (b"PK\x03\x04" + bytes(40), "zip archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "zstd"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"<!doctype HTML><html></html>", "web page"),
        (bytes(range(256)), "a binary file"),
        (
            gzip.compress(arpa(WORDS).encode(), mtime=0)[:-30],
            "line 1 cannot be read: its data are damaged",
        ),
        ("wa adí\nngá\n", r"no line \\data\\; if it is text, make .* with speechssl lm"),
        (arpa(WORDS).replace("\\end\\\n", ""), r"\\end\\ is missing, and .* cut off after line 9"),
        (arpa(WORDS).replace("=4", "=5"), "it promises 5 1-grams and holds 4"),
        (arpa(WORDS).replace("=4", "=4\nngram 2=1"), "it promises 1 2-grams and holds 0"),
        (arpa(WORDS, "-1\twa wa\n").replace("ngram 2=1\n", ""), "line 10 .* no line promises 2-"),
        (
            arpa(WORDS).encode("latin-1"),
            "line 8 cannot be read: the byte 0xED is not UTF-8 .*iconv",
        ),
        (b"\xef\xbb\xbfcaf\xe9\n", "line 1 cannot be read: the byte 0xE9 is not UTF-8"),
        (arpa(WORDS).replace("-2.0", "-2,0"), r"line 8 cannot be read: '-2,0\\tadí.* no number"),
        (arpa(WORDS).replace("-2.0", "0.5"), "line 8 .* probability is 0 at most, and here 0.5"),
        (arpa(WORDS).replace("-2.0", "nan"), "line 8 .* probability is 0 at most, and here nan"),
        (
            arpa(WORDS).replace("-0.3\n\n", "inf\n\n"),
            "line 8 .* weight is 99 at most, and here inf",
        ),
        (arpa(WORDS, "-1\twa\n"), "line 12 .* is not a log10 probability, 2 tokens"),
        (arpa(WORDS, "-1\twa wa\n-2\twa wa\n"), "line 13 .* 'wa wa' is there for the second time"),
        (
            arpa(WORDS, "-1\twa wa\n").replace("\\2-grams:", "\\2-gram"),
            "line 11 .* nor the head of a",
        ),
        ("\\data\\\nngram 1=0\n\\1-grams:\n\\end\\\n", "promises no n-gram"),
        (gzip.compress(gzip.compress(arpa(WORDS).encode())), "compressed more than once: unpack"),
        (bz2.compress(lzma.compress(arpa(WORDS).encode())), "compressed more than once: unpack"),
        (arpa(WORDS).replace("=4", "=-4"), "line 2 .*'ngram 1=-4' is neither"),
        (arpa(WORDS).replace("=4", "=9" * 20), "line 2 .*'ngram 1=9.* is neither"),
        (
            arpa(WORDS, "-1\twa wa\n").replace("ngram 2=1", "ngram 2=7"),
            "promises 7 2-grams and holds 1",
        ),
        (arpa(WORDS).replace("-2.0", "-2_0"), "line 8 .* has no number"),
        (arpa(WORDS).replace("-2.0", "-٢.٠"), "line 8 .* has no number"),
        (arpa(WORDS).replace("-2.0", "inf"), "line 8 .* probability is 0 at most, and here inf"),
        (
            arpa(WORDS).replace("-0.3\n\n", "nan\n\n"),
            "line 8 .* weight is 99 at most, and here nan",
        ),
        (arpa(WORDS, "-1\twa wa\n")[:-10], "line 12 .* is not a log10 probability, 2 tokens"),
    ],
)
def test_other_files_are_named_as_what_they_are(read, content, message):
    with pytest.raises(
        ValueError, match=rf"lm\.arpa is not an? .*ARPA language model: .*{message}"
    ):
        read(content)


@pytest.mark.parametrize(
    ("behind", "lines"), [(arpa(WORDS), 8), ("made by hand\n", 1), ("\n \t\r\n", 0), ("", 0)]
)
def test_what_comes_after_the_end_is_named(read, behind, lines):
    notes = read(arpa(WORDS | {"<unk>": -3.0}) + behind).notes
    assert [note.split("(")[1] for note in notes] == [f"{lines} lines)."] * bool(lines)


def test_a_folder_is_no_language_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder: name the ARPA file"):
        read_arpa(tmp_path)


def test_the_line_of_a_wrong_byte_is_right_in_a_long_file(read):
    """Files are read in blocks of many lines."""
    words = {f"w{i}": -3.0 for i in range(5000)} | {"naïve": -3.0, "z": -4.0}
    text = arpa(ENDS | words)
    line = text.split("\n").index("-3.0\tnaïve\t-0.3") + 1
    with pytest.raises(ValueError, match=f"line {line} cannot be read: the byte 0xEF"):
        read(text.encode("latin-1"))


# --- in the search

TOKENIZER = CharTokenizer.train(["ab a"])


def notes(lm: NgramLM) -> list[str]:
    return BeamDecoder(TOKENIZER, BeamConfig(), lm).notes


@pytest.mark.parametrize("space", SPACES)
def test_spaces_survive_with_models_of_other_tools(read, space):
    import numpy as np

    lm = read(arpa(LETTERS | {space: -0.7}))
    rows = np.full((5, 5), -20.0, np.float32)
    for frame, symbol in enumerate([3, 0, 2, 0, 4]):  # a, space, b
        rows[frame, symbol] = -0.01
    decoder = BeamDecoder(TOKENIZER, BeamConfig(bonus=0.0), lm)
    assert TOKENIZER.decode(decoder.search(rows)) == "a b"
    without = BeamDecoder(TOKENIZER, BeamConfig(bonus=0.0), read(arpa(LETTERS)))
    assert TOKENIZER.decode(without.search(rows)) == "a b"
    assert any("no token for the space" in note for note in without.notes)


def test_notes_are_of_what_another_tool_left_out(read):
    assert notes(train_lm(["ab a"], order=2, unit="char")) == []
    assert notes(train_lm(["ab"], order=2, unit="char")) == []  # its text has no space: none comes
    assert len(notes(read(arpa(LETTERS)))) == 2


def test_a_model_of_words_needs_spaces():
    tokenizer = VocabularyTokenizer([BLANK, UNKNOWN, "你", "好"])
    with pytest.raises(ValueError, match="counts words, and the model emits no spaces"):
        BeamDecoder(tokenizer, lm=train_lm(["你好 好"], order=2, unit="word"))
    BeamDecoder(tokenizer, lm=train_lm(["你好"], order=2, unit="char"))


def test_letters_without_their_marks_are_refused(read):
    tokenizer = CharTokenizer.train(["é a b c"])
    tokens = {"a": -1, "b": -1, "c": -1, "e": -1, "\u0301": -1, "<space>": -1}
    with pytest.raises(ValueError, match=r"\(Unicode NFD\): it does not know é as one character"):
        BeamDecoder(tokenizer, lm=read(arpa(tokens)))
