"""Errors as the OpenAI API has them: ``{"error": {"message", "type", "param", "code"}}``.

Its client tries again after 408, 409, 429 and everything from 500 on: what will not be better the
next time is another 4xx.
"""

import asyncio
import contextlib
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

DRAIN_S = 2.0
"""How long what still comes of a refused upload is thrown away, so that the client can read why."""


class ApiError(Exception):
    """A request that is not answered as asked; the message is one sentence for the person."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`param` is the field of the request that is wrong; `retry_after_s` for what passes."""
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)

    @property
    def body(self) -> dict[str, object]:
        """What the client gets."""
        return {
            "error": {
                "message": self.message,
                "type": _kind(self.status),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> "Refusal":
        """The answer."""
        return Refusal(self.body, self.status, self.headers)


class Refusal(JSONResponse):
    """An answer that may come before the request is read: then the connection is closed behind it,
    and what still comes is thrown away for a moment, as a client that is cut off while it sends
    does not read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"])
        has_body = b"content-length" in given or b"transfer-encoding" in given
        if not has_body or scope.get("state", {}).get("is_read"):
            await super().__call__(scope, receive, send)
            return
        self.headers["connection"] = "close"
        start: Message = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        # A client that waits for leave sends nothing, and a slow one has had its time.
        if b"expect" not in given and self.status_code != 408:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_drain(receive), DRAIN_S)
        await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def _kind(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    if status in (401, 403):
        return "authentication_error" if status == 401 else "permission_error"
    return "invalid_request_error" if status < 500 else "server_error"


def add_error_handlers(app: FastAPI) -> None:
    """Every error of the service in the one form."""

    @app.exception_handler(ApiError)
    async def _own(_request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        known = {
            404: (f"There is no {request.url.path} here.", "not_found"),
            405: (f"{request.url.path} does not take {request.method}.", "method_not_allowed"),
        }
        message, code = known.get(error.status_code, (str(error.detail), None))
        return ApiError(error.status_code, message, code=code, headers=error.headers).response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = str(first["loc"][-1])
        return ApiError(400, f"{where}: {first['msg']}.", param=where).response()

    @app.exception_handler(ClientDisconnect)
    async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # read by nobody but the log

    @app.exception_handler(Exception)
    async def _unexpected(_request: Request, error: Exception) -> JSONResponse:
        return ApiError(
            500, f"The service failed ({type(error).__name__}); its log shows where."
        ).response()
