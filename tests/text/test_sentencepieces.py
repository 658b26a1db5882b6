"""Sub-word units: as SentencePiece itself, on any corpus, of any possible size."""

import pytest

from speechssl.text import SentencePieceTokenizer, train_tokenizer
from tests.text.conftest import TEXTS


def test_spm_words_leave_lone_marks_out(spm: SentencePieceTokenizer) -> None:
    mark, o, w = (spm.symbols.index(s) for s in ("▁", "o", "w"))
    start = next(i for i, s in enumerate(spm.symbols) if s.startswith("▁") and len(s) > 1)
    words = spm.words([mark, o, w, start, o, mark, mark, w])
    assert [(word.start, word.end) for word in words] == [(1, 3), (3, 5), (7, 8)]
    assert [w.text for w in words] == ["ow", spm.symbols[start][1:] + "o", "w"]


def test_spm_decodes_as_sentencepiece_does(spm: SentencePieceTokenizer) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    reference = sentencepiece.SentencePieceProcessor(model_proto=spm._model)
    for text in TEXTS:
        assert spm.encode(text) == reference.encode(text)
        assert spm.decode(spm.encode(text)) == reference.decode(spm.encode(text))


def test_spm_pieces_may_mix_scripts() -> None:
    tokenizer = SentencePieceTokenizer.train(["twεrε"] * 5 + ["twεra"] * 5, 9, allow_smaller=True)
    assert any("w" in s and "ε" in s for s in tokenizer.symbols)


def test_spm_too_large_names_the_largest_and_the_largest_works() -> None:
    with pytest.raises(ValueError, match=r"of 5000 is more .* largest possible is \d+") as caught:
        train_tokenizer("spm:5000", TEXTS)
    largest = int(str(caught.value).rstrip(".").rsplit(" ", 1)[1])
    assert train_tokenizer(f"spm:{largest}", TEXTS).vocab_size == largest
    assert train_tokenizer("spm:5000", TEXTS, allow_smaller=True).vocab_size == largest


def test_spm_too_small_names_the_smallest_and_the_smallest_works() -> None:
    with pytest.raises(ValueError, match=r"of 5 cannot hold .* at least \d+") as caught:
        train_tokenizer("spm:5", TEXTS, allow_smaller=True)
    smallest = int(str(caught.value).rstrip(".").rsplit(" ", 1)[1])
    assert train_tokenizer(f"spm:{smallest}", TEXTS).vocab_size == smallest
    with pytest.raises(ValueError, match="at least"):
        train_tokenizer(f"spm:{smallest - 1}", TEXTS)


@pytest.mark.parametrize("texts", [["a"], ["ab", "ba"], ["你好", "好"], ["a " + "x" * 9000]])
def test_spm_works_on_a_tiny_corpus(texts: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = train_tokenizer("spm:64", texts, allow_smaller=True)
    assert [tokenizer.decode(tokenizer.encode(t)) for t in texts] == texts
    assert capfd.readouterr().err == ""  # no trainer log in a person's terminal
