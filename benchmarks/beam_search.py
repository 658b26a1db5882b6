"""Beam search of ours against its plain form in Python and flashlight-text, on the same rows.

    python benchmarks/beam_search.py --model runs/finetune --manifest data/dev.jsonl \
        --text data/train.jsonl --rows rows.npz --json beam.json

The model's log-probabilities are made once and kept in ``--rows``; each way decodes them, in turns,
on one thread, with language models of ``--text``: characters (6-gram) at a beam of 16, a 4-gram of
characters at a beam of 100, and a 4-gram of words with no others allowed at a beam of 100.
flashlight-text (through torchaudio) reads the same ARPA files; its weights are those of ours in its
own units, with no bonus for characters, which it lacks, and its threshold is torchaudio's own (50).
A search is judged by the score that the best text has (all its paths, and the language model),
which it seeks to be great, and by its WER.

The JSON's `ratio` is the plain form's time over ours at a beam of 16 with the 6-gram; `rows` hold
all, with the speed in times real time.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.comparison import write_comparison
from speechssl.data.manifest import read_manifest, read_texts
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.lm import END, NgramLM, estimate, read_arpa, tokens, write_arpa
from speechssl.inference.tune_lm import log_prob_rows
from speechssl.interop.sources import open_model
from speechssl.scoring.edits import align_texts, count_edits
from speechssl.text import CharTokenizer, Tokenizer
from tests.decoding.plain_beam import PlainBeam

Decode = Callable[[np.ndarray], list[int]]


@dataclass(frozen=True)
class Case:
    """One language model and beam."""

    name: str
    unit: str
    order: int
    width: int


CASES = (
    Case("beam 16, 6-gram of characters", "char", 6, 16),
    Case("beam 100, 4-gram of characters", "char", 4, 100),
    Case("beam 100, 4-gram of words, no others", "word", 4, 100),
)


def main() -> None:
    """Time every way in each case, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a fine-tuned model of characters")
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--text", type=Path, required=True, help="of the language models")
    parser.add_argument("--rows", type=Path, required=True, help="npz, made where it is missing")
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--plain", type=int, default=20, help="utterances for the plain form")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.rows.exists():
        keep_rows(args)
    data = np.load(args.rows)
    texts = [str(text) for text in data["texts"]][: args.utterances]
    rows = [data[f"rows_{i}"] for i in range(len(texts))]
    tokenizer = CharTokenizer([str(symbol) for symbol in data["symbols"]])
    audio_s = sum(map(len, rows)) * float(data["hop_s"])
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            path = Path(folder) / f"{case.unit}-{case.order}.arpa"
            if not path.exists():
                write_arpa(estimate(read_texts(args.text), order=case.order, unit=case.unit), path)
            found[case.name] = run_case(case, path, rows, texts, tokenizer, audio_s, args)
    first = found[CASES[0].name]
    if args.json:
        write_comparison(
            args.json,
            ratio=round(first["plain"]["s"] / first["ours on the same"]["s"], 1),
            ours=first["ours on the same"]["s"],
            peer=first["plain"]["s"],
            unit=f"s for {min(args.plain, len(rows))} utterances",
            conditions={"utterances": len(rows), "audio_s": round(audio_s, 1), "threads": 1},
            rows=found,
        )


def keep_rows(args: argparse.Namespace) -> None:
    """The log-probabilities of the first utterances of the manifest."""
    checkpoint = open_model(args.model)
    model, tokenizer = checkpoint.require_ctc()
    utterances = [u for u in read_manifest(args.manifest) if u.text][: args.utterances]
    rows = log_prob_rows(checkpoint, utterances, "fp32")
    arrays = {f"rows_{i}": np.concatenate(parts) for i, parts in enumerate(rows)}
    texts = np.array([u.text for u in utterances])
    symbols = np.array(tokenizer.symbols)
    np.savez(args.rows, texts=texts, symbols=symbols, hop_s=model.hop_s, **arrays)


