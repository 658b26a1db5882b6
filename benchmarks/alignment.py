"""Join the utterances of a manifest to one recording, change its text, and see what `align` does.

    python benchmarks/alignment.py runs/finetune data/dev.jsonl --minutes 15 --json found.json

Texts: as they are; a tenth of the utterances deleted; a tenth of other ones inserted; both; those
of other utterances alone. The true times of words are those of the forced alignment of each
utterance alone, which a weak model does not place rightly either: beside them stands how many words
lie in their own utterance (within 100 ms). Utterances that `prepare --align` would cut are held
against the words that are truly in them.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechssl import audio
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.decoding.align import align
from speechssl.inference.align import Aligner, to_aligned
from speechssl.inference.cut import cut_aligned
from speechssl.inference.known_text import known_text
from speechssl.inference.recordings import as_clip
from speechssl.inference.transcribe import log_probs
from speechssl.interop.sources import open_model
from speechssl.rng import rng
from speechssl.scoring.edits import align_texts, count_edits

TEXTS = ("as it is", "a tenth deleted", "a tenth inserted", "both", "of others")
MAX_S = 30.0


@dataclass(frozen=True)
class Joined:
    """Utterances behind each other."""

    wave: np.ndarray
    bounds: list[tuple[float, float]]
    """Seconds of each utterance."""
    words: list[list[tuple[float, float]]]
    """Of each utterance the seconds of its words, aligned alone."""
    texts: list[str]


def join(aligner: Aligner, utterances: Sequence[Utterance], seconds: float) -> Joined:
    """As many utterances as fit into `seconds`; those that are shorter than CTC needs for their
    text are left out."""
    rate = aligner.model.speech.config.sample_rate
    waves, bounds, words, texts, num = [], [], [], [], 0
    for u in utterances:
        wave = audio.read(u.audio, start_s=u.start_s, duration_s=u.duration_s)
        if (num + len(wave)) / rate > seconds:
            break
        known = known_text([u.text or ""], aligner.tokenizer)
        ids = [i for n, w in enumerate(known.words) for i in (*known.separator * (n > 0), *w.ids)]
        rows, _ = log_probs(aligner.model, [wave])
        try:
            tokens = align(rows[0].numpy(), ids).tokens
        except ValueError:  # too short
            continue
        hop_s, here, place = aligner.model.hop_s, num / rate, 0
        times = []
        for n, word in enumerate(known.words):
            place += len(known.separator) if n else 0
            own = tokens[place : place + len(word.ids)]
            times.append((here + own[0].start_frame * hop_s, here + own[-1].end_frame * hop_s))
            place += len(word.ids)
        waves.append(wave)
        bounds.append((here, here + len(wave) / rate))
        words.append(times)
        texts.append(" ".join(word.text for word in known.words))
        num += len(wave)
    return Joined(np.concatenate(waves), bounds, words, texts)


Line = tuple[int | None, str]
"""The number of an utterance, None for one that is not in the recording, and its text."""


def changed(texts: Sequence[str], others: Sequence[str], kind: str, seed: int) -> list[Line]:
    """The lines of one of :data:`TEXTS`."""
    draw = rng(seed, "alignment", TEXTS.index(kind))
    if kind == "of others":
        return [(None, others[i]) for i in draw.permutation(len(others))[: len(texts)]]
    lines: list[Line] = list(enumerate(texts))
    tenth = max(len(texts) // 10, 1)
    if kind in ("a tenth deleted", "both"):
        gone = set(draw.permutation(len(texts))[:tenth].tolist())
        lines = [line for line in lines if line[0] not in gone]
    if kind in ("a tenth inserted", "both"):
        places = sorted(draw.permutation(len(lines))[:tenth].tolist(), reverse=True)
        for place, i in zip(places, draw.permutation(len(others)).tolist(), strict=False):
            lines.insert(place, (None, others[i]))
    return lines


def judge(aligner: Aligner, joined: Joined, frames: Any, lines: list[Line]) -> dict[str, Any]:
    """What :mod:`speechssl.inference.align` makes of one text."""
    known = known_text([text for _, text in lines], aligner.tokenizer)
    began = time.process_time()
    path = aligner.path(frames, known)
    elapsed_s = time.process_time() - began
    try:
        found = to_aligned(path, frames, known, aligner.model.speech.config)
    except ValueError as error:
        return {"refused": str(error), "path_s": round(elapsed_s, 2)}
    near100 = near200 = inside = own = timed = inserted = skipped = 0
    numbers = [0] * len(lines)
    for word, spoken in zip(found.words, known.words, strict=True):
        utterance, k = lines[spoken.line][0], numbers[spoken.line]
        numbers[spoken.line] += 1
        if utterance is None:
            inserted, skipped = inserted + 1, skipped + (word is None)
            continue
        own, timed = own + 1, timed + (word is not None)
        if word is not None:
            start, end = joined.words[utterance][k]
            off = max(abs(word.start_s - start), abs(word.end_s - end))
            near100, near200 = near100 + (off <= 0.1), near200 + (off <= 0.2)
            first, last = joined.bounds[utterance]
            inside += first - 0.1 <= word.start_s and word.end_s <= last + 0.1
    gone = set(range(len(joined.texts))) - {utterance for utterance, _ in lines}
    gone_s = sum(joined.words[u][-1][1] - joined.words[u][0][0] for u in gone)
    named_s = sum(
        max(min(e.end_s, joined.words[u][-1][1]) - max(e.start_s, joined.words[u][0][0]), 0)
        for u in gone
        for e in found.extra
    )
    return {
        "words": own,
        "aligned": timed / max(own, 1),
        "within_100_ms": near100 / max(timed, 1),
        "within_200_ms": near200 / max(timed, 1),
        "in_their_utterance": inside / max(timed, 1),
        "inserted_words": inserted,
        "inserted_unaligned": skipped / max(inserted, 1),
        "deleted_s": round(gone_s, 1),
        "deleted_named": named_s / max(gone_s, 1e-9),
        "path_s": round(elapsed_s, 2),
        **labels(joined, cut_aligned(found, max_s=MAX_S)),
    }


def labels(joined: Joined, cuts: Sequence[Any]) -> dict[str, float]:
    """How much becomes utterances, and the word error rate of their texts."""
    spoken = [
        ((start + end) / 2, word)
        for times, text in zip(joined.words, joined.texts, strict=True)
        for (start, end), word in zip(times, text.split(), strict=True)
    ]
    middles = [middle for middle, _ in spoken]
    kept = [cut for cut in cuts if not cut.reason]
    truths = [
        " ".join(w for _, w in spoken[slice(*np.searchsorted(middles, [c.start_s, c.end_s]))])
        for c in kept
    ]
    counts = [count_edits(e) for e in align_texts(truths, [c.text for c in kept], "words")]
    errors, num = sum(c.errors for c in counts), sum(c.length for c in counts)
    return {
        "utterances": len(kept),
        "kept_words": num / len(spoken),
        "label_wer": errors / max(num, 1),
    }


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--others", type=Path, help="manifest of texts to insert")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    aligner = Aligner(open_model(args.model), precision="fp32")
    given = [u for u in read_manifest(args.manifest) if u.is_labeled]
    order = rng(args.seed, "alignment", "order").permutation(len(given))
    joined = join(aligner, [given[i] for i in order], 60 * args.minutes)
    mine = set(joined.texts)
    others = [u.text or "" for u in (read_manifest(args.others) if args.others else given)]
    others = [text for text in others if text and text not in mine]
    began = time.process_time()
    ids = set(range(2, aligner.tokenizer.vocab_size))
    frames = aligner.frames(as_clip(joined.wave), ids)
    model_s = time.process_time() - began
    rows = {
        kind: judge(aligner, joined, frames, changed(joined.texts, others, kind, args.seed))
        for kind in TEXTS
        if others or kind in TEXTS[:2]
    }
    facts = {
        "manifest": str(args.manifest),
        "seconds": round(joined.bounds[-1][1], 1),
        "utterances": len(joined.texts),
        "frames": frames.emissions.num_frames,
        "model_s": round(model_s, 1),
        "texts": rows,
    }
    for kind, row in rows.items():
        shown = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(f"{kind}: {', '.join(shown)}")
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
