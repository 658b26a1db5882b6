"""Dictionaries of fairseq and labels of torchaudio, as people and tools leave them."""

from pathlib import Path

import pytest
import torch

from speechssl.checkpoint import Checkpoint, load_model, save_model
from speechssl.cli import main
from speechssl.interop.export import export_model
from speechssl.interop.fairseq import read_fairseq, write_fairseq
from speechssl.interop.fairseq_dictionary import read_dictionary
from speechssl.interop.torchaudio import _tokenizer
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel
from tests.interop.test_families import config
from tests.interop.test_folders import own


def dictionary(folder: Path, text: str | bytes) -> Path:
    place = folder / "dict.ltr.txt"
    place.write_bytes(text if isinstance(text, bytes) else text.encode())
    return place


def read(folder: Path, text: str | bytes, num_rows: int):
    return read_dictionary(dictionary(folder, text), num_rows)


@pytest.mark.parametrize(
    "text",
    [
        "| 5\nA 4\nB 3\n",
        "| 5\r\nA 4\r\nB 3\r\n",
        "\ufeff| 5\nA 4\nB 3\n",
        "| 5\nA 4\nB 3",
        "| 5\n\nA 4\nB 3\n\n",
        "|\nA\nB\n",
        "| 5\nA 4\nB 3 #fairseq:overwrite\n",
    ],
    ids=["plain", "CR LF", "BOM", "no last line end", "empty lines", "no counts", "a flag"],
)
def test_a_dictionary_is_read(text, tmp_path):
    tokenizer, rows = read(tmp_path, text, 7)
    assert tokenizer.symbols == ("<blank>", "⁇", "<pad>", "</s>", " ", "A", "B")
    assert rows == [0, 3, 1, 2, 4, 5, 6]
    assert tokenizer.decode(tokenizer.encode("ab ba")) == "ab ba"  # upper case only


def test_a_symbol_of_its_own_is_overwritten_by_a_flag(tmp_path):
    """fairseq gives it a new row; the old one stays."""
    tokenizer, rows = read(tmp_path, "| 5\na 4\n<unk> 3 #fairseq:overwrite\n", 7)
    assert len(rows) == tokenizer.vocab_size == 7
    assert sorted(row for row in rows if row is not None) == list(range(7))


@pytest.mark.parametrize("space", ["\u00a0", "\u2028", "\x0b", "\u3000", "\x85"])
def test_a_symbol_may_be_any_white_space(space, tmp_path):
    tokenizer, _ = read(tmp_path, f"| 5\n{space} 4\na 3\n", 7)
    assert [s.isspace() for s in tokenizer.symbols].count(True) == 2
    assert tokenizer.decode([6, 5, 6, 4, 6]) == "a a a"


def test_units_of_sentencepiece_begin_words(tmp_path):
    tokenizer, _ = read(tmp_path, "▁the 9\n▁ 5\ncat 4\ns 3\n▁c 2\nmadeupword0000 0\n", 10)
    ids = {symbol: i for i, symbol in enumerate(tokenizer.symbols)}
    pieces = [ids[" the"], ids[" "], ids["cat"], ids["s"], ids[" the"], ids[" c"], ids["s"]]
    assert tokenizer.decode(pieces) == "the cats the cs"
    words = tokenizer.words(pieces)
    assert [(w.start, w.end) for w in words] == [(0, 1), (2, 4), (4, 5), (5, 7)]
    assert tokenizer.decode(tokenizer.encode("the cs the")) == "the cs the"
    assert tokenizer.unknown_characters("the dots") == ["d", "o", "t"]


def test_words_that_no_unit_begins_are_encoded_without_a_mark(tmp_path):
    tokenizer, _ = read(tmp_path, "▁a 9\nb 5\n", 6)
    assert tokenizer.unknown_characters("b a") == []
    assert tokenizer.decode(tokenizer.encode("ab a")) == "ab a"


def test_a_lone_mark_is_the_delimiter_where_there_is_no_bar(tmp_path):
    tokenizer, _ = read(tmp_path, "▁ 9\na 5\nb 2\n", 7)
    assert tokenizer.decode(tokenizer.encode("ab a")) == "ab a"
    tokenizer, _ = read(tmp_path, "▁ 9\na 5\n| 2\n", 7)
    assert tokenizer.symbols[4:] == ("▁", "a", " ")


