"""Recordings found by a text, and texts by a recording: a model of the task speech_text at work.

Speech and text have vectors of unit length in one space, and what belongs together has a large
cosine. A recording is one vector, the mean over all of its frames: it should be an utterance, or
little more.

Arrays: N recordings, M texts, E width of the space.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from speechssl.audio import AudioError
from speechssl.checkpoint import Checkpoint
from speechssl.config.json import from_json
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.inference.batching import BATCH_S
from speechssl.inference.extract import choose_layers, extract_all
from speechssl.inference.groups import GroupWork, audio_notes, for_each_clip, warn_of
from speechssl.inference.recordings import Clip, find_clips
from speechssl.pretext.pairs import distinct, retrieval
from speechssl.pretext.speech_text import NAME, SpeechTextConfig, SpeechTextTask
from speechssl.spelling import is_blank
from speechssl.text import normalize
from speechssl.workers import Processes

Found = tuple[np.ndarray | AudioError | OSError, list[str]]
"""The vector (E,) of a recording or why there is none, and what is to be said of it."""
MANIFESTS = (".jsonl", ".tsv", ".csv")


@dataclass(frozen=True)
class Recording:
    """Something that is searched for, or in."""

    clip: Clip
    text: str = ""
    """What a manifest says of it."""


def find_recordings(places: Sequence[str]) -> list[Recording]:
    """Files, the recordings of folders, and the utterances of manifests, in the order given.

    Raises FileNotFoundError for what does not exist and ValueError for an empty folder or a
    damaged manifest, before any recording is opened.
    """
    found: list[Recording] = []
    for place in places:
        if Path(place).suffix in MANIFESTS:
            found += [Recording(_clip(u), u.text or "") for u in read_manifest(place)]
        elif place == "-":
            raise ValueError("find reads files, folders and manifests, not standard input.")
        else:
            found += [Recording(clip) for clip in find_clips([place])]
    return found


def _clip(u: Utterance) -> Clip:
    return Clip(u.id, Path(u.audio), u.start_s, u.duration_s)


class SpeechText:
    """The encoders of a model folder for speech and for text."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises ValueError where the model has none."""
        heads = checkpoint.heads_of(NAME)
        if not heads or checkpoint.tokenizer is None:
            raise ValueError(
                f"The model in {checkpoint.folder} has no common space of speech and text: "
                "pretrain it with --tasks masked_units speech_text on a manifest with texts."
            )
        self.checkpoint = checkpoint
        settings = checkpoint.meta["heads"][NAME]
        config = from_json(SpeechTextConfig, settings["config"])
        width = checkpoint.speech.config.context.dim
        self.task = SpeechTextTask(config, width, checkpoint.tokenizer).eval()
        self.task.load_state_dict(heads)
        self.layers = choose_layers(checkpoint, settings["layer"])
        top = checkpoint.speech.config.context
        self._normalised = top.norm_order == "pre" and self.layers.layer != top.num_layers
        """Whether the task saw a lower layer's residual stream, which it normalises."""

    def spelled(self, text: str) -> str:
        """The text as the model's alphabet writes it: as it is, or where that has unknown
        characters in lower case without punctuation. Raises ValueError where nothing is left that
        the model knows."""
        tokenizer = self.task.tokenizer
        forms = (normalize(text, "none"), normalize(text, "basic"))
        kept = min(
            forms, key=lambda form: (is_blank(form), len(tokenizer.unknown_characters(form)))
        )
        unknown = tokenizer.unknown_characters(kept)
        if is_blank(kept) or len(unknown) == len(kept.replace(" ", "")):
            raise ValueError(
                f"The text {text!r} has no character that the model knows: its alphabet is "
                f"{' '.join(tokenizer.symbols[3:])}."
            )
        return kept

    def unknown(self, text: str) -> list[str]:
        """The characters of a text that the model does not know, each once."""
        return list(dict.fromkeys(self.task.tokenizer.unknown_characters(self.spelled(text))))

    @torch.no_grad()
    def of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(M, E) float32 of unit length; errors as in :meth:`spelled`."""
        vectors = [self.task.of_texts([self.spelled(text)]) for text in texts]
        return torch.cat(vectors).numpy()

    @torch.no_grad()
    def of_clips(self, clips: Sequence[Clip]) -> Iterator[np.ndarray | AudioError | OSError]:
        """(E,) float32 of unit length for each clip in its order; the error where it cannot be
        read. Memory does not grow with their length or number."""
        pooling = self.task.speech_pooling
        for parts in extract_all(self.checkpoint, clips, self.layers):
            total, num = torch.zeros(pooling.hidden.out_features), 0
            try:
                for part in parts:
                    frames = torch.from_numpy(part.frames)
                    if self._normalised:
                        frames = F.layer_norm(frames, frames.shape[-1:])
                    total += pooling.evidence(frames).sum(0)
                    num += len(frames)
            except (AudioError, OSError) as error:
                yield error
                continue
            yield F.normalize(pooling.project(total / max(num, 1)), dim=0).numpy()


@dataclass(frozen=True)
class FindGroup:
    """Makes the work of :func:`speechssl.inference.groups.for_each_clip`."""

    def __call__(self, checkpoint: Checkpoint) -> GroupWork[Clip, Found]:
        model = SpeechText(checkpoint)

        def work(clips: tuple[Clip, ...]) -> list[Found]:
            vectors, found = model.of_clips(clips), []
            for _ in clips:
                with audio_notes() as notes:
                    vector = next(vectors)
                found.append((vector, notes))
            return found

        return work


def vectors_of(
    checkpoint: Checkpoint,
    clips: Sequence[Clip],
    *,
    source: str,
    processes: Processes,
    say: Callable[[str], None],
) -> Iterator[np.ndarray | AudioError | OSError]:
    """As :meth:`SpeechText.of_clips`, shared by processes as :func:`for_each_clip` does it."""
    results = for_each_clip(
        clips,
        clips,
        checkpoint,
        FindGroup(),
        source=source,
        processes=processes,
        batch_s=BATCH_S,
        precision="fp32",
        say=say,
    )
    with closing(results):
        for vector, notes in results:
            warn_of(notes)
            yield vector


@dataclass(frozen=True)
class Match:
    """One of the best, by its number among the candidates."""

    number: int
    cosine: float


def best(scores: np.ndarray, top: int) -> list[Match]:
    """The `top` highest of (N,) scores, the highest first; equal ones in their order."""
    order = np.argsort(-scores, kind="stable")[:top]
    return [Match(int(i), float(scores[i])) for i in order]


def accuracy(scores: np.ndarray, labels: Sequence[str], texts: Sequence[str]) -> tuple[int, int]:
    """``(right, judged)``: of the recordings whose text is one of the labels, those for which it
    scores highest. `scores` (N, M), of N texts and M labels."""
    places = {normalize(label, "basic"): number for number, label in enumerate(labels)}
    right = judged = 0
    for row, text in zip(scores, texts, strict=True):
        place = places.get(normalize(text, "basic"))
        if place is not None:
            judged += 1
            right += int(row.argmax()) == place
    return right, judged


def recall_both_ways(
    model: SpeechText, speech: np.ndarray, texts: Sequence[str]
) -> dict[str, float]:
    """As in the validation of the task (:func:`speechssl.pretext.pairs.retrieval`), of N recordings
    (N, E) that each have a text; of several with one text each counts as found."""
    words, places = distinct([normalize(text, "none") for text in texts])
    vectors = torch.from_numpy(model.of_texts(words))
    return retrieval(torch.from_numpy(speech), vectors, torch.tensor(places))
