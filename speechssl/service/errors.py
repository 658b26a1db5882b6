"""Errors as the OpenAI API has them: ``{"error": {"message", "type", "param", "code"}}``.

Its client tries again after 408, 409, 429 and everything from 500 on: what will not be better the
next time is another 4xx.
"""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException


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

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body, self.status, self.headers)


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

    @app.exception_handler(Exception)
    async def _unexpected(_request: Request, error: Exception) -> JSONResponse:
        return ApiError(
            500, f"The service failed ({type(error).__name__}); its log shows where."
        ).response()
