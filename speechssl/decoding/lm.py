"""N-gram language models: interpolated modified Kneser-Ney, read and written as ARPA files.

(Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section
3; discounts from the counts of counts, equation 26.) The model is kept in its back-off form, in
which an ARPA file holds it: the interpolation with lower orders is already in every probability.

A model counts words, or characters with :data:`speechssl.text.WORD_MARK` for the space. Few
transcripts hold most of the character sequences of a language and few of its words, so that
characters serve where there is little text.
"""

import gzip
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

from speechssl.files import replacing
from speechssl.text import SPACE, WORD_MARK, normalize

Unit = Literal["char", "word"]
Ngram = tuple[str, ...]

BEGIN, END, UNKNOWN_WORD = "<s>", "</s>", "<unk>"
MOST_ORDER = 16
_UNIT = "# unit="
_NEVER = -99.0
"""What an ARPA file writes for log10 of zero."""
_LN10 = math.log(10)


@dataclass(frozen=True)
class NgramLM:
    """Probabilities of what follows what."""

    order: int
    unit: Unit
    entries: dict[Ngram, tuple[float, float]]
    """N-gram -> natural logarithms of its probability given what comes before its last token, and
    of the weight of lower orders where what follows it is not listed."""

    @property
    def start(self) -> Ngram:
        """What a sentence's first token follows."""
        return (BEGIN,) if self.order > 1 else ()

    def log_prob(self, before: Ngram, token: str) -> float:
        """Natural logarithm of the probability that `token` follows `before`."""
        if (token,) not in self.entries:
            token = UNKNOWN_WORD
        backed_off = 0.0
        while True:
            found = self.entries.get((*before, token))
            if found is not None:
                return backed_off + found[0]
            if not before:
                return backed_off + _NEVER * _LN10
            context = self.entries.get(before)
            backed_off += context[1] if context is not None else 0.0
            before = before[1:]

    def after(self, before: Ngram, token: str) -> Ngram:
        """What the next token follows: `before` and `token`, the last `order` - 1 of them."""
        if (token,) not in self.entries:
            token = UNKNOWN_WORD
        return (*before, token)[-(self.order - 1) :] if self.order > 1 else ()

    def letters(self) -> set[str]:
        """Those of all its words."""
        words = (gram[0] for gram in self.entries if len(gram) == 1)
        return {c for word in words if word not in (BEGIN, END, UNKNOWN_WORD) for c in word}

    def perplexity(self, texts: Iterable[str]) -> float:
        """exp of the mean of -log p over the tokens of `texts` and their ends."""
        total, num = 0.0, 0
        for text in texts:
            before = self.start
            for token in (*tokens(text, self.unit), END):
                total -= self.log_prob(before, token)
                before = self.after(before, token)
                num += 1
        return math.exp(total / max(num, 1))


def tokens(text: str, unit: Unit) -> list[str]:
    """Words, or characters with the mark for the space; NFC and single spaces first."""
    text = normalize(text, "none")
    return text.split(SPACE) if unit == "word" else list(text.replace(SPACE, WORD_MARK))


def train_lm(texts: Iterable[str], *, order: int, unit: Unit) -> NgramLM:
    """Count and smooth. Empty texts say nothing.

    Raises ValueError for an order outside [1, 16], an unknown unit, or where there is no text.
    """
    if not 1 <= order <= MOST_ORDER:
        raise ValueError(f"order must be between 1 and {MOST_ORDER}, got {order}.")
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be one of {', '.join(get_args(Unit))}, got {unit!r}.")
    counts = _count(texts, order, unit)
    if not counts[-1] and not counts[0]:
        raise ValueError("There is no text to learn a language model from.")
    probs: list[dict[Ngram, float]] = []  # of each order
    weights: dict[Ngram, float] = {}  # of lower orders behind a context
    vocabulary = {token for (token,) in counts[0]} | {END, UNKNOWN_WORD}
    uniform = 1 / len(vocabulary)
    for number, grams in enumerate(counts):
        discounts = _discounts(grams)
        totals: dict[Ngram, int] = defaultdict(int)
        freed: dict[Ngram, float] = defaultdict(float)
        for gram, count in grams.items():
            totals[gram[:-1]] += count
            freed[gram[:-1]] += discounts[min(count, 3)]
        level = {}
        for gram, count in grams.items():
            before = gram[:-1]
            lower = probs[-1][gram[1:]] if number else uniform
            own = count - discounts[min(count, 3)] + freed[before] * lower
            level[gram] = own / totals[before]
        if not number:
            for token in vocabulary - {token for (token,) in grams}:
                level[(token,)] = freed[()] * uniform / totals[()]
        weights |= {before: freed[before] / totals[before] for before in totals if before}
        probs.append(level)
    if order > 1:
        probs[0][(BEGIN,)] = 10.0**_NEVER  # never said, always there
    entries = {
        gram: (math.log(prob), math.log(weights[gram]) if weights.get(gram) else 0.0)
        for level in probs
        for gram, prob in level.items()
    }
    return NgramLM(order, unit, entries)


