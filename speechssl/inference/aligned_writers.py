"""An aligned text as json, srt, vtt, textgrid, eaf, ctm, stm, tsv, flextext or Audacity's labels.

Subtitles and CTM have the aligned words alone; the other formats name the rest as well.
"""

import json
import re
from collections.abc import Callable

from speechssl.annotations.eaf_writing import write_eaf
from speechssl.inference.align import AlignedText
from speechssl.inference.cue_times import ms
from speechssl.inference.subtitles import to_cues
from speechssl.inference.writers import (
    WRITERS,
    Label,
    annotations_of,
    media_of,
    srt_of,
    to_ctm,
    to_dict,
    to_textgrid,
    to_tsv,
    vtt_of,
)


def aligned_json(aligned: AlignedText) -> str:
    """What a transcript's JSON has, of the aligned words; and `unaligned`, words that are not in
    the recording, with the number of their line (from 1 on) and of the first of them in the text
    (from 0 on) and the times between which they should be; and `extra`, speech that is not in the
    text, before the word of that number."""
    data = to_dict(aligned.transcript)
    data["num_words"] = len(aligned.words)
    data["unaligned"] = [
        {
            "text": run.text,
            "line": run.line,
            "first_word": run.first_word,
            "num_words": run.num_words,
            "after_s": ms(run.after_s) / 1000,
            "before_s": ms(run.before_s) / 1000,
        }
        for run in aligned.unaligned
    ]
    data["extra"] = [
        {
            "start_s": ms(extra.start_s) / 1000,
            "end_s": ms(extra.end_s) / 1000,
            "before_word": extra.before_word,
        }
        for extra in aligned.extra
    ]
    return json.dumps(data, ensure_ascii=False) + "\n"


def aligned_tsv(aligned: AlignedText) -> str:
    """A line for each phrase and each run of unaligned words, in the order of the text; the latter
    have neither times nor confidence."""
    header, *rows = to_tsv(aligned.transcript).splitlines(keepends=True)
    name = re.sub(r"[\t\r\n]", " ", aligned.transcript.audio)
    timed = [(s.start_s, row) for s, row in zip(aligned.transcript.segments, rows, strict=True)]
    rest = [(run.before_s, f"{name}\t\t\t\t{run.text}\n") for run in aligned.unaligned]
    placed = [(time, 1, row) for time, row in timed] + [(time, 0, row) for time, row in rest]
    placed.sort(key=lambda item: item[:2])
    return header + "".join(row for *_, row in placed)


def aligned_textgrid(aligned: AlignedText) -> str:
    """Tiers of phrases and words; of unaligned words, where the words around them leave room; and
    of speech that is not in the text."""
    return to_textgrid(aligned.transcript, _rest(aligned))


def aligned_eaf(aligned: AlignedText) -> str:
    """The same tiers for ELAN."""
    further = {name: labels for name, labels in _rest(aligned).items() if labels}
    return write_eaf(annotations_of(aligned.transcript, further), media_of(aligned.transcript))


def _rest(aligned: AlignedText) -> dict[str, list[Label]]:
    """What is not in both, as tiers."""
    unaligned = [(r.after_s, r.before_s, r.text) for r in aligned.unaligned]
    return {"unaligned": unaligned, "extra": [(e.start_s, e.end_s, "extra") for e in aligned.extra]}


ALIGNED_WRITERS: dict[str, Callable[[AlignedText], str]] = {
    "json": aligned_json,
    "srt": lambda aligned: srt_of(to_cues(aligned.transcript, keep_segments=True)),
    "vtt": lambda aligned: vtt_of(to_cues(aligned.transcript, keep_segments=True)),
    "textgrid": aligned_textgrid,
    "ctm": lambda aligned: to_ctm(aligned.transcript),
    "tsv": aligned_tsv,
    "eaf": aligned_eaf,
    "stm": lambda aligned: WRITERS["stm"](aligned.transcript),
    "audacity": lambda aligned: WRITERS["audacity"](aligned.transcript),
    "flextext": lambda aligned: WRITERS["flextext"](aligned.transcript),
}
