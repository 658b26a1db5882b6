"""From manifest to batches: change the voice, crop, distort, pad. All of it a function of (seed,
epoch, utterance).

Shapes: B batch, S samples.
"""

import copy
import signal
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from multiprocessing import active_children
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from speechssl import shapes
from speechssl.audio import AudioError, file_state, play_at
from speechssl.data.batching import Plan, SharedPlan
from speechssl.data.distortion import DistortionConfig, DistortionPool, distort
from speechssl.data.index import durations_s
from speechssl.data.length_grid import LengthGrid
from speechssl.data.manifest import Utterance
from speechssl.data.voice import VoiceConfig, change_voice
from speechssl.data.wave_cache import WaveCache, read_item
from speechssl.rng import rng
from speechssl.system import preemption_signals, start_method


@dataclass(frozen=True)
class Cut:
    """Which part of a micro-batch a process has, where several share it: what is drawn at random
    is drawn for all of it, so that it is the same however many they are."""

    rows: tuple[int, ...]
    """Places of the part's utterances in the micro-batch."""
    lengths: Tensor
    """(W,) int64 samples of all utterances of the micro-batch."""


@dataclass(frozen=True)
class Batch:
    """Some utterances, padded."""

    index: int
    """The micro-batch's number among those of all processes: the key of its masks and negatives."""
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    """Empty strings where there is no transcript, or a crop holds a part of it."""
    distorted: Tensor
    """(B, S) float32; `clean` itself where nothing is distorted."""
    clean: Tensor
    """(B, S) float32."""
    lengths: Tensor
    """(B,) int64 samples."""
    items: tuple[int, ...] = ()
    """Numbers of the utterances among those of the :class:`Waves`."""
    starts: tuple[int, ...] = ()
    """First sample of each in its utterance: a crop begins on the frame grid of the model."""
    distorted2: Tensor | None = None
    """(B, S) float32: `clean`, distorted another time; None unless it is asked for."""
    weights: tuple[float, ...] = ()
    """Of the transcripts in a CTC loss; empty where all are 1."""
    ipa: tuple[str, ...] = ()
    """As `texts`, the transcripts as phones; empty where none of them is known."""
    altered: tuple[bool, ...] = ()
    """Whether each is played at another speed or pitch than it was recorded at, also in `clean`:
    what was computed of the recording is not what belongs to it."""
    cropped: tuple[bool, ...] = ()
    """Whether each is a part of its utterance."""
    faults: tuple[tuple[str, str], ...] = ()
    """``(id, why)`` of utterances that could not be read; each has another one in its place."""
    cut: Cut | None = None
    """The part that this is of a micro-batch; None: the whole of it."""

    @property
    def num_samples(self) -> int:
        """Valid samples, without the padding."""
        return int(self.lengths.sum())


class FaultyDataError(ValueError):
    """Too many utterances cannot be read."""


@dataclass(frozen=True)
class Waves:
    """The sound of some utterances, from a cache or decoded when it is asked for."""

    utterances: Sequence[Utterance]
    cache: "WaveCache | Decoder"
    sample_rate: int

    @classmethod
    def open(
        cls,
        utterances: Sequence[Utterance],
        cache_dir: str | Path | None,
        sample_rate: int,
        progress: bool,
        *,
        keep: bool = False,
        max_fault_share: float = 0.0,
    ) -> "Waves":
        """Decode every utterance into the cache, or find it there; `cache_dir` None: no cache.

        `keep`: what is there stays although recordings have changed since. Raises FaultyDataError
        where more than `max_fault_share` of the utterances cannot be read.
        """
        if cache_dir is None:
            return cls(utterances, Decoder(utterances, sample_rate), sample_rate)
        items = [(u.audio, u.start_s, u.duration_s) for u in utterances]
        cache = WaveCache.build(cache_dir, items, sample_rate, progress=progress, keep=keep)
        waves = cls(utterances, cache, sample_rate)
        check_faults(waves.faults(), len(utterances), max_fault_share)
        return waves

    def faults(self) -> dict[str, str]:
        """Ids of the utterances that could not be read when the cache was made, and why."""
        return {self.utterances[i].id: reason for i, reason in self.cache.faults.items()}

    def wave(self, item: int) -> np.ndarray:
        """(S,) float32 of utterance `item`; where it cannot be read, of the next one that can."""
        for other in (*range(item, len(self.utterances)), *range(item)):
            try:
                return self.cache.get(other)
            except (AudioError, OSError):
                continue
        raise FaultyDataError("None of the utterances can be read.")

    def lengths_s(self) -> np.ndarray:
        """(N,) seconds."""
        return durations_s(self.utterances)


