"""The server: its socket, its signals, and connections that send nothing.

The socket is bound before the model is opened, so that a port that is taken is known at once.
"""

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from speechssl.service.config import ServiceConfig

GRACE_S = 5
"""At a signal, requests have so long to end; then they are stopped."""
MOST_MESSAGE = 1 << 20
"""Bytes of a message of a WebSocket."""
BACKLOG = 256


def bind(config: ServiceConfig) -> socket.socket:
    """A socket on the address; ValueError in one sentence where that cannot be."""
    try:
        places = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"The address {config.host} is not known here: give one of this machine with --host."
        ) from error
    family, kind, protocol, _, place = places[0]
    made = socket.socket(family, kind, protocol)
    try:
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # where REUSEADDR lets two share
        made.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1
        )
        made.bind(place)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise ValueError(_why_not(error, config)) from error
    made.setblocking(False)
    return made


def _why_not(error: OSError, config: ServiceConfig) -> str:
    where = f"port {config.port} of {config.host}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where[0].upper()}{where[1:]} is in use, perhaps by another service: stop that, "
            "or choose another one with --port N (0: a free one)."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"This person may not listen on {where}: choose one from 1024 on with --port N."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"This machine has no address {config.host}: give one that it has with --host."
    return f"The service cannot listen on {where}: {error.strerror or error}."


def serve(
    app: FastAPI, config: ServiceConfig, listener: socket.socket, on_ready: Callable[[], None]
) -> None:
    """Serve until SIGTERM, or Ctrl-C, which is a KeyboardInterrupt afterwards. `on_ready` is called
    when requests are answered."""
    server = make_server(app, config, on_ready)
    server.run(sockets=[listener])
    if signal.SIGINT in server.signals:
        raise KeyboardInterrupt


def make_server(
    app: FastAPI, config: ServiceConfig, on_ready: Callable[[], None] = lambda: None
) -> "Server":
    """Of uvicorn, in pure Python on every system."""
    return Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http=_protocol(config.read_timeout_s),
            ws="websockets-sansio",
            ws_max_size=MOST_MESSAGE,
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        ),
        on_ready,
        on_exit=lambda: setattr(app.state.service.admission, "is_closing", True),
    )


class Server(uvicorn.Server):
    """Ends at a signal with the exit code of its caller, not by the signal itself."""

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], on_exit: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.signals: list[int] = []
        self._on_ready, self._on_exit = on_ready, on_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The model is warm when the application has started."""
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """What came is kept in `signals`."""
        try:
            handled = (signal.SIGINT, signal.SIGTERM)
            before = {number: signal.signal(number, self.handle_exit) for number in handled}
        except ValueError:  # not the main thread: signals are somebody else's
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """No new requests; a second Ctrl-C does not wait for the others."""
        self._on_exit()
        super().handle_exit(sig, frame)
        self.signals.append(sig)


def _protocol(timeout_s: float) -> type[asyncio.Protocol]:
    """HTTP/1.1 whose connections are closed where the head of a request does not come in time."""

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(timeout_s, self._close_if_mute)

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._stop_timer()
            super().handle_websocket_upgrade(event)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()

        def _close_if_mute(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Protocol
