"""From an upload to its transcript: its place in the queue, its thread, a client that goes away."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from speechssl import audio
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import Said
from speechssl.inference.transcript import Transcript
from speechssl.service.admission import Admission, closing
from speechssl.service.config import ServiceConfig
from speechssl.service.engine import Engine, too_long
from speechssl.service.metrics import Metrics
from speechssl.service.options import Options
from speechssl.service.turns import StoppedError, Ticket
from speechssl.service.upload import Upload

JOBS_AT_ONCE = 2
"""Jobs that are transcribed at the same time; what they take is shared fairly with requests."""

_Result = TypeVar("_Result")


@dataclass
class Service:
    """What the routes share."""

    config: ServiceConfig
    engine: Engine
    admission: Admission
    metrics: Metrics
    model_name: str
    threads: ThreadPoolExecutor
    created: int
    """When the model was opened; seconds since 1970."""
    live: int = 0
    """Open live connections."""

    async def duration_s(self, upload: Upload, most_s: float) -> float:
        """Of a recording by what its header states, 0 where that is not known; ApiError 413."""
        seconds = await asyncio.to_thread(_stated_s, upload.file)
        if seconds > most_s:
            raise too_long(most_s)
        return seconds

    async def transcript(
        self,
        upload: Upload,
        options: Options,
        *,
        max_audio_s: float,
        ticket: Ticket | None = None,
        on_part: Callable[[Said], None] | None = None,
    ) -> Transcript:
        """Raises ApiError; the file is gone afterwards, and where this is cancelled nothing is
        computed any more from the next chunk on."""
        ticket = Ticket() if ticket is None else ticket
        clip = Clip(upload.shown_name, upload.file)

        def work() -> Transcript:
            try:
                return self.engine.transcribe(
                    clip,
                    ticket,
                    hotwords=options.hotwords,
                    on_part=on_part,
                    as_it_comes=options.stream,
                    max_audio_s=max_audio_s,
                )
            finally:
                self.engine.spool.remove(upload.file)

        try:
            found = await asyncio.get_running_loop().run_in_executor(self.threads, work)
        except StoppedError:
            raise closing() from None
        finally:
            self.engine.stop(ticket)
        self.metrics.count("audio_seconds", found.duration_s)
        return found


def _stated_s(path: Path) -> float:
    try:
        return audio.probe(path).duration_s
    except (audio.AudioError, OSError, ValueError):
        return 0.0  # said where it is read


async def unless_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """What `work` gives; it is cancelled, and ClientDisconnect raised, where the client goes away.
    The body must have been read."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
