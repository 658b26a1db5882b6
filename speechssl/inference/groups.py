"""Many recordings for a model, in groups that processes share.

A group is a batch of clips of about equal length, as their headers state it, so that what is
batched together, and with it every rounding, is the same for any number of processes. So is the
number of threads: the sums of a product are in another order for another number. A single group
gets all cores, several their equal part of them, so that for many it is one thread each.
"""

import contextlib
import hashlib
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
import torch

from speechssl import audio, device, shards, workers
from speechssl.checkpoint import Checkpoint
from speechssl.inference.batching import BATCHES_AHEAD, InferencePrecision, runs_alone
from speechssl.inference.recordings import Clip
from speechssl.inference.shared_weights import shared_weights, with_weights
from speechssl.interop.sources import Hub, SourceOptions, open_model

Item = TypeVar("Item")
Result = TypeVar("Result")
GroupWork = Callable[[tuple[Item, ...]], list[Result]]
"""What is done with the clips of a group: a result for each."""

WORKER_BYTES = 1 << 30
"""Free memory for each process, where their number is not given."""
UNKNOWN_S = 5.0
"""What a recording counts as whose length is not known before it is decoded."""


@dataclass(frozen=True)
class ModelJob(Generic[Item, Result]):
    """How a worker opens the model that this process has open, and begins."""

    modules: ClassVar = ("speechssl.inference.preloaded",)
    source: str
    fingerprint: str
    threads: int
    make: Callable[[Checkpoint], GroupWork[Item, Result]]
    weights: Path | None = None
    """Of :func:`speechssl.inference.shared_weights.shared_weights`."""

    def start(self) -> GroupWork[Item, Result]:
        """Raises ValueError where the model has changed since."""
        torch.set_num_threads(self.threads)
        checkpoint = open_model(self.source, SourceOptions(hub=Hub(offline=True)))
        if fingerprint(checkpoint) != self.fingerprint:
            raise ValueError(f"the model {self.source} has changed since the command began")
        return self.make(_with_weights(checkpoint, self.weights))


def _with_weights(checkpoint: Checkpoint, weights: Path | None) -> Checkpoint:
    if weights is None:
        return checkpoint
    return replace(checkpoint, model=with_weights(checkpoint.model, weights))


