"""``POST /v1/audio/transcriptions`` and ``/v1/models``, as the OpenAI API has them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from speechssl.inference.transcribe import Said
from speechssl.inference.transcript import Transcript, join_words
from speechssl.service.errors import ApiError
from speechssl.service.formats import (
    MEDIA_TYPES,
    body_of,
    event,
    logprobs_of,
    notes_header,
)
from speechssl.service.options import ALIAS, Options, read_options
from speechssl.service.upload import Upload, receive_upload
from speechssl.service.work import Service, unless_gone

PATH = "/v1/audio/transcriptions"
BEAT_S = 15.0
"""A stream of events that has nothing to say sends a comment, so that nobody takes it for dead."""


def routes(service: Service) -> APIRouter:
    """The routes of transcription and of models."""
    router = APIRouter()

    @router.post(PATH)
    async def transcribe(request: Request) -> Response:
        return await _answer(service, request)

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        names = dict.fromkeys((service.model_name, ALIAS))
        return {"object": "list", "data": [_model(service, name) for name in names]}

    @router.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        if name not in (service.model_name, ALIAS):
            raise ApiError(
                404,
                f"There is no model {name[:100]!r} here, only {service.model_name}.",
                code="model_not_found",
                param="model",
            )
        return _model(service, name)

    return router


def _model(service: Service, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": service.created, "owned_by": "speechssl"}


async def _answer(service: Service, request: Request) -> Response:
    """The form is read, then the recording waits for its place; all of it is given back where the
    answer ends or the client goes away."""
    begun_s = time.perf_counter()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.admission.entered())
        upload = await receive_upload(request, service.engine.spool, service.config)
        stack.callback(service.engine.spool.remove, upload.file)
        service.metrics.count("upload_bytes", upload.num_bytes)
        options = read_options(upload, service.model_name)
        most_s = service.config.max_audio_s
        stack.callback(lambda: service.metrics.took(time.perf_counter() - begun_s))

        async def work() -> Response:
            seconds = await service.duration_s(upload, most_s)
            await stack.enter_async_context(service.admission.at_work(seconds))
            if options.stream:
                return await _stream(service, upload, options)
            found = await service.transcript(upload, options, max_audio_s=most_s)
            return as_response(service, found, options)

        response = await unless_gone(request, work())
        if isinstance(response, _Events):
            response.stack = stack.pop_all()
        return response


def as_response(service: Service, found: Transcript, options: Options) -> Response:
    """A transcript in the form that was asked for."""
    _, tokenizer = service.engine.checkpoint.require_ctc()
    form = options.response.form
    return Response(
        body_of(found, options.response, tokenizer),
        media_type=MEDIA_TYPES[form],
        headers=notes_header((*options.response.notes, *found.notes)),
    )


class _Events(StreamingResponse):
    """Events; what the request holds is given back when they have ended, however they did."""

    stack: AsyncExitStack | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.stack is not None:
                await self.stack.aclose()


async def _stream(service: Service, upload: Upload, options: Options) -> Response:
    """The events of a recording; begun when the first part is there, so that a recording that
    cannot be read is answered as any other."""
    parts: asyncio.Queue[Said | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(
        service.transcript(
            upload,
            options,
            max_audio_s=service.config.max_audio_s,
            on_part=lambda part: loop.call_soon_threadsafe(parts.put_nowait, part),  # type: ignore[arg-type]
        )
    )
    task.add_done_callback(lambda _: parts.put_nowait(None))
    try:
        first = await parts.get()
        if first is None:
            await task  # which raises
    except BaseException:
        task.cancel()
        raise
    return _Events(
        _events(task, first, parts, options),
        media_type="text/event-stream",
        headers=notes_header(options.response.notes),
    )


async def _events(
    task: "asyncio.Task[Transcript]",
    first: Said | None,
    parts: "asyncio.Queue[Said | None]",
    options: Options,
) -> AsyncIterator[str]:
    """``transcript.text.delta`` for each part with words, ``.done`` at the end; an error in
    between is an event too."""
    part, goes_on = first, False
    try:
        while part is not None:
            if part.words:
                yield event(_delta(part, goes_on, options.response.logprobs))
                goes_on = True
            while True:
                try:
                    part = await asyncio.wait_for(parts.get(), BEAT_S)
                    break
                except TimeoutError:
                    yield ": at work\n\n"
        try:
            found = await task
        except ApiError as error:
            yield event(error.body)
            return
        done: dict[str, Any] = {"type": "transcript.text.done", "text": found.text}
        if options.response.logprobs:
            done["logprobs"] = logprobs_of(found.words)
        if notes := (*options.response.notes, *found.notes):
            done["notes"] = list(notes)
        yield event(done)
        yield event("[DONE]")
    finally:
        task.cancel()


def _delta(part: Said, goes_on: bool, logprobs: bool) -> dict[str, Any]:
    space = " " if goes_on and not part.words[0].joined else ""
    made: dict[str, Any] = {
        "type": "transcript.text.delta",
        "delta": space + join_words(part.words),
    }
    if logprobs:
        made["logprobs"] = logprobs_of(part.words, goes_on=goes_on)
    return made
