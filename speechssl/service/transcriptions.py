"""``POST /v1/audio/transcriptions``, as the OpenAI API has it."""

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from speechssl.inference.batching import Unreadable
from speechssl.inference.recordings import Clip
from speechssl.service.config import ServiceConfig
from speechssl.service.engine import Engine
from speechssl.service.errors import ApiError


def routes(_config: ServiceConfig, engine: Engine) -> APIRouter:
    """The routes of transcription."""
    router = APIRouter()

    @router.post("/v1/audio/transcriptions")
    async def transcribe(request: Request) -> JSONResponse:
        async with request.form() as form:
            file = form.get("file")
            if file is None or isinstance(file, str):
                raise ApiError(400, "The field file with the recording is missing.", param="file")
            content = await file.read()
        result = await run_in_threadpool(engine.transcribe, Clip("-", content))
        if isinstance(result, Unreadable):
            raise ApiError(400, str(result), param="file")
        return JSONResponse({"text": result.text})

    return router
