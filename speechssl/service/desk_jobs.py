"""What takes its time for the page: uploads into the desk, and transcriptions of its recordings."""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from speechssl.audio import AudioError
from speechssl.desk import corrections
from speechssl.desk.labels import audio_digest
from speechssl.inference.done import model_digest
from speechssl.inference.transcript import Transcript
from speechssl.service.config import ServiceConfig
from speechssl.service.desk_index import DeskIndex, Entry
from speechssl.service.desk_texts import from_transcript
from speechssl.service.engine import Engine
from speechssl.service.errors import ApiError
from speechssl.service.turns import StoppedError
from speechssl.service.upload import timed_body, too_large

Transcribe = Callable[[Path, Callable[[float], None]], Transcript]
"""Blocks; is told the share that is done; raises ValueError with a sentence."""


async def receive(request: Request, name: str, index: DeskIndex, config: ServiceConfig) -> Entry:
    """The body of a request as a new recording of the desk; ApiError where it is too large (413),
    too slow (408) or no sound (422). Nothing is left of what was not taken."""
    most = int(config.max_upload_mb * 1e6)
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > most:
        raise too_large(most)
    with tempfile.SpooledTemporaryFile(max_size=1 << 24) as spool:
        async for data in timed_body(request, config, most):
            await run_in_threadpool(spool.write, data)
        spool.seek(0)
        try:
            return await run_in_threadpool(index.add, name, spool)
        except AudioError as error:
            raise ApiError(422, str(error), code="no_sound", param="body") from error


class Transcriptions:
    """Transcribes recordings of the desk that have no text, one after the other."""

    def __init__(self, index: DeskIndex, engine: Engine, transcribe: Transcribe) -> None:
        self.index, self.engine, self.transcribe = index, engine, transcribe
        self._states: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._digest = ""

    def start(self, entry: Entry) -> dict[str, Any]:
        """Begin, unless it is being done already; gives the state."""
        with self._lock:
            state = self._states.get(entry.id)
            if state is None or state["state"] != "running":
                self._states[entry.id] = state = _state("running")
                threading.Thread(target=self._work, args=(entry,), daemon=True).start()
            return state

    def state(self, entry: Entry) -> dict[str, Any]:
        """state: none, running, done or failed; share: from 0 to 1; message: why it failed."""
        return self._states.get(entry.id, _state("none"))

    def _work(self, entry: Entry) -> None:
        def progress(share: float) -> None:
            self._states[entry.id] = _state("running", share)

        state = _state("failed", message="The transcription failed; the service's log shows why.")
        try:
            with self._turn:
                self._digest = self._digest or model_digest(self.engine.checkpoint)
                result = self.transcribe(entry.audio, progress)
            made = from_transcript(result, entry.audio, audio_digest(entry.audio), self._digest)
            corrections.write(entry.corrections, made, "")
            state = _state("done", 1.0)
        except (ValueError, OSError) as error:
            state = _state("failed", message=str(error))
        except StoppedError:
            state = _state("failed", message="The service ended before the text was there.")
        finally:
            self._states[entry.id] = state


def _state(state: str, share: float = 0.0, message: str = "") -> dict[str, Any]:
    return {"state": state, "share": round(share, 3), "message": message}