def run_case(
    case: Case,
    path: Path,
    rows: Sequence[np.ndarray],
    texts: Sequence[str],
    tokenizer: Tokenizer,
    audio_s: float,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Seconds (median over the turns), mean score and WER of each way."""
    started = time.perf_counter()
    lm = read_arpa(path)
    # Without a lexicon flashlight-text has no bonus for a token.
    is_word = case.unit == "word"
    bonus = BeamConfig.bonus if is_word else 0.0
    config = BeamConfig(width=case.width, bonus=bonus, known_words=is_word)
    decoder = BeamDecoder(tokenizer, config, lm)
    loaded_s = time.perf_counter() - started
    plain = PlainBeam(tokenizer, config, lm)
    ways: dict[str, tuple[Decode, Sequence[np.ndarray]]] = {"ours": (decoder.search, rows)}
    if case.width <= 16:
        few = rows[: args.plain]
        ways["plain"] = (lambda each: list(plain.n_best(each)[0].ids), few)
        ways["ours on the same"] = (decoder.search, few)
    try:
        ways["flashlight"] = (flashlight(case, path, lm, config, tokenizer), rows)
    except (ImportError, RuntimeError) as error:
        print(f"flashlight-text is left out: {error}")
    for decode, given in ways.values():
        decode(given[0])  # what is compiled or read at the first call
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    ids: dict[str, list[list[int]]] = {}
    for _ in range(args.turns):
        for name, (decode, given) in ways.items():
            begun = time.thread_time()
            ids[name] = [decode(each) for each in given]
            seconds[name].append(time.thread_time() - begun)
    found: dict[str, Any] = {"loading_s": round(loaded_s, 2)}
    for name, (_, given) in ways.items():
        s = statistics.median(seconds[name])
        share = sum(map(len, given)) / sum(map(len, rows))
        scores = [
            score(each, i, lm, config, tokenizer) for each, i in zip(given, ids[name], strict=True)
        ]
        found[name] = {
            "s": round(s, 4),
            "times_real_time": round(audio_s * share / s, 1),
            "mean_score": round(statistics.fmean(scores), 4),
            "wer": round(wer(texts[: len(given)], [tokenizer.decode(i) for i in ids[name]]), 4),
        }
        print(f"{case.name}: {name}: {found[name]}", flush=True)
    return found


def flashlight(
    case: Case, path: Path, lm: NgramLM, config: BeamConfig, tokenizer: Tokenizer
) -> Decode:
    """torchaudio's decoder, with the weights in its units: log10 in place of natural logarithms."""
    from torchaudio.models.decoder import ctc_decoder

    symbols = ["<blank>", "<unk>", *tokenizer.spellings[2:]]
    mark = tokenizer.spellings[2]
    lexicon = numbers = None
    if case.unit == "char":  # without a list, torchaudio gives the tokens other numbers than the LM
        numbers = path.with_suffix(".tokens")
        numbers.write_text("\n".join(symbols) + "\n", encoding="utf-8")
    if case.unit == "word":
        words = [g[0] for g in lm.entries if len(g) == 1 and not g[0].startswith("<")]
        spelled = {w: f"{w}\t{' '.join(w)} {mark}\n" for w in words if set(w) <= set(symbols)}
        lexicon = path.with_suffix(".lexicon")
        lexicon.write_text("".join(spelled.values()), encoding="utf-8")
    decoder = ctc_decoder(
        lexicon=None if lexicon is None else str(lexicon),
        tokens=symbols,
        lm=str(path),
        lm_dict=None if numbers is None else str(numbers),
        beam_size=case.width,
        lm_weight=config.lm_weight * math.log(10),
        word_score=config.bonus,
        sil_score=0.0,
        log_add=True,
        blank_token="<blank>",
        sil_token=mark,
        unk_word="<unk>",
    )

    def decode(rows: np.ndarray) -> list[int]:
        found = decoder(torch.from_numpy(rows)[None])[0]
        ids: list[int] = found[0].tokens.tolist() if found else []
        for end in (0, -1):  # it puts a space at both ends
            if ids and ids[end] == 2:
                ids.pop(end)
        return ids

    return decode


def score(
    rows: np.ndarray, ids: Sequence[int], lm: NgramLM, config: BeamConfig, tokenizer: Tokenizer
) -> float:
    """All paths of a text, and what the language model says of it. Spaces at its ends and two in a
    row, which some decoders give, count as one text with the sound of the ids."""
    ctc = partial(F.ctc_loss, reduction="sum", zero_infinity=False)
    sound = -float(
        ctc(
            torch.from_numpy(rows)[:, None],
            torch.tensor([list(ids)], dtype=torch.long),
            torch.tensor([len(rows)]),
            torch.tensor([len(ids)]),
        )
    )
    text = tokenizer.decode(ids)
    before, total = lm.start, sound
    for token in tokens(text, lm.unit) if text else []:
        total += config.lm_weight * lm.log_prob(before, token) + config.bonus
        before = lm.after(before, token)
    return total + config.lm_weight * lm.log_prob(before, END)


def wer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Word errors over the words of all references."""
    counts = [count_edits(edits) for edits in align_texts(references, hypotheses, "words")]
    return sum(c.errors for c in counts) / max(sum(c.length for c in counts), 1)


if __name__ == "__main__":
    main()
