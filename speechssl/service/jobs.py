"""``/v1/audio/jobs``: long recordings, submitted, asked after, fetched and cancelled.

Jobs live in memory and end with the service; a result is kept until it is deleted, or pushed out by
newer jobs.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from speechssl.inference.transcribe import Said
from speechssl.service.errors import ApiError
from speechssl.service.options import Options, read_options
from speechssl.service.transcriptions import as_response
from speechssl.service.turns import Ticket
from speechssl.service.upload import Upload, receive_upload
from speechssl.service.work import JOBS_AT_ONCE, Service

PATH = "/v1/audio/jobs"
Status = Literal["queued", "running", "completed", "failed", "cancelled"]
_OVER = ("completed", "failed", "cancelled")
RETRY_S = "2"


@dataclass(eq=False)
class Job:
    """A recording that is transcribed while nobody waits."""

    id: str
    file_name: str
    audio_s: float
    """By its header; 0: not known before it is read."""
    created: int
    ticket: Ticket = field(default_factory=Ticket)
    status: Status = "queued"
    done_s: float = 0.0
    ended: int | None = None
    error: ApiError | None = None
    result: Response | None = None
    task: "asyncio.Task[None] | None" = None

    @property
    def is_over(self) -> bool:
        return self.status in _OVER

    @property
    def body(self) -> dict[str, Any]:
        """What a client is told; `progress` in [0, 1], null where the length is not known."""
        progress = min(self.done_s / self.audio_s, 1.0) if self.audio_s else None
        return {
            "id": self.id,
            "object": "audio.transcription.job",
            "status": self.status,
            "file_name": self.file_name,
            "created_at": self.created,
            "ended_at": self.ended,
            "audio_s": round(self.audio_s, 3) or None,
            "done_s": round(self.done_s, 3),
            "progress": 1.0 if self.status == "completed" else progress and round(progress, 4),
            "error": None if self.error is None else self.error.body["error"],
        }


class Jobs:
    """Those of a service; of one event loop."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.all: dict[str, Job] = {}
        self._places = asyncio.Semaphore(JOBS_AT_ONCE)

    def find(self, number: str) -> Job:
        """ApiError 404."""
        if number not in self.all:
            raise ApiError(
                404,
                f"There is no job {number[:60]!r}: it was deleted, or the service began anew.",
                code="job_not_found",
            )
        return self.all[number]

    def make_room(self) -> None:
        """The oldest jobs that are over go; ApiError 429 where there is none."""
        while len(self.all) >= self.service.config.max_jobs:
            over = next((job for job in self.all.values() if job.is_over), None)
            if over is None:
                raise ApiError(
                    429,
                    f"{len(self.all)} jobs wait or are at work, as many as this service takes.",
                    code="queue_full",
                    retry_after_s=60,
                )
            del self.all[over.id]

    def submit(self, upload: Upload, options: Options, audio_s: float) -> Job:
        """Begin a job, which owns the upload from now on."""
        self.make_room()
        job = Job(secrets.token_hex(12), upload.shown_name, audio_s, int(time.time()))
        self.all[job.id] = job
        job.task = asyncio.ensure_future(self._run(job, upload, options))
        return job

    def cancel(self, job: Job) -> None:
        """What is over stays as it is."""
        if job.is_over:
            return
        job.status, job.ended = "cancelled", int(time.time())
        self.service.engine.stop(job.ticket)
        if job.task is not None:
            job.task.cancel()

    async def close(self) -> None:
        """Cancel all."""
        for job in self.all.values():
            self.cancel(job)
        tasks = [job.task for job in self.all.values() if job.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: Job, upload: Upload, options: Options) -> None:
        service = self.service

        def on_part(part: Said) -> None:
            job.done_s = part.end_s

        try:
            async with self._places:
                job.status = "running"
                found = await service.transcript(
                    upload,
                    options,
                    max_audio_s=service.config.max_job_audio_s,
                    ticket=job.ticket,
                    on_part=on_part,
                )
            job.result = as_response(service, found, options)
            job.done_s = job.audio_s = found.duration_s
            job.status = "completed"
        except ApiError as error:
            job.error = error
            job.status = "cancelled" if job.ticket.is_stopped and job.is_over else "failed"
        except Exception as error:
            job.error = ApiError(
                500, f"The job failed ({type(error).__name__}); the service's log shows where."
            )
            job.status = "failed"
            raise
        finally:
            service.engine.spool.remove(upload.file)
            job.ended = job.ended or int(time.time())
            service.metrics.count("jobs", status=job.status)


def routes(service: Service, jobs: Jobs) -> APIRouter:
    """The routes of jobs."""
    router = APIRouter()

    @router.post(PATH)
    async def submit(request: Request) -> Response:
        async with service.admission.entered():
            jobs.make_room()
            upload = await receive_upload(request, service.engine.spool, service.config)
            try:
                options = read_options(upload, service.model_name)
                if options.stream:
                    raise ApiError(400, "A job has no stream: leave it out.", param="stream")
                seconds = await service.duration_s(upload, service.config.max_job_audio_s)
                job = jobs.submit(upload, options, seconds)
            except BaseException:
                service.engine.spool.remove(upload.file)
                raise
        return JSONResponse(job.body, 202, {"Location": f"{PATH}/{job.id}"})

    @router.get(PATH)
    async def all_jobs() -> dict[str, Any]:
        return {"object": "list", "data": [job.body for job in jobs.all.values()]}

    @router.get(PATH + "/{number}")
    async def status(number: str) -> dict[str, Any]:
        return jobs.find(number).body

    @router.get(PATH + "/{number}/result")
    async def result(number: str) -> Response:
        job = jobs.find(number)
        if job.result is not None:
            return job.result
        if job.error is not None:
            raise job.error
        if job.status == "cancelled":
            raise ApiError(410, f"The job {number} was cancelled.", code="job_cancelled")
        return JSONResponse(job.body, 202, {"Retry-After": RETRY_S})

    @router.post(PATH + "/{number}/cancel")
    async def cancel(number: str) -> dict[str, Any]:
        job = jobs.find(number)
        jobs.cancel(job)
        return job.body

    @router.delete(PATH + "/{number}")
    async def delete(number: str) -> dict[str, Any]:
        job = jobs.find(number)
        jobs.cancel(job)
        del jobs.all[number]
        return {"id": number, "object": "audio.transcription.job", "deleted": True}

    return router
