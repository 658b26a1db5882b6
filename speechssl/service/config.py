"""The settings of the service."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from speechssl.config.bounds import AtLeast, Between, Positive, check_fields


@dataclass(frozen=True)
class ServiceConfig:
    """What the service offers, to whom, and how much of it at once."""

    model: str
    """MODEL, as every command takes it."""
    name: str = ""
    """What clients call the model; empty: as its folder."""
    host: str = "127.0.0.1"
    """The address that it listens on."""
    port: Annotated[int, Between(0, 65535)] = 8000
    """0: a free one."""
    token: str = field(default="", repr=False)
    """A client sends it as ``Authorization: Bearer TOKEN``; empty: none is asked for."""
    origins: tuple[str, ...] = ()
    """Further origins (``https://desk.example``) of its own page, behind a proxy that does not pass
    the name on."""
    hosts: tuple[str, ...] = ()
    """Names under which it is reached; localhost and addresses in digits are always allowed."""
    desk: Path | None = None
    """The folder with recordings and their corrections that the page shows."""
    max_upload_mb: Positive = 1024.0
    """Of one request, in units of 1,000,000 bytes."""
    max_audio_s: Positive = 4 * 3600.0
    """The longest recording of a request."""
    max_job_audio_s: Positive = 24 * 3600.0
    """The longest recording of a job."""
    max_active: Annotated[int, AtLeast(1)] = 32
    """Requests whose recordings are transcribed at the same time; their chunks take turns."""
    max_waiting: Annotated[int, AtLeast(0)] = 64
    """Requests that wait for that; a further one gets 429."""
    max_jobs: Annotated[int, AtLeast(1)] = 100
    """Jobs that are kept, finished ones included."""
    max_live: Annotated[int, AtLeast(1)] = 4
    """Live connections at the same time."""
    read_timeout_s: Positive = 20.0
    """The longest pause within the body of a request."""
    min_rate_kb_s: Positive = 2.0
    """The slowest upload on average, in units of 1,000 bytes a second."""
    precision: str = "auto"
    """Of the products, see :func:`speechssl.inference.transcribe.transcribe_all`."""
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of :func:`speechssl.inference.decoders.choose_decoder`."""

    def __post_init__(self) -> None:
        check_fields(self, "serve")
        if not (self.token.isascii() and self.token.isprintable()) or " " in self.token:
            raise ValueError("The token must be ASCII letters, digits and signs without a space.")
        if not is_loopback(self.host) and not self.token:
            raise ValueError(
                f"Others can reach the address {self.host}: give a token with --token-file FILE or "
                "SPEECHSSL_TOKEN, or leave out --host, which serves this machine only."
            )


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
