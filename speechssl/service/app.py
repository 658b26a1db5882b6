"""The service as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec

from fastapi import FastAPI

from speechssl.checkpoint import Checkpoint
from speechssl.service.config import ServiceConfig
from speechssl.service.engine import Engine
from speechssl.service.errors import add_error_handlers
from speechssl.service.guard import Guard
from speechssl.service.transcriptions import routes as transcription_routes

DESK_ROUTES = "speechssl.service.desk_routes"


def create_app(config: ServiceConfig, checkpoint: Checkpoint | None = None) -> FastAPI:
    """The service of a model; `checkpoint` is that of ``config.model`` where it is open already.

    Raises as :func:`speechssl.interop.sources.open_model`, and ValueError for a model that was not
    fine-tuned.
    """
    engine = Engine(config, checkpoint)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with engine:
            yield

    app = FastAPI(
        title="speechssl",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    app.state.config, app.state.engine = config, engine
    add_error_handlers(app)
    app.include_router(transcription_routes(config, engine))
    if find_spec(DESK_ROUTES) is not None:
        app.include_router(import_module(DESK_ROUTES).routes(config, engine))
    app.add_middleware(Guard, config=config)
    return app
