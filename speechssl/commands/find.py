"""``speechssl find``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechssl.commands.exits import exit_code_of, tell
from speechssl.commands.options import MODEL, add_file_processes, expect_processes

if TYPE_CHECKING:
    import numpy as np

    from speechssl.inference.search import Recording, SpeechText

SUMMARY = (
    "Recordings found by a text (a transcript or a translation), or texts by a recording, with a "
    "model that was pretrained with the task speech_text."
)
EXAMPLE = 'speechssl find runs/pretrain recordings/ --text "he beats his friend"'


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "audio",
        nargs="+",
        metavar="AUDIO|DIR|MANIFEST",
        help="recordings, of about an utterance each; of a manifest each utterance is one",
    )
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument(
        "--text", nargs="+", metavar="TEXT", help="list the recordings that fit each text best"
    )
    wanted.add_argument(
        "--labels",
        nargs="+",
        metavar="TEXT",
        help="say of each recording which of these texts fits best, and where a manifest has "
        "texts, of how many that is right",
    )
    wanted.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="list the texts of a file, one a line, that fit each recording best",
    )
    wanted.add_argument(
        "--recall",
        action="store_true",
        help="of manifests with texts: how often the right one is among the 1, 5 and 10 best, both "
        "ways, and by chance",
    )
    parser.add_argument(
        "--top", type=_count, default=10, metavar="N", help="how many are listed (default 10)"
    )
    add_file_processes(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    expect_processes(args)
    from speechssl.inference.search import SpeechText, find_recordings
    from speechssl.interop.sources import open_model

    recordings = find_recordings(args.audio)
    model = SpeechText(open_model(args.model))
    texts = _candidates(args)
    if args.recall:
        if not any(r.text for r in recordings):
            raise ValueError("--recall needs manifests with texts, and none of these has any.")
        recordings = [r for r in recordings if r.text]
    for text in texts:
        if unknown := model.unknown(text):
            listed = " ".join(unknown)
            print(f"speechssl: {text!r} has unknown characters: {listed}", file=sys.stderr)
    text_vectors = model.of_texts(texts) if texts else None
    kept, speech, failed = _vectors(args, model, recordings)
    if kept:
        if args.recall:
            _recall(model, kept, speech)
        else:
            assert text_vectors is not None
            scores = speech @ text_vectors.T  # (N, M)
            if args.text:
                _by_text(args, texts, kept, scores)
            else:
                _by_recording(args, texts, kept, scores)
    return exit_code_of(failed, len(recordings))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, got {text!r}.")
    return int(text)


def _candidates(args: argparse.Namespace) -> list[str]:
    """The texts that are asked for or chosen from."""
    if args.texts is None:
        return list(args.text or args.labels or ())
    path: Path = args.texts
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    texts = list(dict.fromkeys(line for line in lines if line))
    if not texts:
        raise ValueError(f"{path} holds no text.")
    return texts


def _vectors(
    args: argparse.Namespace, model: "SpeechText", recordings: "list[Recording]"
) -> "tuple[list[Recording], np.ndarray, int]":
    """The recordings that can be read, (N, E) their vectors, and how many cannot."""
    import numpy as np

    from speechssl.inference.search import vectors_of

    kept, vectors = [], []
    clips = [recording.clip for recording in recordings]
    found = vectors_of(
        model.checkpoint, clips, source=args.model, processes=args.processes, say=tell
    )
    for recording, vector in zip(recordings, found, strict=True):
        if isinstance(vector, Exception):
            print(f"speechssl: {vector}", file=sys.stderr)
            continue
        kept.append(recording)
        vectors.append(vector)
    return kept, np.array(vectors), len(recordings) - len(kept)


def _by_text(
    args: argparse.Namespace, texts: list[str], kept: "list[Recording]", scores: "np.ndarray"
) -> None:
    from speechssl.inference.search import best

    for text, column in zip(texts, scores.T, strict=True):
        found = [(kept[m.number].clip.name, m.cosine) for m in best(column, args.top)]
        _print(args, {"text": text}, "recordings", found)


def _by_recording(
    args: argparse.Namespace, texts: list[str], kept: "list[Recording]", scores: "np.ndarray"
) -> None:
    from speechssl.inference.search import accuracy, best

    top = 1 if args.labels else args.top
    for recording, row in zip(kept, scores, strict=True):
        found = [(texts[m.number], m.cosine) for m in best(row, top)]
        _print(args, {"recording": recording.clip.name}, "texts", found)
    if args.labels:
        right, judged = accuracy(scores, texts, [recording.text for recording in kept])
        if judged:
            print(
                f"{right} of {judged} recordings got their own text: {right / judged:.1%} (chance "
                f"{1 / len(texts):.1%}).",
                file=sys.stderr if args.json else sys.stdout,
            )


def _recall(model: "SpeechText", kept: "list[Recording]", speech: "np.ndarray") -> None:
    from speechssl.inference.search import recall_both_ways

    found = recall_both_ways(model, speech, [recording.text for recording in kept])
    print(f"{len(kept)} recordings with texts; in brackets: chance.")
    for way, title in (("find_speech", "recording by text"), ("find_text", "text by recording")):
        shown = [
            f"{found[f'{way}_at_{k}']:.1%} at {k} ({found[f'{way}_at_{k}_chance']:.1%})"
            for k in (1, 5, 10)
        ]
        print(f"  {title:<18}{', '.join(shown)}")


def _print(
    args: argparse.Namespace, asked: dict[str, Any], what: str, found: list[tuple[str, float]]
) -> None:
    if args.json:
        import json

        listed = [{what[:-1]: name, "cosine": round(cosine, 4)} for name, cosine in found]
        print(json.dumps({**asked, what: listed}, ensure_ascii=False))
        return
    (given,) = asked.values()
    if len(found) == 1:
        print(f"{given}: {found[0][0]} ({found[0][1]:.3f})")
        return
    print(given)
    for number, (name, cosine) in enumerate(found, 1):
        print(f"  {number:>3}  {cosine:6.3f}  {name}")