def for_each_clip(
    clips: Sequence[Clip],
    items: Sequence[Item],
    checkpoint: Checkpoint,
    make: Callable[[Checkpoint], GroupWork[Item, Result]],
    *,
    source: str,
    processes: workers.Processes,
    batch_s: float,
    precision: InferencePrecision,
    say: Callable[[str], None],
    cluster: workers.Cluster | None = None,
) -> Generator[Result]:
    """A result for each item, in their order.

    Args:
        clips: the recordings.
        items: what `make`'s work is given of each of them.
        checkpoint: the model, open in this process.
        make: gives what a process does with a group; pickled for workers.
        source: where workers open the model, see :func:`open_model`.
        processes: most of them, this one included; ``auto``: one for each core, where that is
            faster. It is one on a GPU, and where a recording is no file.
        batch_s: seconds of sound in a batch.
        precision: of the products, not ``auto``.
        say: gets sentences for the person.
        cluster: its workers do it in place of processes, with the same results.

    Raises ValueError for a `batch_s` that is not above 0 and for a recording that a cluster cannot
    read, and what the work raises.
    """
    if not batch_s > 0:
        raise ValueError(f"batch_s must be above 0 seconds, got {batch_s}.")
    on_cpu = device.pick_device().type == "cpu"
    alone = on_cpu and runs_alone(checkpoint.model, precision)
    places: deque[tuple[int, ...]] = deque()
    groups = _groups(clips, items, batch_s / 4 if alone else batch_s, on_cpu, places)
    cores = torch.get_num_threads()
    first = list(islice(groups, cores))
    threads = max(cores // max(len(first), 1), 1) if on_cpu else cores
    most = 1
    if cluster is None:
        most = _most_processes(processes, cores // threads, on_cpu, clips, say)
    elif not all(map(_is_file, clips)):
        raise ValueError("Standard input is on this machine only: give --cluster files or folders.")
    checked = fingerprint(checkpoint) if most > 1 or cluster else ""
    everything = chain(first, groups)
    torch.set_num_threads(threads)
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, cores)
        weights = None
        if most > 1:
            weights = stack.enter_context(shared_weights(checkpoint.model, precision))
        work = make(_with_weights(checkpoint, weights))
        job = ModelJob(source, checked, threads, make, weights)
        if cluster:
            gpus = 0 if on_cpu else 1
            results = cluster.share(everything, work, job, cpus=threads, gpus=gpus, say=say)
        else:
            at_once = processes != "auto"
            results = workers.share(everything, work, job, processes=most, at_once=at_once, say=say)
        stack.enter_context(contextlib.closing(results))
        yield from _in_order(results, places)
        del work  # Windows removes no file whose pages somebody has


def _in_order(results: Iterator[list[Result]], places: deque[tuple[int, ...]]) -> Iterator[Result]:
    """The results of groups, each of clips with these numbers, in the order of the clips."""
    early: dict[int, Result] = {}
    following = 0
    for found in results:
        early.update(zip(places.popleft(), found, strict=True))
        while following in early:
            yield early.pop(following)
            following += 1


def _groups(
    clips: Sequence[Clip],
    items: Sequence[Item],
    group_s: float,
    on_cpu: bool,
    places: deque[tuple[int, ...]],
) -> Iterator[workers.Group[Item]]:
    """The groups, and in `places` the numbers of the clips of each.

    Clips are sorted by length among those of eight batches, which are together in order where they
    are not for a CPU. The longest go first, so that processes end at about the same time.
    """
    for start, seconds in _windows(clips, group_s * BATCHES_AHEAD):
        for batch in _batches(seconds, group_s) if on_cpu else [np.arange(len(seconds))]:
            members = tuple(start + int(i) for i in batch)
            names = [clips[i].name for i in members]
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            places.append(members)
            yield workers.Group(
                tuple(items[i] for i in members), float(seconds[batch].sum()), names[0] + more
            )


def _batches(seconds: np.ndarray, most_s: float) -> Iterator[np.ndarray]:
    """(N,) seconds of clips -> the numbers of those in each batch, of at most `most_s` with
    padding; a longer one is a batch alone."""
    order = np.argsort(-seconds, kind="stable")
    while len(order):
        size = max(int(most_s / max(seconds[order[0]], 1e-3)), 1)
        yield order[:size]
        order = order[size:]


def _windows(clips: Sequence[Clip], most_s: float) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first clip, (n,) seconds of each) of clips that follow each other."""
    start, seconds = 0, [0.0] * 0
    for number, clip in enumerate(clips):
        seconds.append(_stated_s(clip))
        if sum(seconds) >= most_s or number == len(clips) - 1:
            yield start, np.array(seconds)
            start, seconds = number + 1, []


def _stated_s(clip: Clip) -> float:
    """Seconds of a clip, of a file by its header."""
    if clip.duration_s is not None:
        return clip.duration_s
    if not _is_file(clip):
        return UNKNOWN_S
    try:
        return max(audio.probe(Path(str(clip.source))).duration_s - clip.start_s, 0.0)
    except (ValueError, OSError):  # said where it is read
        return UNKNOWN_S


def _is_file(clip: Clip) -> bool:
    """Whether every process can read it, as often as it likes; so is what is not there."""
    if isinstance(clip.source, bytes | np.ndarray | audio.Piped):
        return False
    file = shards.file_of(Path(clip.source))
    return file.is_file() or not file.exists()


def _most_processes(
    asked: workers.Processes,
    cores: int,
    on_cpu: bool,
    clips: Sequence[Clip],
    say: Callable[[str], None],
) -> int:
    why = "" if on_cpu else "the model is on a GPU"
    if not all(map(_is_file, clips)):
        why = "a recording is no file"
    if why:
        if asked != "auto" and asked > 1:
            say(f"One process does all, as {why}.")
        return 1
    if asked != "auto":
        return asked
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not told by this system
        free = device.memory(torch.device("cpu")).free
        cores = min(cores, max(free // WORKER_BYTES, 1))
    return cores


@contextlib.contextmanager
def audio_notes() -> Iterator[list[str]]:
    """Collects what is warned of recordings, for the process that says it; other warnings are as
    always."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", audio.AudioWarning)
        yield notes
    for each in caught:
        if issubclass(each.category, audio.AudioWarning):
            notes.append(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def warn_of(notes: Sequence[str]) -> None:
    """The notes of :func:`audio_notes`, in the process of the person."""
    for note in notes:
        warnings.warn(note, audio.AudioWarning, stacklevel=2)


def fingerprint(checkpoint: Checkpoint) -> str:
    """Of the first weights of every tensor, heads included: other models have others, and so has
    the same one after an update."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in (*checkpoint.model.state_dict().items(), *checkpoint.heads.items()):
        digest.update(f"{name} {tuple(value.shape)} ".encode())
        digest.update(value.flatten()[:8].float().cpu().numpy().tobytes())
    return digest.hexdigest()
