"""The dictionary beside a fairseq CTC model: which symbol each row of its head stands for."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechssl.checkpoint import Checkpoint
from speechssl.interop.vocabulary import symbol_texts
from speechssl.text import BLANK, SPACE, UNKNOWN, WORD_MARK, VocabularyTokenizer

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq.data.Dictionary; the first is the blank
_DELIMITER = "|"
MADE_UP = re.compile("madeupword[0-9]{4,}")
"""Rows without a symbol, as fairseq's dictionaries name them."""
_OVERWRITE = "#fairseq:overwrite"


def dictionary_name(task: Mapping[str, Any]) -> str:
    """The file's name by the task's ``labels``: ``dict.ltr.txt`` for letters."""
    return f"dict.{task.get('labels') or 'ltr'}.txt"


def read_dictionary(place: Path, num_rows: int) -> tuple[VocabularyTokenizer, list[int | None]]:
    """The tokenizer of a CTC head, and the row of the head for each of its symbols.

    Words are separated by ``|``, by ``▁`` where there is no ``|``, or they begin with the ``▁`` of
    a SentencePiece unit. Raises FileNotFoundError or ValueError with the file and the line.
    """
    if not place.exists():
        raise FileNotFoundError(
            f"The head has {num_rows} rows but {place} is not there to name them: give its "
            "dictionary with `speechssl import --dictionary FILE`."
        )
    tokens = [*_SPECIAL, *_symbols(place)]
    if len(tokens) != num_rows:
        raise ValueError(
            f"{place} names {len(tokens)} symbols (with fairseq's own four), the head has "
            f"{num_rows} rows: they do not belong together."
        )
    unknown = tokens.index("<unk>")
    rest = [i for i in range(1, num_rows) if i != unknown]
    delimiter: str | None = _DELIMITER if _DELIMITER in tokens else WORD_MARK
    named = {i: tokens[i] for i in rest}
    if any(token.startswith(WORD_MARK) and token != WORD_MARK for token in tokens):
        delimiter = None
        named = {i: token.replace(WORD_MARK, SPACE) for i, token in named.items()}
    silent = {t for t in named.values() if t in _SPECIAL or MADE_UP.fullmatch(t)}
    texts, mute = symbol_texts(named, delimiter, silent)
    letters = "".join(t for t in texts if t not in mute)
    uppercase = letters == letters.upper() != letters.lower()
    tokenizer = VocabularyTokenizer([BLANK, UNKNOWN, *texts], mute, uppercase=uppercase)
    return tokenizer, [0, unknown, *rest]


def _symbols(place: Path) -> list[str]:
    """The symbols of the lines ``SYMBOL COUNT``, perhaps with a flag behind; lines end at a line
    feed only, since a symbol may be any other character."""
    try:
        text = place.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{place} is no UTF-8 (byte {error.start}): save it as UTF-8, or give the dictionary "
            "that came with the model."
        ) from error
    found: dict[str, int] = dict.fromkeys(_SPECIAL, 0)
    symbols = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        flagged = line.removesuffix(f" {_OVERWRITE}")
        symbol, space, count = flagged.rpartition(" ")
        if not line:
            continue
        if not space and "\t" not in line:  # a list of symbols without counts
            symbol = line
        elif not count.isdecimal():
            raise ValueError(f"{place}, line {number}: expected SYMBOL COUNT, got {line!r}.")
        if symbol in found and flagged == line:
            known = f"line {found[symbol]}" if found[symbol] else "among fairseq's own four"
            raise ValueError(f"{place}, line {number}: {symbol!r} is there before ({known}).")
        found[symbol] = number
        symbols.append(symbol)
    return symbols


def dictionary_of(checkpoint: Checkpoint) -> tuple[list[int | None], str]:
    """Rows of our head in fairseq's order (its own four first; None: never emitted), and the text
    of the dictionary."""
    _, tokenizer = checkpoint.require_ctc()
    symbols = list(tokenizer.symbols)
    units = any(s.startswith(SPACE) and not s.isspace() for s in symbols)  # SentencePiece's
    inside = [s[1:] if units else s for s in symbols if s != SPACE]
    if any(SPACE in s for s in inside) or _DELIMITER in symbols:
        raise ValueError("A dictionary of fairseq cannot hold symbols with a space or a bar.")
    # fairseq has no name for the row of <s>, as that is its blank: transformers reads its models
    # with the blank as <pad> and <pad> as <s>, and so it goes back.
    silent: frozenset[str] = getattr(tokenizer, "silent", frozenset())
    pad = next((i for i, s in enumerate(symbols) if s in ("<pad>", "<s>") and i > 1), None)
    end = symbols.index("</s>") if "</s>" in symbols else None
    own = [i for i in range(2, len(symbols)) if i not in (pad, end)]
    names = {i: f"madeupword{i:04d}" for i in own if symbols[i] in silent}
    if units:
        names |= {i: symbols[i].replace(SPACE, WORD_MARK) for i in own if SPACE in symbols[i]}
    else:
        names |= {i: _DELIMITER for i in own if symbols[i] == SPACE}
    lines = [f"{names.get(i, symbols[i])} 1" for i in own]
    return [0, pad, end, 1, *own], "\n".join(lines) + "\n"


def rows_read_again(checkpoint: Checkpoint) -> list[int | None]:
    """For each symbol of what :func:`read_fairseq` makes of the model's file, the row of the model
    that emits it; None: it is never emitted."""
    rows, _ = dictionary_of(checkpoint)
    return [rows[0], rows[3], rows[1], rows[2], *rows[4:]]