def test_units_go_to_fairseq_and_come_back(tmp_path):
    tokenizer, _ = read(tmp_path, "▁the 9\n▁ 5\ncat 4\ns 3\n", 8)
    plain = own(config("group", "post"), "abcdefg")
    model = CTCModel(plain.speech, CTCHead(plain.speech.config.context.dim, 8)).eval()
    torch.nn.init.normal_(model.head.linear.weight)
    export_model(Checkpoint(model, tokenizer), tmp_path / "out", "fairseq", verify=False)
    assert (tmp_path / "out/dict.ltr.txt").read_text() == "▁the 1\n▁ 1\ncat 1\ns 1\n"
    again = read_fairseq(tmp_path / "out/model.pt").tokenizer
    assert again.decode(again.encode("the cats")) == "the cats"
    save_model(tmp_path / "ours", Checkpoint(model, tokenizer))
    saved = load_model(tmp_path / "ours").tokenizer
    assert saved.decode(saved.encode("the cats the")) == "the cats the"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("| 5\na 4\na 3\n", r"line 3: 'a' is there before \(line 2\)"),
        ("| 5\n<pad> 4\na 3\n", r"line 2: '<pad>' is there before \(among fairseq's own four\)"),
        ("| 5\na\t4\nb 3\n", r"line 2: expected SYMBOL COUNT, got 'a\\t4'"),
        ("| 5\na four\nb 3\n", r"line 2: expected SYMBOL COUNT, got 'a four'"),
        ("| 5\né 4\n".encode("latin-1"), r"dict\.ltr\.txt is no UTF-8 \(byte 4\)"),
        ("| 5\na 4\n", r"dict\.ltr\.txt names 6 symbols .* has 7 rows"),
    ],
    ids=["twice", "their own", "a tab", "no number", "Latin-1", "too few"],
)
def test_what_is_wrong_is_said_with_the_line(text, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read(tmp_path, text, 7)


def test_the_dictionary_of_other_labels_is_found(tmp_path):
    write_fairseq(own(config("group", "post"), "abc"), tmp_path)
    data = torch.load(tmp_path / "model.pt")
    data["cfg"]["task"]["labels"] = "phn"
    torch.save(data, tmp_path / "model.pt")
    (tmp_path / "dict.ltr.txt").rename(tmp_path / "dict.phn.txt")
    assert "a" in read_fairseq(tmp_path / "model.pt").tokenizer.symbols
    (tmp_path / "dict.phn.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"dict\.phn\.txt is not there"):
        read_fairseq(tmp_path / "model.pt")


def test_a_file_that_fits_not_is_named(tmp_path):
    write_fairseq(own(config("group", "post"), "abc"), tmp_path)
    data = torch.load(tmp_path / "model.pt")
    data["model"]["w2v_encoder.w2v_model.more"] = torch.zeros(2)
    torch.save(data, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt: These weights .*1 \(more\)"):
        read_fairseq(tmp_path / "model.pt")


def test_adapters_do_not_go_to_fairseq(tmp_path):
    mine = own(config("layer", "pre", adapter_dim=4), "abc")
    save_model(tmp_path / "ours", mine)
    with pytest.raises(ValueError, match=r"has no adapters.*adapter_dim 4\): export it as hf"):
        export_model(mine, tmp_path / "out", "fairseq")
    told = ["export", str(tmp_path / "ours"), "--format", "fairseq", "--out", str(tmp_path / "x")]
    assert main(told) == 2


# ---- torchaudio's labels ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "ids", "text"),
    [
        (("-", "|", "A", "B"), [3, 2, 4], "a b"),
        (("-", "|", "a", " "), [3, 4, 3, 2, 3], "a a a"),
        (("-", "|", "a", ""), [3, 4, 3], "aa"),
        (("-", "|", "a", "<blank>"), [3, 4, 3], "aa"),
        (("-", "|", "a", "'"), [3, 4, 3], "a'a"),
        (("-", "a", "sh", "*"), [2, 3, 4], "ash*"),
    ],
)
def test_labels_are_read(labels, ids, text):
    tokenizer, rows = _tokenizer(labels, len(labels))
    assert rows == [0, None, *range(1, len(labels))]
    assert tokenizer.decode(ids) == text


def test_labels_that_are_there_twice_are_refused():
    with pytest.raises(ValueError, match=r"name \['a'\] more than once"):
        _tokenizer(("-", "|", "a", "a"), 4)
