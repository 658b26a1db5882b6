"""Who may use the service: Host, Origin and token are checked before anything is read.

A page of another site reaches a service on this machine through the person's browser: by a request
of its own (which has an ``Origin``) or under its own name that it lets point here (DNS rebinding,
where ``Host`` is that name). No answer carries a header of CORS.
"""

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from speechssl.service.config import ServiceConfig
from speechssl.service.errors import ApiError
from speechssl.service.metrics import Metrics

COOKIE = "speechssl-token"
"""For pages, which cannot put a header before what an audio element or a WebSocket asks for; it is
set by ``POST /session``."""

OPEN_PATHS = ("/", "/healthz")
OPEN_FOLDERS = ("/page/",)
"""What needs no token: whether the service lives, and the page itself, which holds no data."""

HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer that does not set them itself."""


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, config: ServiceConfig, metrics: Metrics) -> None:
        self.app, self.config, self.metrics = app, config, metrics
        self._hosts = {name.lower() for name in (*config.hosts, "localhost")}
        self._origins = {origin.lower().rstrip("/") for origin in config.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                self.metrics.count("requests", status=str(message["status"]))
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        async def receive_to_the_end() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                scope.setdefault("state", {})["is_read"] = True  # a refusal waits for no more of it
            return message

        refusal = self._refusal(Headers(scope=scope), scope["path"])
        if refusal is None:
            await self.app(scope, receive_to_the_end, send_with_headers)
        elif scope["type"] == "http":
            await refusal.response()(scope, receive, send_with_headers)
        else:  # a WebSocket is refused before it is one
            socket = WebSocket(scope, receive, send_with_headers)
            await socket.send_denial_response(refusal.response())

    def _refusal(self, headers: Headers, path: str) -> ApiError | None:
        host = headers.get("host", "")
        if not self._knows(host):
            return ApiError(
                403,
                f"This service is not reached under the name {host[:100]!r}: use localhost or its "
                "address in digits, or start it with --allow-host NAME.",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, host):
            return ApiError(
                403,
                f"Pages of {origin[:100]} may not use this service.",
                code="origin_not_allowed",
            )
        is_open = path in OPEN_PATHS or (path.startswith(OPEN_FOLDERS) and ".." not in path)
        return self._token_refusal(headers) if self.config.token and not is_open else None

    def _knows(self, host: str) -> bool:
        """Whether a Host header is an address in digits, which no name server can redirect, or a
        name that was allowed."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _is_own(self, origin: str, host: str) -> bool:
        origin, host = origin.lower(), host.lower()
        return origin in self._origins or origin in (f"http://{host}", f"https://{host}")

    def _token_refusal(self, headers: Headers) -> ApiError | None:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = _cookie(headers.get("cookie", ""))
        expected = self.config.token.encode()
        if hmac.compare_digest(given.strip().encode(errors="replace"), expected):
            return None
        return ApiError(
            401,
            "The token is missing or wrong: send it as Authorization: Bearer TOKEN (the client's "
            "api_key).",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
