"""speechssl.text: whatever a tokenizer's files hold, it is loaded and works, or a file is named."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from speechssl.text import (
    BLANK,
    NORMALIZERS,
    SPACE,
    UNKNOWN,
    CharTokenizer,
    SentencePieceTokenizer,
    VocabularyTokenizer,
    load_tokenizer,
    normalize,
    train_tokenizer,
)
from tests.fuzz.damage import damaged, odd_json

SYMBOLS = [BLANK, UNKNOWN, SPACE, "<s>", "a", "ɛ", "sh"]

MADE = [
    CharTokenizer(SYMBOLS),
    VocabularyTokenizer(SYMBOLS, ["<s>"]),
    train_tokenizer("spm:12", ["ab ba ɛb", "bb aɛ"], allow_smaller=True),
]


def works_or_names_a_file(folder) -> None:
    message = ""
    try:
        tokenizer = load_tokenizer(folder)
    except ValueError as error:
        tokenizer, message = None, str(error)
    if tokenizer is None:
        assert str(folder / "tokenizer.") in message
        return
    ids = tokenizer.encode("a ɛsh b")
    assert all(0 < i < tokenizer.vocab_size for i in ids)
    assert isinstance(tokenizer.decode(range(1, tokenizer.vocab_size)), str)


@given(made=st.sampled_from(MADE), data=st.data())
def test_damaged_files_load_or_are_named(made, data, tmp_path):
    made.save(tmp_path)
    sentencepiece = isinstance(made, SentencePieceTokenizer)
    names = ["tokenizer.json", "tokenizer.model"] if sentencepiece else ["tokenizer.json"]
    path = tmp_path / data.draw(st.sampled_from(names))
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    works_or_names_a_file(tmp_path)


@given(made=st.sampled_from(MADE[:2]), data=st.data())
def test_odd_descriptions_load_or_are_named(made, data, tmp_path):
    made.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data.draw(odd_json(json.loads(path.read_text("utf-8"))))))
    works_or_names_a_file(tmp_path)


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=4), spec=st.just("char"))
def test_any_text_trains_or_is_refused_and_comes_back(texts, spec, tmp_path):
    try:
        tokenizer = train_tokenizer(spec, texts)
    except ValueError:
        return
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == tokenizer.decode(tokenizer.encode(tokenizer.decode(ids)))
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).symbols == tokenizer.symbols


ODD = st.sampled_from(
    "\u200b\u200c\u200d\u2060\ufeff\u180e\u02bc'`\"-\u0307\u0640\u0651ﾞ\ufe0f\ufefbİiנनക്"
)


@given(text=st.text(ODD | st.characters(exclude_categories=["Cs"]), max_size=12))
def test_normalisers_are_idempotent_and_give_nfc_without_spaces_at_the_ends(text):
    for name in NORMALIZERS:
        once = normalize(text, name)
        assert normalize(once, name) == once
        assert unicodedata.is_normalized("NFC", once)
        assert once == SPACE.join(once.split())
