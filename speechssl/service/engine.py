"""The model at work."""

import threading
from types import TracebackType

from speechssl.checkpoint import Checkpoint
from speechssl.inference.batching import Unreadable
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import Transcriber
from speechssl.inference.transcript import Transcript
from speechssl.interop.sources import open_model
from speechssl.service.config import ServiceConfig


class Engine:
    """A model that transcribes."""

    def __init__(self, config: ServiceConfig, checkpoint: Checkpoint | None = None) -> None:
        self.config = config
        self.checkpoint = open_model(config.model) if checkpoint is None else checkpoint
        self._transcriber = Transcriber(self.checkpoint)
        self._lock = threading.Lock()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def transcribe(self, clip: Clip) -> Transcript | Unreadable:
        """The transcript of a recording; blocks."""
        with self._lock:
            return next(iter(self._transcriber([clip])))