class Decoder:
    """In place of a cache: each utterance is decoded whenever it is asked for, and opening costs
    nothing, however many there are.

    What was first decoded is what goes on being used: a recording of another size or time of change
    than it had then is refused. Worker processes that are forked share what they have seen; a copy
    that is pickled begins anew.
    """

    faults: Mapping[int, str] = MappingProxyType({})
    """None are known before they are decoded."""

    def __init__(self, utterances: Sequence[Utterance], sample_rate: int) -> None:
        self.utterances, self.sample_rate = utterances, sample_rate
        memory = mmap(-1, 16 * max(len(utterances), 1))  # zeros that take no room until written to
        self._seen = np.frombuffer(memory, np.int64).reshape(-1, 2)
        """(N, 2): bytes + 1 and time of change (ns) when it was first decoded; zeros: never."""

    def __len__(self) -> int:
        return len(self.utterances)

    def get(self, index: int) -> np.ndarray:
        """The wave (S,) float32 of utterance `index`; errors as in :func:`read_item`, and
        AudioError where the recording has changed since it was first decoded."""
        u = self.utterances[index]
        if (state := file_state(u.audio)) is not None:
            now = (state[0] + 1, state[1])
            if not self._seen[index, 0]:
                self._seen[index] = now
            elif tuple(self._seen[index].tolist()) != now:
                raise AudioError(f"{u.audio} has changed since it was first decoded.")
        return read_item((u.audio, u.start_s, u.duration_s), self.sample_rate)

    def __reduce__(self) -> tuple[type["Decoder"], tuple[Sequence[Utterance], int]]:
        return Decoder, (self.utterances, self.sample_rate)


def check_faults(faults: Mapping[str, str], num_utterances: int, most_share: float) -> None:
    """FaultyDataError where `faults` (id -> why) are more than this share of the utterances."""
    if len(faults) <= most_share * num_utterances:
        return
    name, reason = next(iter(faults.items()))
    raise FaultyDataError(
        f"{len(faults)} of {num_utterances} utterances cannot be read, more than the share of "
        f"{most_share:g} that loop.max_fault_share allows; the first is {name} ({reason})"
    )