def _count(texts: Iterable[str], order: int, unit: Unit) -> list[Counter[Ngram]]:
    """For each order from 1 on, how often each n-gram came up; below the highest order, behind how
    many different tokens it did (Kneser-Ney), unless it begins a sentence."""
    raw: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for text in texts:
        said = tokens(text, unit)
        if not any(said):
            continue
        sentence = (BEGIN, *said, END) if order > 1 else (*said, END)
        for size in range(1, order + 1):
            for start in range(len(sentence) - size + 1):
                raw[size - 1][sentence[start : start + size]] += 1
    raw[0].pop((BEGIN,), None)
    counts = [raw[-1]]
    for size in range(order - 1, 0, -1):
        lower: Counter[Ngram] = Counter(gram[1:] for gram in raw[size])
        lower.update({g: n for g, n in raw[size - 1].items() if g[0] == BEGIN})
        counts.insert(0, lower)
    return counts


def _discounts(grams: Counter[Ngram]) -> tuple[float, float, float, float]:
    """What is taken from counts of 0, 1, 2, and 3 or more."""
    of = Counter(min(count, 5) for count in grams.values())
    if not all(of[n] for n in (1, 2, 3, 4)):  # too little text to tell
        return 0.0, 0.5, 1.0, 1.5
    share = of[1] / (of[1] + 2 * of[2])
    found = [n - (n + 1) * share * of[n + 1] / of[n] for n in (1, 2, 3)]
    if not all(0 < each < n for n, each in enumerate(found, start=1)):
        return 0.0, 0.5, 1.0, 1.5
    return 0.0, *found  # type: ignore[return-value]


def write_arpa(lm: NgramLM, path: Path) -> None:
    """Gzip where the name ends in .gz."""
    sizes = Counter(map(len, lm.entries))
    with replacing(path) as part, _open(part, path.name, "wt") as file:
        # What stands before the data is a comment; KenLM wants the sign.
        file.write(f"{_UNIT}{lm.unit}\n\n\\data\\\n")
        file.writelines(f"ngram {n}={sizes[n]}\n" for n in range(1, lm.order + 1))
        for n in range(1, lm.order + 1):
            file.write(f"\n\\{n}-grams:\n")
            for gram, (log_prob, weight) in lm.entries.items():
                if len(gram) == n:
                    behind = f"\t{weight / _LN10:.7g}" if n < lm.order else ""
                    prob = max(log_prob / _LN10, _NEVER)
                    file.write(f"{prob:.7g}\t{' '.join(gram)}{behind}\n")
        file.write("\n\\end\\\n")


def read_arpa(path: Path) -> NgramLM:
    """An ARPA file, plain or .gz, from here or from another tool (KenLM, SRILM).

    Its unit is what :func:`write_arpa` said; in a file of another tool the character where every
    token is one, else the word. Raises FileNotFoundError, or ValueError that names the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no language model {path}.")
    entries: dict[Ngram, tuple[float, float]] = {}
    promised: dict[int, int] = {}
    number, size = 1, 0
    ended, unit = False, ""
    try:
        with _open(path, path.name, "rt") as file:
            for line in map(str.strip, file):
                if line == "\\end\\":
                    ended = True
                    break
                if line.startswith(_UNIT) and not promised:
                    unit = line[len(_UNIT) :]
                elif line.startswith("ngram ") and not size:
                    n, _, many = line[len("ngram ") :].partition("=")
                    promised[int(n)] = int(many)
                elif line.startswith("\\") and line.endswith("-grams:"):
                    size = int(line[1 : -len("-grams:")])
                elif line and size:
                    gram, values = _entry(line, size)
                    entries[gram] = values
                number += 1
    except (ValueError, OverflowError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path} is not an ARPA language model: line {number} cannot be read."
        ) from error
    found = Counter(map(len, entries))
    if not ended or not entries or found != Counter(promised):
        raise ValueError(
            f"{path} is not a whole ARPA language model: it holds {len(entries)} n-grams and "
            f"promises {sum(promised.values())}."
        )
    if unit not in get_args(Unit):
        words = {gram[0] for gram in entries if len(gram) == 1} - {BEGIN, END, UNKNOWN_WORD}
        unit = "char" if words and all(len(word) == 1 for word in words) else "word"
    return NgramLM(max(found), cast(Unit, unit), entries)


def _entry(line: str, size: int) -> tuple[Ngram, tuple[float, float]]:
    """``log10 probability, tokens, perhaps the weight behind`` in natural logarithms."""
    parts = line.split()
    if len(parts) not in (size + 1, size + 2):
        raise ValueError(line)
    weight = float(parts[size + 1]) if len(parts) == size + 2 else 0.0
    log_prob = float(parts[0])
    if not (math.isfinite(weight) and log_prob <= 0):
        raise ValueError(line)
    return tuple(parts[1 : size + 1]), (max(log_prob, _NEVER) * _LN10, weight * _LN10)


def _open(path: Path, name: str, mode: Literal["rt", "wt"]) -> IO[str]:
    """As text, gzip where the name ends in .gz."""
    opener: Any = gzip.open if name.endswith(".gz") else open
    file: IO[str] = opener(path, mode, encoding="utf-8")
    return file
