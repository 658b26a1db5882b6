"""``/healthz``, ``/metrics`` and ``/session``."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from speechssl import __version__
from speechssl.service.guard import COOKIE
from speechssl.service.jobs import Jobs
from speechssl.service.work import Service
from speechssl.system import used_memory

REPLACED = (
    "The model's folder holds other files than when it was opened: this service goes on with the "
    "model that it opened; start it again to use the new one."
)


def routes(service: Service, jobs: Jobs) -> APIRouter:
    """The routes of the service itself."""
    router = APIRouter()

    @router.get("/healthz")
    def health() -> JSONResponse:
        is_closing, is_replaced = service.admission.is_closing, service.engine.is_replaced
        body: dict[str, Any] = {
            "status": "closing" if is_closing else "ok",
            "model": service.model_name,
            "model_replaced": is_replaced,
            "version": __version__,
        }
        if is_replaced:
            body["note"] = REPLACED
        return JSONResponse(body, 503 if is_closing else 200)

    @router.get("/metrics")
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(
            service.metrics.text(gauges(service, jobs)),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )

    @router.post("/session")
    def session() -> Response:
        """The guard has checked the token: the page gets it as a cookie."""
        response = Response(status_code=204)
        if service.config.token:
            response.set_cookie(COOKIE, service.config.token, httponly=True, samesite="strict")
        return response

    return router


def gauges(service: Service, jobs: Jobs) -> dict[str, tuple[str, float]]:
    """Values of now."""
    turns, admission = service.engine.turns, service.admission
    rate = service.engine.rate
    states = [job.status for job in jobs.all.values()]
    found: dict[str, tuple[str, float]] = {
        "requests_inside": ("Requests uploading, waiting or at work.", admission.inside),
        "requests_active": ("Requests at work.", admission.active),
        "chunks_waiting": ("Chunks that wait for the model.", turns.waiting),
        "chunk_seconds_waiting": ("Their sound.", turns.waiting_samples / rate),
        "computed_seconds": ("Sound that the model computed.", turns.computed_samples / rate),
        "model_busy_seconds": ("Time that its threads took for that.", turns.busy_s),
        "live_connections": ("Open live connections.", service.live),
        "jobs_queued": ("Jobs that wait.", states.count("queued")),
        "jobs_running": ("Jobs at work.", states.count("running")),
        "spool_bytes": ("Uploads on the disk.", service.engine.spool.used_bytes()),
        "model_replaced": ("1: the model's folder holds another.", service.engine.is_replaced),
    }
    if (used := used_memory()) is not None:
        found["memory_bytes"] = ("Resident memory of the process.", used)
    return found
