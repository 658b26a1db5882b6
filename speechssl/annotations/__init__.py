"""Annotations of recordings as linguists have them: ELAN, Praat, subtitles, Audacity, CTM, STM.

:func:`read` gives tiers of segments in seconds; :func:`choose_tiers` those that hold the
transcripts; :mod:`speechssl.annotations.writing` writes them. pympi, praatio and pysubs2 (the extra
``linguist``) are imported when a file of theirs is read. Nothing here needs torch.
"""

from speechssl.annotations.choice import TierChoice, TierError, choose_tiers, describe_tiers
from speechssl.annotations.parts import Annotations, Media, Segment, Tier, Unplaced
from speechssl.annotations.reading import SUFFIXES, is_annotations, read, read_all

__all__ = [
    "SUFFIXES",
    "Annotations",
    "Media",
    "Segment",
    "Tier",
    "TierChoice",
    "TierError",
    "Unplaced",
    "choose_tiers",
    "describe_tiers",
    "is_annotations",
    "read",
    "read_all",
]
