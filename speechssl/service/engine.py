"""The model at work: requests in threads of their own, the model's time in fair turns.

What is made of a recording is made by :class:`speechssl.inference.transcribe.Transcriber`, as in
``speechssl transcribe``; only its calls of the model wait for their turn and share batches.

Shapes: B batch, S samples, T rows of log-probabilities, V vocabulary.
"""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from speechssl.checkpoint import Checkpoint
from speechssl.decoding.hotwords import Hotwords, as_hotwords, read_hotwords
from speechssl.inference.batching import BATCH_S, InferencePrecision, Unreadable, runs_alone
from speechssl.inference.confidence import calibration_of
from speechssl.inference.decoders import choose_decoder
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import Said, Transcriber, log_probs
from speechssl.inference.transcript import Transcript
from speechssl.interop.sources import open_model
from speechssl.model.speech_model import CTCModel
from speechssl.rng import rng
from speechssl.service.config import ServiceConfig
from speechssl.service.errors import ApiError
from speechssl.service.spool import Spool
from speechssl.service.turns import Ticket, Turns

BATCH_AT_ONCE_S = 30.0
"""Seconds of a batch, padding included: a longest chunk. Whoever comes waits for one of them."""
STREAM_BATCH_S = 3.75
"""Of a request whose text is wanted as it comes: its windows are then about a chunk."""
HEAD_START_S = 60.0
"""A new request's; what is shorter never waits for what is longer."""
MOST_THREADS = 8
"""That compute; each is one core's."""

_MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "meta.json")

OnPart = Callable[[Said], None]


