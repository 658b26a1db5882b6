"""Features of the recordings that tasks ask for, computed once for each whole utterance and kept on
disk beside the cache of decoded waves.

What is kept are the features of a whole utterance, to the last bit as they are computed; a crop has
its part of them. Its first and last windows then hold the samples beside the crop, where features
of the crop alone would see silence, and mean, variance and the range in which pitch is looked for
are those of the utterance. Samples whose voice is changed have features of their own, of what is
played. Nothing depends on whether there is a file: without one the same is computed anew.

Shapes: B batch, S samples, T frames, F width of a feature.
"""

import warnings
from collections import deque
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechssl.data.dataset import Batch, Waves
from speechssl.data.frame_file import FrameFile
from speechssl.data.index import digests
from speechssl.data.wave_cache import WaveCache
from speechssl.device import send
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.features import (
    FEATURE_DIMS,
    FEATURE_VERSIONS,
    HOP_S,
    FeatureName,
    SpeechFeatures,
)
from speechssl.pretext.inputs import Inputs

_LONGEST_S = 60.0
"""Of longer utterances the features of a crop are computed from the crop: all of it takes much
memory, and one mean for many speakers is none."""
_MOST_BYTES = 8 << 30
"""Of the file of one feature: 70 h of log-mel, 140 h of cepstra, 1800 h of prosody. Features of
larger corpora are computed for each batch, from its crops."""


