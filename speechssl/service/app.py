"""The service as an ASGI application."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from speechssl import audio
from speechssl.checkpoint import Checkpoint
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import Said
from speechssl.inference.transcript import Transcript
from speechssl.service import jobs as job_routes
from speechssl.service import live_socket, state, transcriptions
from speechssl.service.admission import Admission
from speechssl.service.config import ServiceConfig
from speechssl.service.desk_routes import desk_router
from speechssl.service.engine import Engine
from speechssl.service.errors import ApiError, add_error_handlers
from speechssl.service.guard import Guard
from speechssl.service.jobs import Jobs
from speechssl.service.metrics import Metrics
from speechssl.service.work import JOBS_AT_ONCE, Service

_RUN_FOLDERS = ("best", "model")


def create_app(config: ServiceConfig, checkpoint: Checkpoint | None = None) -> FastAPI:
    """The service of a model; `checkpoint` is that of ``config.model`` where it is open already.

    ``app.state.service`` is what the routes share. Raises as
    :func:`speechssl.interop.sources.open_model`, and ValueError for a model that was not
    fine-tuned.
    """
    engine = Engine(config, checkpoint)
    service = Service(
        config,
        engine,
        Admission(config),
        Metrics(),
        model_name(config),
        ThreadPoolExecutor(config.max_active + JOBS_AT_ONCE + config.max_live, "recording"),
        int(time.time()),
    )
    jobs = Jobs(service)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with engine:
            await asyncio.to_thread(engine.warm_up)
            try:
                yield
            finally:
                service.admission.is_closing = True
                engine.stop_all()
                await jobs.close()
                await asyncio.to_thread(service.threads.shutdown)

    app = FastAPI(
        title="speechssl", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.service, app.state.jobs = service, jobs
    add_error_handlers(app)
    for router in (
        transcriptions.routes(service),
        job_routes.routes(service, jobs),
        live_socket.routes(service),
        state.routes(service, jobs),
    ):
        app.include_router(router)
    app.include_router(desk_router(config, engine, desk_transcribe(engine)))
    app.add_middleware(Guard, config=config, metrics=service.metrics)
    return app


def model_name(config: ServiceConfig) -> str:
    """What clients call the model: the last part of MODEL that says something."""
    if config.name:
        return config.name
    path = Path(config.model)
    if path.exists():
        path = path.absolute()
        path = path.parent if path.name in _RUN_FOLDERS else path
    return path.name or "model"


def desk_transcribe(engine: Engine) -> Callable[[Path, Callable[[float], None]], Transcript]:
    """``transcribe(path, progress)`` for the page: in fair turns with everybody's; `progress` is
    told the share that is done. Raises ValueError with a sentence."""

    def transcribe(path: Path, progress: Callable[[float], None]) -> Transcript:
        try:
            whole_s = audio.probe(path).duration_s
        except (audio.AudioError, OSError) as error:
            raise ValueError(str(error)) from error

        def on_part(part: Said) -> None:
            progress(min(part.end_s / max(whole_s, 1e-9), 1.0))

        try:
            return engine.transcribe(Clip(str(path), path), on_part=on_part)
        except ApiError as error:
            raise ValueError(error.message) from error

    return transcribe
