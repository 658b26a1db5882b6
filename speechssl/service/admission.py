"""Who is let in: how many requests are at work, how many wait, and what the others are told."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from speechssl.service.config import ServiceConfig
from speechssl.service.errors import ApiError

LONG_S = 60.0
"""Recordings beyond take at most half of the places, so that short ones always find one."""
MOST_RETRY_S = 60


class Admission:
    """Places for requests; of one event loop."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._places = asyncio.Semaphore(config.max_active)
        self._long_places = asyncio.Semaphore(max(config.max_active // 2, 1))
        self.inside = 0
        """Requests that are let in: uploading, waiting and at work."""
        self.active = 0
        """Of them at work."""
        self.is_closing = False

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Let a request in; ApiError 429 where too many are, 503 at the end of the service."""
        if self.is_closing:
            raise closing()
        if self.inside >= self._config.max_active + self._config.max_waiting:
            seconds = min(MOST_RETRY_S, max(1, math.ceil(self.inside / self._config.max_active)))
            raise ApiError(
                429,
                f"{self.inside} requests are at work or wait, as many as this service takes: come "
                "again later.",
                code="queue_full",
                retry_after_s=seconds,
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @asynccontextmanager
    async def at_work(self, audio_s: float) -> AsyncIterator[None]:
        """Wait for a place for a recording of so many seconds."""
        long = self._long_places if audio_s > LONG_S else None
        if long is not None:
            await long.acquire()
        try:
            async with self._places:
                self.active += 1
                try:
                    yield
                finally:
                    self.active -= 1
        finally:
            if long is not None:
                long.release()


def closing() -> ApiError:
    """503 of a service that ends."""
    return ApiError(
        503, "The service is being stopped: come again.", code="closing", retry_after_s=5
    )
