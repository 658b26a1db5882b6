"""What prepare knows of a transcript: its length for CTC, and which sentence it is."""

import unicodedata
from functools import lru_cache
from itertools import pairwise

from speechssl.spelling import text_key


def clean_text(text: str) -> str:
    """NFC, white space collapsed; nothing else about a transcript is changed here."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def ctc_frames_needed(text: str) -> int:
    """Frames that CTC needs for `text`: one a character and one between equal neighbours."""
    return len(text) + sum(a == b for a, b in pairwise(text))


def ctc_frames(duration_s: float) -> int:
    """Frames of the wav2vec 2.0 encoder: windows of 25 ms every 20 ms (arXiv:2006.11477, 4.2)."""
    return max(int((round(duration_s * 16000) - 400) // 320) + 1, 0)


@lru_cache(maxsize=4096)
def is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def sentence_key(text: str) -> str:
    """What makes two sentences the same: letters, marks and digits, whatever their case, width and
    Unicode form."""
    key = text_key(text)
    folded = "".join(c if is_letter(c) else " " for c in key)
    return " ".join(folded.split()) or key
