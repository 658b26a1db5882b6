"""Pack transcribed clips of many languages into the rehearsal pack (`speechssl.data.rehearsal`).

    python recipes/seed/pack_rehearsal.py data/*.jsonl --out speechssl/seed/rehearsal --minutes 45

Each line of a manifest must say `language` and `source` beside the usual fields, and `licence`, or
the summary.json beside the manifest says it of each source. Only clips are taken whose licence asks
for nothing or for the authors' names; what is left out is counted by its licence. The choice is a
function of the manifests and the seed: the minutes are shared among languages by their hours to the
power of --temperature, and within a language speakers take turns.
"""

import argparse
import json
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechssl import audio
from speechssl.data import rehearsal
from speechssl.data.manifest import Utterance, parse_line, write_manifest
from speechssl.files import sha256, writing
from speechssl.rng import rng

RATE = 16_000
GAP_S = 0.2
"""Silence between two clips of a file, so that the coding of one does not reach into the next."""
MOST_PEAK = 0.5
"""Of a clip, so that what the coding adds, up to 1.7 times the peak, stays within full scale."""
LICENCES = (
    "CC0",
    "CC-BY",
    "public domain",
    "Unlicense",
    "MIT",
    "Apache-2.0",
)
"""They allow the clips to be handed on inside a package of another licence, with a statement."""
MOST_KBPS, LEAST_KBPS = 24.0, 10.0
"""Bit rates of Opus that are asked for; speech below the least one is hardly understood."""


@dataclass(frozen=True)
class Clip:
    """A transcribed utterance and what is known of where it is from."""

    utterance: Utterance
    language: str
    source: str
    licence: str
    terms: str = ""
    """What the licence asks for, in the words of `data_prep/open_speech`: free, notice or alike;
    '': not said."""
    attribution: str = ""
    """Whom it asks to be named."""

    @property
    def speaker(self) -> str:
        """Of all sources; clips without a speaker are of one each source."""
        return f"{self.source}/{self.utterance.speaker or ''}"


def read_clips(paths: Iterable[Path]) -> list[Clip]:
    """The transcribed utterances of manifests.

    Raises ValueError naming the line that does not say its language, source or licence.
    """
    clips = []
    for path in paths:
        sources = _sources(path.with_name("summary.json"))
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                utterance = parse_line(line, where, str(path.parent.resolve()))
                if not utterance.is_labeled:
                    continue
                fields = json.loads(line)
                own = sources.get(str(fields.get("source")), {})
                clips.append(Clip(utterance, *_facts({**own, **fields}, where)))
    return clips