class Engine:
    """An open model, the threads that compute, and the spool."""

    def __init__(self, config: ServiceConfig, checkpoint: Checkpoint | None = None) -> None:
        """Raises as :func:`open_model` and :func:`choose_decoder`."""
        self.config = config
        self.checkpoint = open_model(config.model) if checkpoint is None else checkpoint
        model, _ = self.checkpoint.require_ctc()
        self.opened = _state(self.checkpoint.folder)
        own_weights(model)
        self.decoding = dict(config.decoding)
        self.hotwords, self.notes = _hotwords(self.decoding.pop("hotwords", None))
        """Phrases of every request, and what is to be said when the service begins."""
        self.transcriber = Transcriber(
            self.checkpoint,
            decode=self._decoder({}),
            precision=cast(InferencePrecision, config.precision),
        )
        self.notes += getattr(self.transcriber.decode, "notes", ())
        self.rate = self.transcriber.model.speech.config.sample_rate
        self.spool: Spool
        self.turns: Turns
        self._tickets: set[Ticket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> "Engine":
        model, precision = self.transcriber.model, self.transcriber.precision
        device = next(model.parameters()).device
        cores = torch.get_num_threads()
        alone = runs_alone(model, precision)
        threads = 1 if alone or device.type != "cpu" else min(cores, MOST_THREADS)
        local = threading.local()

        def forward(waves: Sequence[np.ndarray]) -> list[Tensor]:
            if threads > 1 and not hasattr(local, "is_ready"):
                torch.set_num_threads(max(cores // threads, 1))
                local.is_ready = True
            rows, lengths = log_probs(model, waves, precision)
            return [rows[i, : int(n)] for i, n in enumerate(lengths)]

        self.spool = Spool()
        self.turns = Turns(
            forward,
            threads=threads,
            batch_samples=0 if alone else int(BATCH_AT_ONCE_S * self.rate),
            head_start=int(HEAD_START_S * self.rate),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_all()
        self.turns.close()
        self.spool.close()

    @property
    def is_replaced(self) -> bool:
        """Whether the model's folder holds other files than when it was opened."""
        return self.opened != _state(self.checkpoint.folder)

    def stop_all(self) -> None:
        """Stop every request."""
        with self._lock:
            for ticket in self._tickets:
                ticket.stop()
        self.turns.drop_stopped()

    def stop(self, ticket: Ticket) -> None:
        """Stop a request: its thread ends within the chunk that is being computed."""
        ticket.stop()
        self.turns.drop_stopped()

    def transcribe(
        self,
        clip: Clip,
        ticket: Ticket | None = None,
        *,
        hotwords: Hotwords | None = None,
        on_part: OnPart | None = None,
        as_it_comes: bool = False,
        max_audio_s: float | None = None,
    ) -> Transcript:
        """The transcript of a recording; blocks.

        Args:
            clip: the recording; what is said of it names it by ``clip.name``.
            ticket: by which the request can be stopped.
            hotwords: beside those of the service.
            on_part: is told each part as it is known.
            as_it_comes: parts are small.
            max_audio_s: of the recording.

        Hotwords that the model cannot spell are named in the notes. Raises StoppedError, and
        ApiError (400, 413) for a recording that cannot be read or is too long.
        """
        ticket = Ticket() if ticket is None else ticket
        transcriber = self.view(ticket)
        unused = []
        if hotwords:
            try:
                transcriber.decode = self._decoder(hotwords)
            except ValueError as error:  # the model can spell none of them
                unused.append(str(error))
            transcriber.calibration = calibration_of(self.checkpoint, transcriber.decode)
        transcriber.batch_s = STREAM_BATCH_S if as_it_comes else BATCH_S
        most = max_audio_s if max_audio_s is not None else self.config.max_job_audio_s
        with self.registered(ticket):
            for part in transcriber.parts([clip]):
                ticket.check()
                if isinstance(part, Said):
                    if part.end_s > most:
                        raise too_long(most)
                    if on_part is not None:
                        on_part(part)
                    continue
                said = (*unused, *getattr(transcriber.decode, "notes", ()))
                return _result(part, clip, most, said)
        raise AssertionError("a clip has a result")

    def view(self, ticket: Ticket) -> Transcriber:
        """A transcriber whose calls of the model wait for the turn of `ticket`."""
        transcriber = copy.copy(self.transcriber)
        transcriber.model = cast(CTCModel, _Shared(transcriber.model, self.turns, ticket))
        return transcriber

    def warm_up(self) -> None:
        """Compute something, so that what is done once is done before the first request."""
        noise = rng(0, "warm-up").uniform(-0.1, 0.1, self.rate).astype(np.float32)
        self.turns.compute(Ticket(), [noise])

    @contextmanager
    def registered(self, ticket: Ticket) -> Iterator[None]:
        """Within, :meth:`stop_all` stops the ticket too."""
        with self._lock:
            self._tickets.add(ticket)
        try:
            yield
        finally:
            with self._lock:
                self._tickets.discard(ticket)

    def _decoder(self, hotwords: Hotwords) -> Any:
        together = {**self.hotwords, **hotwords}
        return choose_decoder(self.checkpoint, **self.decoding, hotwords=together or None)


def _result(
    part: Transcript | Unreadable, clip: Clip, most: float, said: tuple[str, ...]
) -> Transcript:
    if isinstance(part, Unreadable):
        raise ApiError(400, _named(str(part), clip), code="unreadable_audio", param="file")
    if part.duration_s > most:
        raise too_long(most)
    return replace(part, notes=tuple(_named(note, clip) for note in (*part.notes, *said)))


class _Shared:
    """A request's view of the model: its calls wait for their turn."""

    def __init__(self, model: CTCModel, turns: Turns, ticket: Ticket) -> None:
        self._model, self._turns, self._ticket = model, turns, ticket

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, padded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) and (B,) -> (B, T, V) and (B,), as the model's own."""
        waves = [padded[i, :n].cpu().numpy() for i, n in enumerate(lengths.tolist())]
        rows = self._turns.compute(self._ticket, waves)
        counts = torch.tensor([len(own) for own in rows])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), counts


def too_long(most_s: float) -> ApiError:
    """413, with the limit."""
    return ApiError(
        413,
        f"The recording is longer than the {most_s / 60:g} minutes that are taken: cut it, or send "
        "it to /v1/audio/jobs where that takes longer ones.",
        code="audio_too_long",
        param="file",
    )


def own_weights(model: torch.nn.Module) -> None:
    """Copies of the weights in memory: those of a file's own pages would change with the file."""
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            value.data = value.data.clone()


def _hotwords(given: Any) -> tuple[dict[str, float], list[str]]:
    if given is None:
        return {}, []
    return read_hotwords(Path(given)) if isinstance(given, str | Path) else (as_hotwords(given), [])


def _named(sentence: str, clip: Clip) -> str:
    """A sentence about a recording that does not name a file of the service."""
    return sentence.replace(str(clip.source), clip.name)


def _state(folder: Path | None) -> tuple[tuple[int, int, int] | None, ...]:
    """Size, time and number of the files that a model is made of."""
    found: list[tuple[int, int, int] | None] = []
    for name in _MODEL_FILES if folder else ():
        try:
            status = Path(folder or "", name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)
