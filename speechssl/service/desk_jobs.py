"""What takes its time for the page: uploads into the desk, and transcriptions of its recordings."""

import tempfile
import threading
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from speechssl.audio import AudioError
from speechssl.desk import corrections
from speechssl.desk.labels import audio_digest
from speechssl.inference.batching import Unreadable
from speechssl.inference.done import model_digest
from speechssl.inference.recordings import Clip
from speechssl.service.config import ServiceConfig
from speechssl.service.desk_index import DeskIndex, Entry
from speechssl.service.desk_texts import from_transcript
from speechssl.service.engine import Engine
from speechssl.service.errors import ApiError


async def receive(request: Request, name: str, index: DeskIndex, config: ServiceConfig) -> Entry:
    """The body of a request as a new recording of the desk; ApiError where it is too large or no
    sound. Nothing is left of what was not taken."""
    limit = config.max_upload_mb * 1e6
    too_large = ApiError(
        413, f"A recording of at most {config.max_upload_mb:g} MB is taken.", code="too_large"
    )
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large
    with tempfile.SpooledTemporaryFile(max_size=1 << 24) as spool:
        num = 0
        async for data in request.stream():
            num += len(data)
            if num > limit:
                raise too_large
            await run_in_threadpool(spool.write, data)
        spool.seek(0)
        try:
            return await run_in_threadpool(index.add, name, spool)
        except AudioError as error:
            raise ApiError(422, str(error), code="no_sound", param="body") from error


class Transcriptions:
    """Transcribes recordings of the desk that have no text, one after the other."""

    def __init__(self, index: DeskIndex, engine: Engine) -> None:
        self.index, self.engine = index, engine
        self._states: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._digest = ""

    def start(self, entry: Entry) -> dict[str, Any]:
        """Begin, unless it is being done already; gives the state."""
        with self._lock:
            state = self._states.get(entry.id)
            if state is None or state["state"] != "running":
                self._states[entry.id] = state = {"state": "running", "message": ""}
                threading.Thread(target=self._work, args=(entry,), daemon=True).start()
            return state

    def state(self, entry: Entry) -> dict[str, Any]:
        """state: none, running, done or failed; message: a sentence why it failed."""
        return self._states.get(entry.id, {"state": "none", "message": ""})

    def _work(self, entry: Entry) -> None:
        state, message = "failed", ""
        try:
            with self._turn:
                self._digest = self._digest or model_digest(self.engine.checkpoint)
                result = self.engine.transcribe(Clip(entry.name, entry.audio))
            if isinstance(result, Unreadable):
                message = str(result.error)
            else:
                made = from_transcript(result, entry.audio, audio_digest(entry.audio), self._digest)
                corrections.write(entry.corrections, made, "")
                state = "done"
        except (ValueError, OSError) as error:
            message = str(error)
        except Exception as error:
            message = f"The transcription failed ({type(error).__name__})."
            raise
        finally:
            self._states[entry.id] = {"state": state, "message": message}