class KeptFeatures:
    """The features of some utterances; a file for each feature, opened when it is asked for."""

    def __init__(
        self, model: SpeechModel, waves: Waves, folder: Path, device: torch.device
    ) -> None:
        """`folder`: of the wave cache."""
        self._model, self._waves, self._device = model, waves, device
        self._folder, self._seconds = folder, waves.lengths_s()
        self._hours = float(self._seconds.sum()) / 3600
        self._files: dict[FeatureName, FrameFile | None] = {}
        self._of_batch: tuple[Batch | None, dict[int, SpeechFeatures]] = (None, {})
        self._is_told = False
        self._on_the_way: deque[tuple[Any, FeatureName, int, np.ndarray, Tensor]] = deque()

    def keeps(self, name: FeatureName) -> bool:
        """Whether this feature is kept: the wave, which costs nothing to compute, is not, nor what
        takes more than 8 GB. A function of the utterances and the model alone."""
        rate = self._model.config.sample_rate / self._model.config.hop_samples
        num_frames = 3600 * self._hours * rate
        return name in FEATURE_VERSIONS and 4 * self._width(name) * num_frames <= _MOST_BYTES

    def of_inputs(self, name: FeatureName, x: Inputs) -> Tensor:
        """(B, T, F) float32 on the device, 0 in the padding: a feature of a micro-batch."""
        if not self.keeps(name):
            return x.speech().features(name)
        self._write_arrived()
        rows = [self._of_row(name, x, row) for row in range(len(x.frames))]  # (T of each, F)
        on_host = all(values.is_cpu for values in rows)
        shape = (len(rows), x.num_frames, self._width(name))
        found = torch.zeros(shape, device="cpu" if on_host else self._device)  # (B, T, F)
        for row, values in enumerate(rows):
            found[row, : len(values)] = values if on_host else send(values, self._device)
        return send(found, self._device)

    def _of_row(self, name: FeatureName, x: Inputs, row: int) -> Tensor:
        """(T of the sample, F): from the file, on the host, or computed, on the device."""
        batch: Batch = x.batch  # type: ignore[assignment]
        item, num = batch.items[row], int(x.frames[row])
        is_crop = bool(batch.cropped[row])
        is_long = is_crop and float(self._seconds[item]) > _LONGEST_S
        if batch.altered[row] or is_long:
            return self._computed(name, x, row, self._played(x, row))[:num]
        first = batch.starts[row] // self._model.config.hop_samples

        def wave() -> np.ndarray:
            return self._waves.cache.get(item) if is_crop else self._played(x, row)

        file = self._file(name)
        if file is not None and (kept := file.get(item, wave)) is not None:
            return torch.from_numpy(np.array(kept[first : first + num]))
        values = self._computed(name, x, row, whole := wave())
        if file is not None:
            self._keep(name, item, whole, values)
        return values[first : first + num]

    def _played(self, x: Inputs, row: int) -> np.ndarray:
        """(S,) float32: the clean sample of a row, without padding."""
        return np.asarray(x.batch.clean[row, : int(x.lengths[row])].numpy())

    def _computed(self, name: FeatureName, x: Inputs, row: int, wave: np.ndarray) -> Tensor:
        """(T, F) of a wave alone, on the device: the same whatever else is in the batch. What
        features have in common is computed once for each row."""
        if self._of_batch[0] is not x.batch:
            self._of_batch = (x.batch, {})  # type: ignore[assignment]
        rows = self._of_batch[1]
        if row not in rows:
            rows[row] = speech_features(self._model, wave, self._device)
        return rows[row].features(name)[0]

    def _keep(self, name: FeatureName, item: int, wave: np.ndarray, values: Tensor) -> None:
        """Write (T, F) to the file; what a GPU still computes when it is there, without waiting."""
        arrived = None
        if values.is_cuda:
            host = torch.empty(values.shape, pin_memory=True)
            values, arrived = host.copy_(values, non_blocking=True), torch.cuda.Event()
            arrived.record()
        self._on_the_way.append((arrived, name, item, wave, values))
        if arrived is None:
            self._write_arrived()

    def _write_arrived(self) -> None:
        while self._on_the_way and ((arrived := self._on_the_way[0][0]) is None or arrived.query()):
            _, name, item, wave, values = self._on_the_way.popleft()
            if (file := self._files[name]) is None:
                continue
            try:
                file.put(item, wave, values.numpy())
            except OSError as error:
                self._files[name] = None
                self._tell(error)

    def _file(self, name: FeatureName) -> FrameFile | None:
        """The file of a feature; None where there is none, and all is computed."""
        if name not in self._files:
            self._files[name] = self._open(name)
        return self._files[name]

    def _open(self, name: FeatureName) -> FrameFile | None:
        cache = self._waves.cache
        lengths = cache.num_samples() if isinstance(cache, WaveCache) else None
        if lengths is None:  # without a file of waves, of which was warned
            return None
        frames = self._model.frame_lengths(torch.from_numpy(lengths)).numpy()
        frames = np.where(lengths > 0, frames, 0)  # (N,)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(frames)])
        facts = self._facts(name)
        digest = blake2b(facts.encode(), digest_size=12)
        digest.update(np.ascontiguousarray(digests(self._waves.utterances)).tobytes())
        digest.update(np.ascontiguousarray(offsets).tobytes())
        path = self._folder / f"features-{name}-{digest.hexdigest()}.f32"
        try:
            return FrameFile(path, offsets, self._width(name), facts)
        except OSError as error:
            self._tell(error)
            return None

    def _facts(self, name: FeatureName) -> str:
        """All that the values depend on, beside the waves. Other versions of torch, and devices,
        give other last digits."""
        config = self._model.config
        return (
            f"{name} {FEATURE_VERSIONS[name]} of {config.sample_rate} Hz, hop "
            f"{config.hop_samples}, torch {torch.__version__}, {self._device.type}"
        )

    def _width(self, name: FeatureName) -> int:
        """F."""
        config = self._model.config
        return FEATURE_DIMS[name] * (config.hop_samples // round(HOP_S * config.sample_rate))

    def _tell(self, error: OSError) -> None:
        if self._is_told:
            return
        self._is_told = True
        warnings.warn(
            f"Features of the recordings are not kept in {self._folder} "
            f"({error.strerror or error}); they are computed in each epoch, which is slower.",
            stacklevel=2,
        )


def speech_features(model: SpeechModel, wave: np.ndarray, device: torch.device) -> SpeechFeatures:
    """The features of one wave (S,) float32."""
    lengths = torch.tensor([len(wave)])
    config = model.config
    return SpeechFeatures(
        send(torch.from_numpy(wave)[None], device),
        send(lengths, device),
        model.frame_lengths(lengths),
        config.hop_samples,
        config.sample_rate,
    )
