"""The utterances of a manifest as recordings for a model: named by their ids."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from speechssl.data.manifest import read_manifest
from speechssl.inference.recordings import Clip


def is_manifest(place: str) -> bool:
    """Whether a place is a manifest of ours, a file of JSON lines."""
    return place.endswith(".jsonl") and Path(place).is_file()


def manifest_clips(place: str) -> list[Clip]:
    """A clip for each utterance, in their order; errors are those of :func:`read_manifest`."""
    return [Clip(u.id, Path(u.audio), u.start_s, u.duration_s) for u in read_manifest(place)]


def named_by_id(clip: Clip) -> Clip:
    """For :func:`speechssl.inference.recordings.output_names`: a clip of a manifest as a file that
    has the utterance's id as its name, so that its result gets it too; others as they are.

    Of an id with slashes, what lies below the folder of the results is kept.
    """
    if clip.duration_s is None:
        return clip
    folder = Path("/manifest").absolute()
    parts = [part for part in PurePosixPath(clip.name.replace("\\", "/")).parts if part != "/"]
    safe = ["_" if part in (".", "..") else part.replace("\0", "_") for part in parts] or ["_"]
    return replace(clip, source=folder.joinpath(*safe[:-1], f"{safe[-1]}.wav"), folder=folder)
