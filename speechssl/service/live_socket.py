"""``/v1/audio/live``: a WebSocket that takes samples and gives text while they come.

Binary messages are samples of one channel, little-endian; a text message ``{"type": "finish"}``
ends them. What comes back are JSON messages: ``ready``, ``partial``, ``final``, ``done`` and
``error``.
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import soxr
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from speechssl.inference.live import LiveEvent, LiveTranscriber
from speechssl.service.admission import closing
from speechssl.service.engine import too_long
from speechssl.service.errors import ApiError
from speechssl.service.turns import StoppedError, Ticket
from speechssl.service.work import Service

PATH = "/v1/audio/live"
FORMATS = {"s16le": "<i2", "f32le": "<f4"}
MIN_RATE, MAX_RATE = 4000, 192_000
MOST_MESSAGES = 32
"""That wait to be computed; then nothing is read until there is room."""
IDLE_S = 60.0
"""The longest time without a message."""
POLICY, RESTART = 1008, 1012
"""Codes of WebSocket: a message that is not taken; a service that ends."""


@dataclass(frozen=True)
class LiveOptions:
    """What the address asks for."""

    sample_rate: int
    dtype: str
    partials: bool


def read_live_options(query: Any) -> LiveOptions:
    """ApiError 400 for what is not known or out of range."""
    if unknown := set(query) - {"sample_rate", "format", "partials"}:
        raise ApiError(
            400,
            f"{sorted(unknown)[0][:60]!r} is not known here: /v1/audio/live takes sample_rate, "
            "format and partials.",
        )
    rate, form = query.get("sample_rate", "16000"), query.get("format", "s16le")
    partials = query.get("partials", "true")
    if not (rate.isascii() and rate.isdecimal() and MIN_RATE <= int(rate[:9]) <= MAX_RATE):
        raise ApiError(
            400,
            f"sample_rate must be a number from {MIN_RATE} to {MAX_RATE}, and not {rate[:20]!r}.",
            param="sample_rate",
        )
    if form not in FORMATS:
        raise ApiError(
            400,
            f"format must be one of {', '.join(FORMATS)}, and not {form[:20]!r}.",
            param="format",
        )
    if partials not in ("true", "false"):
        raise ApiError(
            400, f"partials must be true or false, and not {partials[:20]!r}.", param="partials"
        )
    return LiveOptions(int(rate), FORMATS[form], partials == "true")


def routes(service: Service) -> APIRouter:
    """The route of live audio."""
    router = APIRouter()

    @router.websocket(PATH)
    async def live(socket: WebSocket) -> None:
        try:
            options = read_live_options(socket.query_params)
            if service.admission.is_closing:
                raise closing()
            if service.live >= service.config.max_live:
                raise ApiError(
                    503,
                    f"{service.live} live connections are open, as many as this service takes.",
                    code="live_full",
                    retry_after_s=10,
                )
        except ApiError as error:
            await socket.send_denial_response(error.response())
            return
        service.live += 1
        try:
            await socket.accept()
            await _Connection(service, socket, options).run()
        finally:
            service.live -= 1

    return router


class _Connection:
    """One client."""

    def __init__(self, service: Service, socket: WebSocket, options: LiveOptions) -> None:
        self.service, self.socket, self.options = service, socket, options
        self.ticket = Ticket()
        self.engine = service.engine
        self.transcriber = LiveTranscriber(self.engine.view(self.ticket))
        rate = self.transcriber.sample_rate
        self.resampler = (
            None
            if rate == options.sample_rate
            else soxr.ResampleStream(options.sample_rate, rate, 1, dtype="float32", quality="HQ")
        )
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_MESSAGES)
        self.said: list[str] = []

    async def run(self) -> None:
        """Until the client has finished or is gone; it is told what it did wrong."""
        reader = asyncio.ensure_future(self._read())
        try:
            await self._send({"type": "ready", "sample_rate": self.options.sample_rate})
            await self._transcribe(reader)
        except ApiError as error:
            await self._end({"type": "error", **error.body}, POLICY)
        except StoppedError:
            await self._end({"type": "error", **closing().body}, RESTART)
        except (WebSocketDisconnect, RuntimeError):
            if reader.done() and not reader.cancelled() and reader.exception() is None:
                raise
        finally:
            reader.cancel()
            self.engine.stop(self.ticket)
            self.service.metrics.count("live_seconds", self.transcriber.duration_s)

    async def _transcribe(self, reader: "asyncio.Task[None]") -> None:
        with self.engine.registered(self.ticket):
            while True:
                samples, is_last = await self._next(reader)
                partials = self.options.partials and self.messages.empty()
                await self._tell(partial(self._feed, samples, is_last, partials))
                if self.transcriber.duration_s > self.service.config.max_job_audio_s:
                    raise too_long(self.service.config.max_job_audio_s)
                if is_last:
                    break
            await self._tell(self.transcriber.finish)
        duration_s = round(self.transcriber.duration_s, 3)
        text = " ".join(self.said)
        await self._end({"type": "done", "text": text, "duration_s": duration_s}, 1000)

    async def _next(self, reader: "asyncio.Task[None]") -> tuple[bytes, bool]:
        """All samples that wait, at least one message of them, and whether they are the last."""
        getter = asyncio.ensure_future(self.messages.get())
        await asyncio.wait({getter, reader}, return_when=asyncio.FIRST_COMPLETED)
        if not getter.done():
            getter.cancel()
            reader.result()  # raises what ended it
        pieces, message = [], getter.result()
        while message is not None:
            pieces.append(message)
            if self.messages.empty():
                return b"".join(pieces), False
            message = self.messages.get_nowait()
        return b"".join(pieces), True

    async def _read(self) -> None:
        """Messages into the queue, None at their end; raises what is wrong with them."""
        size = np.dtype(self.options.dtype).itemsize
        while True:
            try:
                message = await asyncio.wait_for(self.socket.receive(), IDLE_S)
            except TimeoutError:
                raise ApiError(408, f"Nothing came for {IDLE_S:g} s.", code="live_idle") from None
            if message["type"] == "websocket.disconnect":
                self.engine.stop(self.ticket)
                raise WebSocketDisconnect(message.get("code", 1006))
            if (data := message.get("bytes")) is not None:
                if len(data) % size:
                    raise ApiError(
                        400,
                        f"A message of {len(data)} bytes is no whole number of samples of {size} "
                        "bytes.",
                    )
                await self.messages.put(data)
            elif _is_finish(message.get("text") or ""):
                await self.messages.put(None)
                await self._until_gone()
                return
            else:
                raise ApiError(
                    400, 'A text message can only be {"type": "finish"}; samples are binary.'
                )

    async def _until_gone(self) -> None:
        """What comes behind the end is not used."""
        while (await self.socket.receive())["type"] != "websocket.disconnect":
            pass
        self.engine.stop(self.ticket)

    def _feed(self, data: bytes, is_last: bool, partials: bool) -> list[LiveEvent]:
        samples = np.frombuffer(data, self.options.dtype).astype(np.float32)
        if self.options.dtype == "<i2":
            samples /= 32768
        if self.resampler is not None:
            samples = self.resampler.resample_chunk(samples, last=is_last)
        try:
            return self.transcriber.feed(samples, partials=partials)
        except ValueError as error:  # samples that are no numbers
            raise ApiError(400, str(error)) from error

    async def _tell(self, work: Any) -> None:
        loop = asyncio.get_running_loop()
        for event in await loop.run_in_executor(self.service.threads, work):
            if event.kind == "final":
                self.said.append(event.text)
            await self._send(message_of(event))

    async def _send(self, data: dict[str, Any]) -> None:
        await self.socket.send_text(json.dumps(data, ensure_ascii=False))

    async def _end(self, data: dict[str, Any], code: int) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._send(data)
            await self.socket.close(code)


def _is_finish(text: str) -> bool:
    try:
        data = json.loads(text)
    except ValueError:
        return False
    return isinstance(data, dict) and data.get("type") == "finish"


def message_of(event: LiveEvent) -> dict[str, Any]:
    """An event as it is sent."""
    return {
        "type": event.kind,
        "text": event.text,
        "start_s": round(event.start_s, 3),
        "end_s": round(event.end_s, 3),
        "words": _words(event.words),
    }


def _words(words: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "word": word.text,
            "start_s": round(word.start_s, 3),
            "end_s": round(word.end_s, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in words
    ]