def _sources(path: Path) -> dict[str, dict[str, Any]]:
    """Licence, terms and attribution of each source, from the summary beside a manifest; none where
    it has none."""
    try:
        sources = json.loads(path.read_text(encoding="utf-8"))["sources"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    names = ("licence", "terms", "attribution")
    return {k: {n: v[n] for n in names if n in v} for k, v in dict(sources).items()}


def _facts(fields: dict[str, Any], where: str) -> list[str]:
    """Language, source, licence, terms and attribution of a line."""
    found = []
    for names in (("language",), ("source",), ("licence", "license")):
        value = next((fields[name] for name in names if fields.get(name)), None)
        if not isinstance(value, str):
            raise ValueError(
                f"{where}: {names[0]} must say in a string what it is (or the summary.json beside "
                "the manifest); it is stated of every clip in the pack."
            )
        found.append(value)
    return [*found, str(fields.get("terms") or ""), str(fields.get("attribution") or "")]


def is_allowed(licence: str, allowed: Sequence[str]) -> bool:
    """Whether a licence is one of these, in any version: ``CC-BY`` allows ``CC BY 4.0``, and not
    ``CC-BY-SA`` or ``CC-BY-NC``."""

    def words(name: str) -> list[str]:
        return name.lower().replace("-", " ").replace("_", " ").split()

    own = words(licence)
    for one in map(words, allowed):
        rest = own[len(one) :]
        if own[: len(one)] == one and all(part.replace(".", "").isdigit() for part in rest):
            return True
    return False


def may_be_packed(clip: Clip, terms: Sequence[str], licences: Sequence[str]) -> bool:
    """Whether a clip's licence lets it be handed on inside a package of another one."""
    return clip.terms in terms if clip.terms else is_allowed(clip.licence, licences)


def choose(
    clips: Sequence[Clip], *, minutes: float, temperature: float, shortest_s: float,
    longest_s: float, seed: int,
) -> list[Clip]:  # fmt: skip
    """About `minutes` of clips of all languages; a function of the clips and the seed."""
    by_language = defaultdict(list)
    for clip in clips:
        if shortest_s <= clip.utterance.duration_s <= longest_s:
            by_language[clip.language].append(clip)
    if not by_language:
        raise ValueError(
            f"No transcribed clip of {shortest_s:g} to {longest_s:g} s has a licence that allows "
            "it to be packed: look at --licences, --shortest and --longest."
        )
    names = sorted(by_language)
    there = np.array([sum(c.utterance.duration_s for c in by_language[name]) for name in names])
    quotas = share_out(60 * minutes, there, temperature)
    chosen: list[Clip] = []
    for name, quota in zip(names, quotas.tolist(), strict=True):
        spent = 0.0
        for clip in in_turn(by_language[name], seed):
            if spent >= quota - 1e-6:
                break
            chosen.append(clip)
            spent += clip.utterance.duration_s
    return chosen


def share_out(total: float, there: np.ndarray, temperature: float) -> np.ndarray:
    """(L,) of `total` for each of L languages of which (L,) is there: in proportion to that to the
    power of the temperature, and none more than it has; the others then have more."""
    quotas = np.zeros(len(there))
    is_open = np.ones(len(there), bool)
    while is_open.any() and (rest := total - quotas[~is_open].sum()) > 1e-9:
        weights = np.where(is_open, there**temperature, 0.0)
        quotas = np.where(is_open, rest * weights / weights.sum(), quotas)
        full = is_open & (quotas >= there)
        if not full.any():
            break
        quotas[full] = there[full]
        is_open &= ~full
    return np.minimum(quotas, there)


def in_turn(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """All clips of a language, one of each speaker after the other, in random order."""
    by_speaker = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: (clip.source, clip.utterance.id)):
        by_speaker[clip.speaker].append(clip)
    names = sorted(by_speaker)
    turns: list[list[Clip]] = []
    for place in rng(seed, "speakers", clips[0].language).permutation(len(names)).tolist():
        own = by_speaker[names[place]]
        for turn, i in enumerate(rng(seed, "clips", names[place]).permutation(len(own)).tolist()):
            turns += [[]] if turn == len(turns) else []
            turns[turn].append(own[i])
    return [clip for turn in turns for clip in turn]


def compression_level(kbps: float) -> float:
    """What libsndfile asks for to code one channel with so many kbit/s."""
    return min(max(1 - (kbps - 6) / 250, 0.0), 1.0)


def write_pack(clips: Sequence[Clip], out: Path, *, kbps: float, most_bytes: int) -> int:
    """Write the pack of these clips; its bytes.

    Raises ValueError where something else lies in `out`, or where the pack is larger than
    `most_bytes`; then nothing is left behind.
    """
    if out.exists() and not (out / rehearsal.INDEX).exists() and any(out.iterdir()):
        raise ValueError(f"{out} holds something else than a rehearsal pack: name another folder.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    packed, notes = [], []
    by_language = defaultdict(list)
    for clip in clips:
        by_language[clip.language].append(clip)
    for language in sorted(by_language):
        for utterance, clip in _write_language(language, by_language[language], out, kbps):
            packed.append(utterance)
            facts = {"language": clip.language, "source": clip.source, "licence": clip.licence}
            notes.append(facts | {"origin": clip.utterance.id})
    write_manifest(out / rehearsal.MANIFEST, packed, notes=notes)
    with writing(out / rehearsal.LICENCES) as file:
        file.write(licences_page(clips))
    names = sorted(path.name for path in out.iterdir())
    about = {
        "version": rehearsal.FORMAT_VERSION,
        "clips": len(packed),
        "minutes": round(sum(u.duration_s for u in packed) / 60, 2),
        "kbit_per_s": round(kbps, 1),
        "sha256": {name: sha256(out / name) for name in names},
    }
    with writing(out / rehearsal.INDEX) as file:
        file.write(json.dumps(about, indent=1) + "\n")
    num_bytes = sum(path.stat().st_size for path in out.iterdir())
    if num_bytes > most_bytes:
        shutil.rmtree(out)
        raise ValueError(
            f"The pack would have {num_bytes / 1e6:.2f} MB, more than {most_bytes / 1e6:g}: ask "
            "for fewer --minutes."
        )
    rehearsal.check_pack(out)
    return num_bytes


def _write_language(
    language: str, clips: Sequence[Clip], out: Path, kbps: float
) -> list[tuple[Utterance, Clip]]:
    """One Ogg Opus file with all clips of a language, and where each lies in it."""
    path = out / f"{language}.opus"
    found, place = [], 0
    with soundfile.SoundFile(
        path, "w", RATE, 1, "OPUS", format="OGG", compression_level=compression_level(kbps)
    ) as file:
        for number, clip in enumerate(clips):
            own = clip.utterance
            wave = audio.read(
                own.audio, start_s=own.start_s, duration_s=own.duration_s, sample_rate=RATE
            )
            file.write(wave * np.float32(MOST_PEAK / max(float(np.abs(wave).max()), MOST_PEAK)))
            file.write(np.zeros(round(GAP_S * RATE), np.float32))
            packed = replace(
                own,
                id=f"{language}_{number:04d}",
                audio=path.resolve(),
                start_s=place / RATE,
                duration_s=len(wave) / RATE,
                sample_rate=RATE,
            )
            found.append((packed, clip))
            place += len(wave) + round(GAP_S * RATE)
    return found


def licences_page(clips: Sequence[Clip]) -> str:
    """A table of what is packed, by language and source."""
    rows = defaultdict(list)
    for clip in clips:
        rows[clip.language, clip.source, clip.licence].append(clip)
    lines = [
        "# The rehearsal pack",
        "",
        "Transcribed clips of openly licensed speech, cut and coded as Opus, otherwise unchanged. "
        "Each source keeps its own licence, which is not that of speechssl.",
        "",
        "| language | source | licence | speakers | minutes |",
        "|---|---|---|---|---|",
    ]
    for (language, source, licence), own in sorted(rows.items()):
        minutes = sum(clip.utterance.duration_s for clip in own) / 60
        speakers = len({clip.speaker for clip in own})
        lines.append(f"| {language} | {source} | {licence} | {speakers} | {minutes:.1f} |")
    if named := sorted({(clip.source, clip.attribution) for clip in clips if clip.attribution}):
        lines += ["", "As their licences ask:", ""]
        lines += [f"- {source}: {attribution}" for source, attribution in named]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 2 where what was given is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=45.0, help="default %(default)s")
    parser.add_argument("--most-mb", type=float, default=rehearsal.MOST_BYTES / 1e6)
    parser.add_argument("--kbps", type=float, help="default: what fits, at most 24")
    parser.add_argument("--temperature", type=float, default=0.3, help="default %(default)s")
    parser.add_argument("--shortest", type=float, default=1.0, metavar="S", help="seconds")
    parser.add_argument("--longest", type=float, default=12.0, metavar="S", help="seconds")
    parser.add_argument(
        "--terms", nargs="+", default=("free", "notice"), help="default: %(default)s"
    )
    parser.add_argument(
        "--licences", nargs="+", default=LICENCES, metavar="NAME", help="where no terms are said"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        clips = read_clips(args.manifests)
        allowed = [clip for clip in clips if may_be_packed(clip, args.terms, args.licences)]
        left = Counter(clip.licence for clip in clips) - Counter(c.licence for c in allowed)
        for licence, num in left.most_common():
            print(f"Left out: {num} clips under {licence}.", file=sys.stderr)
        chosen = choose(
            allowed,
            minutes=args.minutes,
            temperature=args.temperature,
            shortest_s=args.shortest,
            longest_s=args.longest,
            seed=args.seed,
        )
        num = write_pack(
            chosen,
            args.out,
            kbps=args.kbps or fitting_kbps(chosen, args.most_mb),
            most_bytes=round(1e6 * args.most_mb),
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    languages = len({clip.language for clip in chosen})
    minutes = sum(clip.utterance.duration_s for clip in chosen) / 60
    many = f"{languages} language{'s' if languages > 1 else ''}"
    print(f"{len(chosen)} clips, {minutes:.1f} min, {many}, {num / 1e6:.2f} MB.")
    return 0


def fitting_kbps(clips: Sequence[Clip], most_mb: float) -> float:
    """The bit rate with which the clips fit; ValueError where it would be too low for speech."""
    seconds = sum(clip.utterance.duration_s + GAP_S for clip in clips)
    kbps = 0.92 * 8e3 * most_mb / seconds  # the rest is for the manifest and Ogg's pages
    if kbps < LEAST_KBPS:
        raise ValueError(
            f"{seconds / 60:.0f} minutes fit into {most_mb:g} MB with {kbps:.1f} kbit/s only, too "
            f"little for speech: ask for at most {seconds / 60 * kbps / LEAST_KBPS:.0f} --minutes."
        )
    return min(kbps, MOST_KBPS)


if __name__ == "__main__":
    sys.exit(main())
