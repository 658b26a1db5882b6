"""A known text: files of it, its words, and how a model spells them."""

import pytest

from speechssl.inference.known_text import known_text, read_known_text
from speechssl.text import CharTokenizer, SentencePieceTokenizer, VocabularyTokenizer

PLAIN = CharTokenizer.train(["abcdefghijklmnopqrstuvwxyz'é"])
CASED = CharTokenizer.train(["abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,-"])


def spelled(lines, tokenizer=PLAIN) -> list[tuple[str, str]]:
    known = known_text(lines, tokenizer)
    return [(w.text, "".join(tokenizer.symbols[i] for i in w.ids)) for w in known.words]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Hello, World!", [("Hello,", "hello"), ("World!", "world")]),
        ("don't stop", [("don't", "don't"), ("stop", "stop")]),
        ("don’t", [("don’t", "don't")]),
        ("well-known", [("well-known", "well known")]),
        ("so — then …", [("so —", "so"), ("then …", "then")]),
        ("– Yes", [("– Yes", "yes")]),
        ("e\u0301te\u0301", [("e\u0301te\u0301", "été")]),
        ("«Na»,  (oui)", [("«Na»,", "na"), ("(oui)", "oui")]),
    ],
)
def test_words_keep_their_form_and_are_spelled_as_the_model_does(line, words) -> None:
    assert spelled([line]) == words


def test_what_the_model_knows_is_kept() -> None:
    assert spelled(["Hello, well-known World!"], CASED) == [
        ("Hello,", "Hello,"),
        ("well-known", "well-known"),
        ("World!", "World"),
    ]


def test_lines_and_unknown_letters() -> None:
    known = known_text(["one two", "", "thrëe ß"], PLAIN)
    assert [word.line for word in known.words] == [0, 0, 2, 2]
    assert known.unknown == {"ß": 1, "ë": 1}
    assert [1 in word.ids for word in known.words] == [False, False, True, True]
    assert [PLAIN.symbols[i] for i in known.separator] == [" "]


def test_digits_are_wildcards() -> None:
    (word,) = known_text(["1984 is a year with many letters"], PLAIN).words[:1]
    assert word.ids == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["… — !"], "There is nothing to align: the text holds no letter or digit"),
        ([], "There is nothing to align"),
        (["\u200b", " "], "There is nothing to align"),
        (["Привет, как дела?"], "13 of 13 letters of the text are not in the model's alphabet"),
        (["你好 世界 abc"], "4 of 7 letters"),
    ],
)
def test_text_that_is_none_for_this_model(lines, message) -> None:
    with pytest.raises(ValueError, match=message):
        known_text(lines, PLAIN)


@pytest.mark.parametrize("space", ["", " "])
def test_a_long_word_is_aligned_letter_by_letter(space) -> None:
    chinese = CharTokenizer(["<blank>", "⁇", *space, *"我们今天去学校看书明"])
    text = "我们今天，去学校看书" * 4 + "。"
    known = known_text([text], chinese)
    assert "".join(word.text for word in known.words) == text
    assert [word.joined for word in known.words] == [False] + [True] * 35
    assert known.words[3].text == "天，"
    assert all(len(word.ids) == 1 for word in known.words)
    assert known.separator == ((2,) if space else ())


def test_marks_stay_with_their_letters() -> None:
    thai = CharTokenizer.train(["เด็กไปโรงเรียนทุกวันและกลับบ้านตอนเย็น"])
    known = known_text(["เด็กไปโรงเรียนทุกวันและกลับบ้านตอนเย็น"], thai)
    assert known.words[0].text == "เด็"
    assert "".join(word.text for word in known.words) == "เด็กไปโรงเรียนทุกวันและกลับบ้านตอนเย็น"


def test_sub_word_units_and_other_vocabularies() -> None:
    texts = ["the cat sat on the mat", "a dog ran to the cat", "the dog sat"] * 3
    pieces = SentencePieceTokenizer.train(texts, 25, allow_smaller=True)
    known = known_text(["The cat, sat."], pieces)
    assert known.separator == ()
    assert [pieces.decode(word.ids) for word in known.words] == ["the", "cat", "sat"]
    capitals = VocabularyTokenizer(
        ["<blank>", "⁇", " ", "<s>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"], ["<s>"], uppercase=True
    )
    known = known_text(["The cat, sat."], capitals)
    assert known.separator == (2,)
    assert [capitals.decode(word.ids) for word in known.words] == ["the", "cat", "sat"]
    assert known.unknown == {}


# --- files


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.txt", "One two.\nThree.\n", ["One two.", "Three.", ""]),
        ("a.txt", "[00:01] One two.\n00:02:03,5 --> 00:02:04: Three\n", ["One two.", "Three", ""]),
        ("a.txt", "at 12:30 he came", ["at 12:30 he came"]),
        ("a", "\ufeffOne\r\ntwo", ["One", "two"]),
        (
            "a.srt",
            "1\n00:00:01,000 --> 00:00:02,000\n<i>One</i>\ntwo.\n\n2\n"
            "00:00:03,000 --> 00:00:04,000\n{\\an8}Three\n",
            ["One two.", "Three"],
        ),
        (
            "a.vtt",
            "WEBVTT\n\nNOTE nothing\n\nx\n00:01.000 --> 00:02.000\n<v Ann>One &amp; two\n",
            ["One & two"],
        ),
        (
            "a.tsv",
            "audio\tstart_s\tend_s\tconfidence\ttext\nx\t0\t1\t1\tOne\nx\t\t\t\ttwo\n",
            ["One", "two"],
        ),
        (
            "a.json",
            '{"text": "One two", "segments": [{"text": "One"}, {"text": "two"}]}\n',
            ["One", "two"],
        ),
        ("a.json", '{"text": "One", "segments": []}', ["One"]),
        ("a.ctm", ";; c\nx 1 0.0 0.5 One 0.9\nx 1 0.5 0.5 two 0.9\n", ["One two"]),
        (
            "a.TextGrid",
            'class = "IntervalTier"\nname = "phrases"\nxmin = 0\ntext = ""\ntext = "One ""two"""\n'
            'class = "IntervalTier"\ntext = "One"\n',
            ['One "two"'],
        ),
    ],
)
def test_files_of_text(tmp_path, name, text, lines) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert read_known_text(path) == lines


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("a.txt", b" \n\xe2\x80\x8b\n", ValueError, "a.txt holds no text"),
        ("a.txt", b"", ValueError, "a.txt holds no text"),
        ("a.txt", b"caf\xe9 au lait", ValueError, "is not UTF-8 text: the byte 0xe9"),
        ("a.wav", b"RIFF\x00\x00\x01\x00" + bytes(400), ValueError, "is not UTF-8 text"),
        ("a.json", b"{", ValueError, "is no transcript of the form that its suffix says"),
        ("a.json", b"[1]", ValueError, "is no transcript of the form"),
        ("a.tsv", b"path\tduration\nx\t1\n", ValueError, "is no transcript of the form"),
        ("a.ctm", b"a b\n", ValueError, "is no transcript of the form"),
        ("a.textgrid", b"nothing", ValueError, "is no transcript of the form"),
        ("a.srt", b"1\n\n", ValueError, "a.srt holds no text"),
        ("none.txt", None, FileNotFoundError, "There is no text file"),
        (".", None, IsADirectoryError, "is a folder: give a file of text"),
    ],
)
def test_files_that_are_none(tmp_path, name, data, error, message) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(error, match=message):
        read_known_text(path)
