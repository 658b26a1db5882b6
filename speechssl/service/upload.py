"""A form with a recording, read as a stream: into the spool, never into memory.

Limits hold from the first byte on: the size that is stated, the size that comes, the longest pause
and the slowest rate. A client's file name is only shown, never opened.
"""

import asyncio
import time
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from speechssl.service.config import ServiceConfig
from speechssl.service.errors import ApiError
from speechssl.service.spool import Spool

MOST_PARTS = 10_100
"""Fields of one form: hotwords may be 10,000."""
MOST_FIELD_BYTES = 1 << 20
"""Of all fields but the recording together."""
WRITE_BYTES = 1 << 20
"""The recording is written in pieces of this size."""
GRACE_S = 10.0
"""From then on an upload must have the slowest rate."""


@dataclass
class Upload:
    """A form; the file is removed by whoever receives it."""

    file: Path
    shown_name: str = ""
    """What the client calls it, cut and without control characters: for messages."""
    num_bytes: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    """Names without ``[]`` and values, in their order."""

    def values(self, name: str) -> list[str]:
        """Of a field that may be given several times."""
        return [value for key, value in self.fields if key == name]

    def value(self, name: str) -> str | None:
        """Of a field that is given once; None: it is not. ApiError for one that is given twice."""
        found = self.values(name)
        if len(found) > 1:
            raise ApiError(400, f"The field {name} is given {len(found)} times.", param=name)
        return found[0] if found else None


async def receive_upload(request: Request, spool: Spool, config: ServiceConfig) -> Upload:
    """Read the form of a request.

    Raises ApiError: 400 malformed or without a recording, 408 too slow, 413 too large, 415 no form,
    503 no space; nothing of it is left then, nor where the client goes away (ClientDisconnect).
    """
    most = int(config.max_upload_mb * 1e6)
    boundary = _boundary(request)
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > most:
        raise too_large(most)
    upload = Upload(spool.place())
    try:
        with upload.file.open("xb") as file:
            form = _Form(upload, boundary)
            async for data in timed_body(request, config, most):
                form.feed(data)
                if form.held >= WRITE_BYTES:
                    await asyncio.to_thread(form.flush, file)
            form.end()
            form.flush(file)
    except OSError as error:
        spool.remove(upload.file)
        if isinstance(error, ConnectionError):
            raise
        raise ApiError(
            503,
            f"The upload cannot be kept ({error.strerror or error}): try again later.",
            code="no_space",
            retry_after_s=60,
        ) from error
    except BaseException:
        spool.remove(upload.file)
        raise
    return upload


def too_large(most: int) -> ApiError:
    """413, with the limit in bytes."""
    return ApiError(
        413,
        f"The upload is larger than the {most / 1e6:g} MB that this service takes: cut the "
        "recording, or send it as FLAC or Opus.",
        code="upload_too_large",
        param="file",
    )


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        given = f"and not {kind.decode('latin-1')[:60]}" if kind else "which none states"
        raise ApiError(
            415,
            f"The request must be a form (Content-Type: multipart/form-data), {given}.",
            code="wrong_content_type",
        )
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise ApiError(
            400,
            "The Content-Type multipart/form-data states no boundary.",
            code="malformed_multipart",
        )
    return boundary


async def timed_body(request: Request, config: ServiceConfig, most: int) -> AsyncIterator[bytes]:
    """The body in pieces; ApiError where it is too large or too slow."""
    stream = request.stream()
    begun_s, total = time.monotonic(), 0
    while True:
        try:
            data = await asyncio.wait_for(anext(stream), config.read_timeout_s)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _too_slow(f"nothing came for {config.read_timeout_s:g} s") from None
        total += len(data)
        if total > most:
            raise too_large(most)
        elapsed_s = time.monotonic() - begun_s
        if elapsed_s > GRACE_S and total < 1000 * config.min_rate_kb_s * elapsed_s:
            raise _too_slow(f"less than {config.min_rate_kb_s:g} kB/s came")
        yield data


def _too_slow(why: str) -> ApiError:
    return ApiError(408, f"The upload was given up: {why}.", code="upload_too_slow")


class _Form:
    """The parts of a form as they come."""

    def __init__(self, upload: Upload, boundary: bytes) -> None:
        self.upload = upload
        self._headers: dict[bytes, bytes] = {}
        self._header_name = self._header_value = self._value = b""
        self._name, self._is_file, self._is_ended = "", False, False
        self._num_parts = self._field_bytes = self._num_files = 0
        self._pieces: list[bytes] = []
        self.held = 0
        """Bytes of the recording that are not written yet."""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def flush(self, file: IO[bytes]) -> None:
        """Write what is held."""
        for piece in self._pieces:
            file.write(piece)
        self._pieces.clear()
        self.held = 0

    def end(self) -> None:
        """ApiError where the form is not whole, or has no recording."""
        if not self._is_ended:
            raise _malformed("it ends in the middle")
        if not self._num_files:
            raise ApiError(400, "The field file with the recording is missing.", param="file")
        if not self.upload.num_bytes:
            raise ApiError(400, "The recording is empty (0 bytes).", param="file")

    def _part_begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > MOST_PARTS:
            raise _malformed(f"it has more than {MOST_PARTS:,} parts")
        self._headers, self._value = {}, b""

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or not name:
            raise _malformed("a part has no name")
        self._name = name.removesuffix("[]")
        self._is_file = self._name == "file"
        if not self._is_file and b"filename" in options:
            raise ApiError(
                400, f"The recording is given as {name[:60]!r}, and its field is file.", param=name
            )
        if self._is_file:
            self._num_files += 1
            if self._num_files > 1:
                raise ApiError(
                    400, "Several recordings are given: send one with each request.", param="file"
                )
            self.upload.shown_name = shown(options.get(b"filename", b""))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._pieces.append(data[start:end])
            self.held += end - start
            self.upload.num_bytes += end - start
            return
        self._field_bytes += end - start
        if self._field_bytes > MOST_FIELD_BYTES:
            raise ApiError(
                413,
                f"The fields beside the recording have more than {MOST_FIELD_BYTES:,} bytes.",
                param=self._name,
            )
        self._value += data[start:end]

    def _part_end(self) -> None:
        if self._is_file:
            return
        try:
            self.upload.fields.append((self._name, self._value.decode("utf-8")))
        except UnicodeDecodeError:
            raise ApiError(
                400, f"The field {self._name} is not UTF-8 text.", param=self._name
            ) from None

    def _end(self) -> None:
        self._is_ended = True


def _malformed(why: str) -> ApiError:
    why = why.rstrip(".")
    return ApiError(400, f"The form is malformed: {why}.", code="malformed_multipart")


def shown(file_name: bytes) -> str:
    """A client's file name for messages: its last part, at most 80 characters of it."""
    name = file_name.decode("utf-8", "replace").replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in name).strip()
    return name[:80] or "the recording"
