"""Tokenizers lose nothing that they were trained on."""

import json
import pickle
import subprocess
import sys
import unicodedata
from itertools import pairwise

import pytest

from speechssl.text import (
    BLANK_ID,
    UNKNOWN,
    UNKNOWN_ID,
    CharTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    count_unknown,
    ctc_min_frames,
    load_tokenizer,
    normalize,
    train_tokenizer,
)
from tests.text.conftest import TEXTS


@pytest.fixture(scope="module", params=["char", "spm:28"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(request.param, TEXTS)


# --- both tokenizers


def test_blank_and_unknown_have_their_places(tokenizer: Tokenizer) -> None:
    assert tokenizer.symbols[:2] == ("<blank>", UNKNOWN)
    assert tokenizer.vocab_size == len(tokenizer.symbols) == len(set(tokenizer.symbols))


def test_round_trip_of_what_was_seen(tokenizer: Tokenizer) -> None:
    for text in [*TEXTS, "poo", ""]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(UNKNOWN_ID < i < tokenizer.vocab_size for i in ids)
        assert tokenizer.unknown_characters(text) == []


def test_encode_brings_text_to_one_form(tokenizer: Tokenizer) -> None:
    decomposed = unicodedata.normalize("NFD", TEXTS[0])
    assert decomposed != TEXTS[0]
    assert tokenizer.encode(f" {decomposed.replace(' ', '  ')}\n") == tokenizer.encode(TEXTS[0])


def test_words_cover_the_decoded_text(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        ids = tokenizer.encode(text)
        words = tokenizer.words(ids)
        assert [w.text for w in words] == text.split()
        assert all(0 <= w.start < w.end <= len(ids) for w in words)
        assert all(a.end <= b.start for a, b in pairwise(words))
        assert [tokenizer.decode(ids[w.start : w.end]) for w in words] == text.split()


def test_any_ids_decode_to_single_spaced_text(tokenizer: Tokenizer) -> None:
    everything = [*range(1, tokenizer.vocab_size), *range(tokenizer.vocab_size - 1, 0, -1)]
    text = tokenizer.decode(everything)
    assert text == normalize(text, "none")
    assert text.count(UNKNOWN) == 2


def test_characters_unseen_in_training_are_unknown_and_counted(tokenizer: Tokenizer) -> None:
    assert UNKNOWN_ID in tokenizer.encode("poo8")
    assert tokenizer.decode(tokenizer.encode("poo8 wa")) == f"poo{UNKNOWN} wa"
    assert tokenizer.unknown_characters("8 poo 7 8") == ["8", "7", "8"]
    assert list(count_unknown(tokenizer, ["7 wa", "8 8", ""]).items()) == [("8", 2), ("7", 1)]


def test_text_cannot_spell_the_special_symbols(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"a<blank>{UNKNOWN}<unk>")
    assert BLANK_ID not in ids
    assert UNKNOWN in tokenizer.unknown_characters(f"a{UNKNOWN}")


@pytest.mark.parametrize("bad", [BLANK_ID, -1, 10_000])
def test_ids_that_spell_nothing_are_an_error(tokenizer: Tokenizer, bad: int) -> None:
    with pytest.raises(ValueError, match=rf"The id {bad} spells no text.*blank"):
        tokenizer.decode([2, bad])


def test_save_and_load_give_the_same_tokenizer(tokenizer: Tokenizer, tmp_path) -> None:
    tokenizer.save(tmp_path / "model")
    again = load_tokenizer(tmp_path / "model")
    assert type(again) is type(tokenizer)
    assert again.symbols == tokenizer.symbols
    assert [again.encode(t) for t in TEXTS] == [tokenizer.encode(t) for t in TEXTS]
    assert {p.name for p in (tmp_path / "model").iterdir()} <= {"tokenizer.json", "tokenizer.model"}
    tokenizer.save(tmp_path / "model")  # over an old one


def test_training_and_saving_are_deterministic(tokenizer: Tokenizer, tmp_path) -> None:
    spec = "char" if isinstance(tokenizer, CharTokenizer) else "spm:28"
    train_tokenizer(spec, iter(TEXTS)).save(tmp_path / "a")
    tokenizer.save(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_tokenizer_travels_to_a_worker(tokenizer: Tokenizer) -> None:
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


@pytest.mark.parametrize("spec", ["char", "spm:28"])
@pytest.mark.parametrize("texts", [[], ["", " \n"], [UNKNOWN]])
def test_no_text_is_a_sentence(spec: str, texts: list[str]) -> None:
    with pytest.raises(ValueError, match="the transcripts are empty"):
        train_tokenizer(spec, texts)


@pytest.mark.parametrize("spec", ["", "bpe:30", "spm", "spm:", "spm:-3", "spm:3.5", "char:30"])
def test_an_unknown_spec_says_what_is_allowed(spec: str) -> None:
    with pytest.raises(ValueError, match=r'is not a tokenizer; write "char", or "spm:SIZE"'):
        train_tokenizer(spec, TEXTS)


# --- damaged folders


def test_a_folder_without_a_tokenizer(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing.*fine-tuned"):
        load_tokenizer(tmp_path)


VOCABULARY = '{"type": "vocabulary", "version": 1, "symbols": ["<blank>", "⁇", "a"], '.encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"type": "char", "symb', "is damaged: it is not JSON"),
        (b"\xff\xfe\x00", "is damaged: it is not JSON"),
        (b"[1, 2]", "neither"),
        (b'{"type": "wordpiece", "version": 1}', 'neither "char"'),
        (b'{"type": "char", "version": 2, "symbols": []}', "format version 2"),
        (b'{"type": "char", "version": 1}', "is damaged: its symbols are not a list"),
        (b'{"type": "char", "version": 1, "symbols": ["a"]}', "is damaged: its symbols do not"),
        (b"[" * 200000, "is damaged: it is not JSON"),
        (VOCABULARY + b'"silent": 3}', "is damaged: its silent symbols are not a list"),
        (VOCABULARY + b'"silent": [["a"]]}', "is damaged: its silent symbols are not a list"),
        (VOCABULARY + b'"uppercase": "no"}', 'is damaged: its "uppercase" is neither'),
    ],
)
def test_a_damaged_description_is_named(tmp_path, content: bytes, reason: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"tokenizer\.json .*{reason}"):
        load_tokenizer(tmp_path)


def test_a_damaged_or_missing_sentencepiece_model_is_named(spm, tmp_path) -> None:
    spm.save(tmp_path)
    model = tmp_path / "tokenizer.model"
    model.write_bytes(model.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"tokenizer\.model is damaged: its checksum"):
        load_tokenizer(tmp_path)
    model.unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.model is missing"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_bytes_that_are_no_sentencepiece_model(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a SentencePiece model|do not begin with"):
        SentencePieceTokenizer(content)


def test_the_file_is_plain_readable_json(tmp_path) -> None:
    CharTokenizer.train(["wó"]).save(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    assert "ó" in text
    assert json.loads(text)["type"] == "char"


# --- CTC


@pytest.mark.parametrize(
    ("ids", "frames"), [([], 0), ([3], 1), ([3, 4], 2), ([3, 3], 3), ([3, 3, 3, 4, 3], 7)]
)
def test_ctc_min_frames(ids: list[int], frames: int) -> None:
    assert ctc_min_frames(ids) == frames


def test_ctc_min_frames_is_where_the_ctc_loss_becomes_finite() -> None:
    torch = pytest.importorskip("torch")
    ids = [1, 1, 2, 3, 3]
    for frames in range(5, 9):
        loss = torch.nn.functional.ctc_loss(
            torch.zeros(frames, 1, 4).log_softmax(-1),
            torch.tensor([ids]),
            torch.tensor([frames]),
            torch.tensor([len(ids)]),
        )
        assert bool(torch.isfinite(loss)) == (frames >= ctc_min_frames(ids))


def test_sentencepiece_is_imported_only_when_used() -> None:
    code = (
        "import sys, speechssl.text as t; t.CharTokenizer.train(['a']); "
        "sys.exit(any(m in sys.modules for m in ('sentencepiece', 'torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
