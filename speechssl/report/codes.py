"""Codes of a pretraining run: how often each is used over the run, and what it stands for.

Shapes: T frames, G groups of codes, V codes of a group, K characters.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from speechssl.checkpoint import Checkpoint
from speechssl.decoding.align import Alignment, align
from speechssl.inference.batching import LARGE
from speechssl.report.blocks import run_block
from speechssl.report.charts import number_text
from speechssl.report.opened import (
    CannotShowError,
    Pretraining,
    gone,
    open_pretraining,
    read_wave,
)
from speechssl.report.pictures import heat_map
from speechssl.report.recognition import log_probs, open_recogniser
from speechssl.report.runs import Run
from speechssl.text import SPACE

_MOST_AUDIO_S = 300.0
"""Of speech that is aligned; a tenth of it for models that take a second for one."""
_NEAR_S = 0.1
"""A frame farther than this from every character belongs to none."""
_ROUGH_CER = 0.6
"""Of the aligning model, above which its alignments are hardly to be believed."""
_NO_CHARACTER = "–"
_FULL_COLOUR = 16
"""How many times its even share a code must have to be drawn in full colour."""
_MOST_ROWS = 40
_NUM_LISTED = 24


def codes_section(runs: Sequence[Run]) -> str:
    """Use and meaning of the codes of each pretraining run; '' where there is none."""
    writers = [run for run in runs if run.task == "finetune"]
    writer = min(writers, key=lambda run: run.valid_cer or math.inf, default=None)
    blocks = []
    for number, run in enumerate(runs):
        if run.task == "pretrain" and (run.counts or run.has_codes):
            maps = f'<div class="charts">{_usage(run)}</div>' if run.counts else _uncounted(run)
            characters = _characters(run, writer)
            blocks.append(run_block(number, run, maps + characters))
    if not blocks:
        return ""
    return f'<section id="codes"><h2>Codes</h2>{"".join(blocks)}</section>'


# ---- how often each is used ---------------------------------------------------------------------


def _uncounted(run: Run) -> str:
    return (
        f'<p class="note">How often each code is used is counted at each validation, and '
        f"{escape(run.name)} has no such counts.</p>"
    )


def _usage(run: Run) -> str:
    """A heat map of each kind of counts but the targets, which are a column of the predictions."""
    maps = []
    for kind in sorted(run.counts):
        if "/targets" in kind:
            continue
        targets = run.counts.get(kind.replace("/predicted", "/targets"), [])
        is_prediction = "/predicted" in kind and bool(targets)
        maps.append(_usage_map(run, kind, _shares(targets)[-1] if is_prediction else None))
    return "".join(maps)


def _shares(history: Sequence[tuple[int, list[int]]]) -> np.ndarray:
    """(validations, V) share of each code in each validation."""
    most = max(len(counts) for _, counts in history)
    tallies = np.array([counts + [0] * (most - len(counts)) for _, counts in history], float)
    return np.asarray(tallies / np.maximum(tallies.sum(1, keepdims=True), 1))


def _usage_map(run: Run, kind: str, right: np.ndarray | None) -> str:
    """Codes down, validations across; `right` (V,) are the shares of the targets."""
    steps = [step for step, _ in run.counts[kind]]
    shares = _shares(run.counts[kind])
    num_codes = shares.shape[1]
    columns = [
        f"update {step:,}: {_usage_in_words(row)}" for step, row in zip(steps, shares, strict=True)
    ]
    latest, num_steps = columns[-1], len(steps)
    shown = sorted({0, num_steps // 2, num_steps - 1})
    x_ticks = [(i, f"{steps[i]:,}") for i in shown]
    ranks = shares[-1]
    title, hint = (
        f"Codes of {kind.replace('/', ', ').replace('_', ' ')}",
        "Rows: codes, the commonest at the end on top",
    )
    if right is not None and len(right) == num_codes:
        shares = np.concatenate([shares, np.zeros((1, num_codes)), right[None]])
        columns += ["", f"targets: {_usage_in_words(right)}"]
        x_ticks = [*x_ticks[:-1], (num_steps + 1, "targets")]
        ranks = right
        task, _, which = kind.partition("/predicted")  # which: a feature or a layer
        name = f"{task}, {which[1:]}" if which else task
        name = name.replace("_", " ")
        title, hint = f"Predicted codes of {name}", "Rows: codes, the commonest target on top"
    order = np.argsort(-ranks, kind="stable")
    figure = heat_map(
        np.sqrt(shares[:, order].T * num_codes / _FULL_COLOUR),
        title=f"{title} of {run.name} over the run; {latest}",
        columns=columns,
        x_ticks=x_ticks,
        y_ticks=[(i, str(i + 1)) for i in sorted({0, num_codes // 2 - 1, num_codes - 1} - {-1})],
        x_label="updates",
    )
    return (
        f'<figure class="card"><figcaption><h4>{title}</h4><p>Of the masked frames of each '
        f"validation. {hint}; the stronger the colour, the more often: full where a code "
        f"has {_FULL_COLOUR} times its even share.</p></figcaption>{figure}"
        "</figure>"
    )


def _usage_in_words(shares: np.ndarray) -> str:
    most = number_text(float(shares.max()), percent=True)
    return (
        f"{int((shares > 0).sum())} of {len(shares)} codes, perplexity {_perplexity(shares):.0f}, "
        f"the commonest is {int(shares.argmax())} with {most}"
    )


def _perplexity(shares: np.ndarray) -> float:
    used = shares[shares > 0]
    return float(np.exp(-(used * np.log(used)).sum()))


# ---- what each stands for -----------------------------------------------------------------------


@dataclass(frozen=True)
class CodeMeanings:
    """How often each code of a group falls on each character."""

    characters: tuple[str, ...]
    """The commonest first; ``–`` is what is on none."""
    counts: np.ndarray
    """(K, V) frames."""
    audio_s: float

    @property
    def known_share(self) -> float:
        """Which share of the uncertainty about a frame's character its code takes away: their
        mutual information over the entropy of the characters (as PNMI of phones, arXiv:2106.07447,
        section 4.4). It grows with the number of codes per frame: compare like with like."""
        joint = self.counts / max(self.counts.sum(), 1)
        rows, columns = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
        used = joint > 0
        information = (joint[used] * np.log(joint[used] / (rows @ columns)[used])).sum()
        entropy = -(rows[rows > 0] * np.log(rows[rows > 0])).sum()
        return float(information / entropy) if entropy > 0 else 0.0


def _characters(run: Run, writer: Run | None) -> str:
    title = '<h4 class="above">Characters on which each code falls</h4>'
    try:
        if writer is None:
            raise CannotShowError(
                "Give a fine-tuned run beside this one to see which characters its codes fall on."
            )
        groups = code_meanings(run, writer)
    except CannotShowError as error:
        return f'{title}<p class="note">{escape(str(error))}</p>'
    shown = "".join(
        _meanings_block(meanings, run.name, name if len(groups) > 1 else "")
        for name, meanings in groups.items()
    )
    rough = ""
    if writer.valid_cer is None or writer.valid_cer > _ROUGH_CER:
        rough = " Its error rate is so high that this says little."
    minutes = next(iter(groups.values())).audio_s / 60
    note = (
        f"{minutes:.1f} minutes of speech, aligned by {writer.name}; a frame belongs "
        f"to the character that is nearest within {1000 * _NEAR_S:.0f} ms, "
        f"{_NO_CHARACTER} is none and \N{OPEN BOX} the space.{rough}"
    )
    return f'{title}<p class="note">{escape(note)}</p>{shown}'


def code_meanings(run: Run, writer: Run) -> dict[str, CodeMeanings]:
    """For each group of codes of each task of `run`, by name: on which characters they fall in what
    `writer` validates on.

    Raises CannotShowError where a model is missing, the recordings are gone or have no transcripts.
    """
    opened = open_pretraining(run)
    checkpoint, waves = open_recogniser(writer)
    if waves.sample_rate != opened.model.config.sample_rate:
        raise CannotShowError(
            f"{run.name} and {writer.name} take speech at different sample rates."
        )
    num_weights = sum(p.numel() for p in checkpoint.model.parameters())
    most_s = _MOST_AUDIO_S / (10 if num_weights > LARGE else 1)
    tallies: dict[str, Counter[tuple[str, int]]] = {}
    sizes = {task.name: task.num_codes for task in opened.tasks}
    audio_s, num_read = 0.0, 0
    for item, utterance in enumerate(waves.utterances):
        if audio_s >= most_s:
            break
        if not (utterance.text and utterance.is_labeled) or utterance.duration_s > most_s:
            continue
        if (wave := read_wave(waves, item)) is None:
            continue
        num_read += 1
        frames = _frame_characters(opened, checkpoint, wave, utterance.text)
        if frames is None:
            continue
        audio_s += utterance.duration_s
        for task, codes in opened.codes(wave).items():  # (T, G)
            for group, column in enumerate(codes.T.tolist()):
                name = f"{task} {group}"
                tallies.setdefault(name, Counter()).update(zip(frames, column, strict=True))
    if not num_read:
        raise gone(writer, waves)
    if not tallies:
        raise CannotShowError(f"No transcript fits into what {writer.name} validates on.")
    return {
        name.replace("_", " "): _meanings(tally, sizes[name.split(" ")[0]], audio_s)
        for name, tally in tallies.items()
    }


def _frame_characters(
    opened: Pretraining, checkpoint: Checkpoint, wave: np.ndarray, text: str
) -> list[str] | None:
    """The character of each frame of the codes; None where the text does not fit the wave."""
    model, tokenizer = checkpoint.require_ctc()
    try:
        alignment = align(log_probs(checkpoint, wave).numpy(), tokenizer.encode(text))
    except ValueError:
        return None
    num_frames = int(opened.inputs(wave).frames)
    times = (np.arange(num_frames) + 0.5) * opened.model.hop_s
    numbers = nearest_tokens(alignment, model.hop_s, times)
    symbols = [tokenizer.symbols[t.id].replace(SPACE, "\N{OPEN BOX}") for t in alignment.tokens]
    return [_NO_CHARACTER if n < 0 else symbols[n] for n in numbers.tolist()]


def nearest_tokens(alignment: Alignment, hop_s: float, times: np.ndarray) -> np.ndarray:
    """(T,) seconds -> (T,) the number of the token that is nearest, -1 where none is near."""
    if not alignment.tokens:
        return np.full(len(times), -1)
    starts = np.array([t.start_frame for t in alignment.tokens]) * hop_s  # (N,)
    ends = np.array([t.end_frame for t in alignment.tokens]) * hop_s
    away = np.maximum(starts - times[:, None], times[:, None] - ends).clip(min=0)  # (T, N)
    return np.where(away.min(1) <= _NEAR_S, away.argmin(1), -1)


def _meanings(tally: Counter[tuple[str, int]], num_codes: int, audio_s: float) -> CodeMeanings:
    totals: Counter[str] = Counter()
    for (character, _), count in tally.items():
        totals[character] += count
    characters = [c for c, _ in sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))]
    counts = np.zeros((len(characters), num_codes))
    rows = {character: row for row, character in enumerate(characters)}
    for (character, code), count in tally.items():
        counts[rows[character], code] = count
    return CodeMeanings(tuple(characters), counts, audio_s)


def _meanings_block(meanings: CodeMeanings, run: str, group: str) -> str:
    known = number_text(meanings.known_share, percent=True)
    hint = (
        f"The code of a frame tells {known} of what there is to know about its character. Each "
        "column is a code, ordered by its commonest character; the stronger the colour, the more."
    )
    title = f"Characters of each code{', ' + group if group else ''}"
    return (
        f'<div class="pair"><figure class="card"><figcaption><h4>{title}</h4><p>{hint}</p>'
        f"</figcaption>{_meanings_map(meanings, run)}</figure>{_meanings_table(meanings)}</div>"
    )


def _meanings_map(meanings: CodeMeanings, run: str) -> str:
    counts = meanings.counts[:_MOST_ROWS]  # (K, V)
    totals = meanings.counts.sum(0)
    used = np.flatnonzero(totals)
    shares = counts[:, used] / totals[used]
    order = np.lexsort((-shares.max(0), shares.argmax(0)))
    shares, used = shares[:, order], used[order]
    columns = [
        f"code {code}: {_in_words(meanings, int(code))}; {int(totals[code])} frames"
        for code in used.tolist()
    ]
    return heat_map(
        np.sqrt(shares),
        title=f"Which characters each code of {run} falls on",
        columns=columns,
        x_ticks=[],
        y_ticks=list(enumerate(meanings.characters[:_MOST_ROWS])),
        x_label=f"{len(used)} codes",
        width=430,
        height=14.0 * len(shares),
    )


def _meanings_table(meanings: CodeMeanings) -> str:
    totals = meanings.counts.sum(0)
    speech = [c != _NO_CHARACTER for c in meanings.characters]
    of_speech = np.array(speech)[meanings.counts.argmax(0)] & (totals > 0)  # (V,)
    commonest = np.argsort(-totals * of_speech, kind="stable")[:_NUM_LISTED]
    shares = totals / totals.sum()
    rows = "".join(
        f'<tr><th scope="row">{code}</th><td>{number_text(shares[code], percent=True)}</td>'
        f"<td>{escape(_in_words(meanings, code))}</td></tr>"
        for code in commonest.tolist()
        if of_speech[code]
    )
    return (
        '<div class="card scroll" tabindex="0"><table class="codes"><caption>The commonest codes '
        "of speech</caption>"
        '<thead><tr><th scope="col">code</th><th scope="col">frames</th>'
        f'<th scope="col">falls on</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _in_words(meanings: CodeMeanings, code: int) -> str:
    """The three commonest characters of a code, with their shares."""
    column = meanings.counts[:, code]
    best = [row for row in np.argsort(-column, kind="stable")[:3].tolist() if column[row]]
    return ", ".join(
        f"{meanings.characters[row]} {100 * column[row] / column.sum():.0f} %" for row in best
    )