class PlannedBatches(Dataset[Batch]):
    """This process's batch k of a run, for any k: what a loader's worker makes.

    An utterance that cannot be read any more is replaced by another one of about its length, a
    function of (seed, epoch, utterance) like everything else.
    """

    def __init__(
        self,
        waves: Waves,
        plan: Plan,
        *,
        seed: int,
        max_crop_s: float | None = None,
        hop_samples: int = 1,
        speeds: Sequence[float] = (1.0,),
        voice: VoiceConfig | None = None,
        distortion: DistortionConfig | None = None,
        pool: DistortionPool | None = None,
        twice: bool = False,
        grid: LengthGrid | None = None,
    ) -> None:
        """
        Args:
            waves, plan: what there is, and which of it is in which batch.
            seed: of the run.
            max_crop_s: longer samples are cropped to this.
            hop_samples: crops begin at its multiples, so that frames of a crop are frames of the
                whole utterance.
            speeds: each utterance is played at one of them.
            voice: a change of voice of whole samples, which the clean wave has too.
            distortion, pool: what is done to the distorted wave alone.
            twice: each wave is distorted a second time, independently.
            grid: lengths to which batches are padded; None: to the longest of each.
        """
        self.waves, self.plan, self.seed, self.speeds = waves, plan, seed, speeds
        self.hop_samples, self.voice = hop_samples, voice
        self.max_crop = round(max_crop_s * waves.sample_rate) if max_crop_s else None
        self.distortion, self.pool, self.twice = distortion, pool, twice
        self.grid = grid

    def __getitem__(self, index: int) -> Batch:
        planned = self.plan.at(index)
        epoch, rows = planned.pass_number, planned.rows
        faults: list[tuple[str, str]] = []
        read = [
            self._read(epoch, i, faults if rows is None or row in rows else [])
            for row, i in enumerate(planned.members.tolist())
        ]
        members = [item for item, _ in read]
        played = [self._play(wave, epoch, i) for i, wave in read]
        starts = [self._crop_start(len(w), epoch, i) for w, i in zip(played, members, strict=True)]
        clean = [w[start:][: self.max_crop] for w, start in zip(played, starts, strict=True)]
        cut = None
        if rows is not None:
            cut = Cut(rows, torch.tensor([len(wave) for wave in clean]))
            read, played = [read[row] for row in rows], [played[row] for row in rows]
            members, starts = [members[row] for row in rows], [starts[row] for row in rows]
            clean = [clean[row] for row in rows]
        padded, lengths = self._pad(clean)
        distorted, again = padded, None
        if self.distortion is not None:
            both = list(zip(clean, members, strict=True))
            distorted, _ = self._pad([self._distort(w, epoch, i) for w, i in both])
            if self.twice:
                again, _ = self._pad([self._distort(w, epoch, i, "distortion 2") for w, i in both])
        chosen = [self.waves.utterances[i] for i in members]
        whole = [len(w) == len(p) for w, p in zip(clean, played, strict=True)]
        weights = tuple(u.weight for u in chosen)
        ipa = tuple((u.ipa or "") * is_whole for u, is_whole in zip(chosen, whole, strict=True))
        return Batch(
            index=planned.number,
            ids=tuple(u.id for u in chosen),
            texts=tuple(
                u.text if u.text and u.is_labeled and is_whole else ""
                for u, is_whole in zip(chosen, whole, strict=True)
            ),
            distorted=distorted,
            distorted2=again,
            clean=padded,
            lengths=lengths,
            items=tuple(members),
            starts=tuple(starts),
            weights=weights if any(weight != 1 for weight in weights) else (),
            ipa=ipa if any(ipa) else (),
            cropped=tuple(not is_whole for is_whole in whole),
            altered=tuple(w is not wave for w, (_, wave) in zip(played, read, strict=True)),
            faults=tuple(faults),
            cut=cut,
        )

    def _pad(self, waves: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """(B, S), zero behind each end, and (B,) lengths."""
        longest = max(map(len, waves), default=0)
        least = self.grid.fitting(longest, len(waves)) if self.grid and waves else 0
        return shapes.pad_waves(waves, least)

    def accumulating(self, accumulate: int) -> "PlannedBatches":
        """The same with another number of micro-batches for an update."""
        assert not isinstance(self.plan, SharedPlan)
        other = copy.copy(self)
        other.plan = self.plan.accumulating(accumulate)
        return other

    def shared(self, rank: int, world: int) -> "PlannedBatches":
        """What one of several processes takes of these batches of a single one."""
        assert not isinstance(self.plan, SharedPlan)
        other = copy.copy(self)
        other.plan = SharedPlan(self.plan, rank, world)
        return other

    def _read(self, epoch: int, item: int, faults: list[tuple[str, str]]) -> tuple[int, np.ndarray]:
        """An utterance and its wave (S,), or another one's where it cannot be read."""
        candidate, others = item, None
        while True:
            try:
                return candidate, self.waves.cache.get(candidate)
            except (AudioError, OSError) as error:
                faults.append((self.waves.utterances[candidate].id, str(error)))
            if others is None:
                others = self.plan.replacements(item, rng(self.seed, "stand-in", epoch, item))
            try:
                candidate = next(others)
            except StopIteration:
                raise FaultyDataError("None of the utterances can be read.") from None

    def _play(self, wave: np.ndarray, epoch: int, item: int) -> np.ndarray:
        """The utterance at one of the speeds and in a voice that are drawn anew in each epoch of
        the data; `wave` itself where both are those of the recording."""
        speed = self.speeds[int(rng(self.seed, "speed", epoch, item).integers(len(self.speeds)))]
        if speed != 1:
            wave = play_at(wave, speed)
        if self.voice is None:
            return wave
        return change_voice(wave, self.waves.sample_rate, self.voice, self.seed, epoch, item)

    def _crop_start(self, num_samples: int, epoch: int, item: int) -> int:
        """The first sample of a crop of an utterance, drawn anew in each epoch."""
        if self.max_crop is None or num_samples <= self.max_crop:
            return 0
        generator = rng(self.seed, "crop", epoch, item)
        start = int(generator.integers(num_samples - self.max_crop + 1))
        return start - start % self.hop_samples

    def _distort(
        self, wave: np.ndarray, epoch: int, item: int, purpose: str = "distortion"
    ) -> np.ndarray:
        assert self.distortion is not None
        generator = rng(self.seed, purpose, epoch, item)
        return distort(wave, self.waves.sample_rate, self.distortion, generator, self.pool)


def load_batches(
    dataset: PlannedBatches, first: int, last: int, *, num_workers: int
) -> Generator[Batch]:
    """Batches `first` to `last` - 1 in order, made ahead by `num_workers` processes (0: in this
    one), which end with the generator."""
    context = start_method() if num_workers else None
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first, last),
        num_workers=num_workers,
        multiprocessing_context=context,
        prefetch_factor=4 if num_workers else None,
        worker_init_fn=_begin_worker if num_workers else None,
    )
    others = active_children()
    batches = iter(loader)
    workers = [process for process in active_children() if process not in others]
    try:
        yield from batches
    finally:
        del batches
        for worker in workers:  # one that was too busy to be told is deaf to SIGTERM
            worker.kill()
            worker.join()


def _begin_worker(_worker: int) -> None:
    """One thread, so that the cores are the training step's, and no signals: the main process
    decides what a stop means, and ends its workers itself."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, *preemption_signals()):
        signal.signal(number, signal.SIG_IGN)
