"""The page and what it asks for: recordings of the desk, their corrections, the queue, learning.

A client names recordings by an id of the desk's index; no path that it gives is ever opened.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse

from speechssl.desk import corrections
from speechssl.desk.corrections import ChangedMeanwhile, Corrections
from speechssl.desk.queue import open_items
from speechssl.service.config import ServiceConfig
from speechssl.service.desk_index import DeskIndex, Entry
from speechssl.service.desk_jobs import Transcribe, Transcriptions, receive
from speechssl.service.desk_learning import Learning
from speechssl.service.desk_texts import FORMATS
from speechssl.service.engine import Engine
from speechssl.service.errors import ApiError
from speechssl.service.peaks import LEVELS, Preparer, is_exact, kept, media_type
from speechssl.service.spectrum import FRAMES_PER_S, NUM_FREQUENCIES, TILE_S, tile

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
MAX_CORRECTIONS_BYTES = 64_000_000
MAX_MINUTES = 24 * 60.0


def desk_router(config: ServiceConfig, engine: Engine, transcribe: Transcribe) -> APIRouter:
    """The page's routes; those below ``/desk`` answer 404 where the service has no desk."""
    router = APIRouter()
    _add_page(router)
    if config.desk is None:

        @router.api_route("/desk/{rest:path}", methods=["GET", "POST", "PUT", "DELETE"])
        def _no_desk() -> None:
            raise ApiError(
                404,
                "This service has no desk: start it with --desk FOLDER to correct recordings.",
                code="no_desk",
            )

        return router
    index = DeskIndex(config.desk)
    learning = Learning(index.folder, config.model)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(learning.close)

    router.lifespan_context = lifespan
    _add_recordings(router, index, config)
    _add_sound(router, index)
    _add_corrections(router, index)
    _add_jobs(router, index, Transcriptions(index, engine, transcribe), learning)
    return router


def _add_page(router: APIRouter) -> None:
    files = {  # a few hundred kB
        path.relative_to(PAGE).as_posix(): (path.read_bytes(), TYPES[path.suffix])
        for path in sorted(PAGE.rglob("*"))
        if path.suffix in TYPES
    }
    tags = {name: f'"{sha256(content).hexdigest()[:32]}"' for name, (content, _) in files.items()}
    # all modules at once, not one after the other as they name each other
    modules = "\n  ".join(
        f'<link rel="modulepreload" href="/page/{name}">'
        for name in files
        if name.endswith(".js") and name != "recorder-worklet.js"
    )
    text = (PAGE / "index.html").read_text(encoding="utf-8").replace("{modules}", modules)

    @router.get("/")
    async def page() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)  # for the style sheet that wavesurfer puts in
        policy = (
            "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
            f"media-src 'self' blob:; style-src 'self' 'nonce-{nonce}'; worker-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(
            text.replace("{nonce}", nonce),
            headers={"content-security-policy": policy, "cache-control": "no-store"},
        )

    @router.get("/page/{name:path}")
    async def page_file(name: str, request: Request) -> Response:
        if name not in files:  # only names that are there: no path is made of what a client gives
            raise ApiError(404, f"There is no /page/{name[:100]} here.", code="not_found")
        headers = {"etag": tags[name], "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        content, kind = files[name]
        return Response(content, media_type=kind, headers=headers)


def _finder(index: DeskIndex) -> Callable[[str], Entry]:
    def find(number: str) -> Entry:
        entry = index.entry(number)
        if entry is None:
            raise ApiError(
                404, "There is no such recording in the desk.", code="recording_not_found"
            )
        return entry

    return find


def _add_recordings(router: APIRouter, index: DeskIndex, config: ServiceConfig) -> None:
    find = _finder(index)

    @router.get("/desk/recordings")
    def recordings() -> dict[str, Any]:
        return {
            "model": config.model,
            "formats": list(FORMATS),
            "recordings": [index.summary(entry) for entry in index.entries()],
        }

    @router.post("/desk/recordings", status_code=201)
    async def add(request: Request, name: str = "recording.wav") -> dict[str, Any]:
        entry = await receive(request, name, index, config)
        return await run_in_threadpool(index.summary, entry)

    @router.get("/desk/recordings/{number}")
    def recording(number: str) -> Response:
        entry = find(number)
        try:
            segments, tag = index.segments_json(entry)
        except ValueError as error:
            raise ApiError(422, str(error), code="broken_corrections") from error
        row = index.summary(entry) | {"audio": _audio(entry)}
        # three hours of segments are encoded once, and not for each who looks
        content = f'{json.dumps(row, ensure_ascii=False)[:-1]}, "segment_list": {segments}}}'
        headers = {"etag": f'"{tag}"'}
        return Response(content, media_type="application/json", headers=headers)

    @router.get("/desk/queue")
    def queue() -> dict[str, Any]:
        try:
            items = open_items(index.folder)
        except ValueError as error:
            raise ApiError(422, str(error), code="broken_queue") from error
        ids = {entry.corrections: entry for entry in index.entries()}
        rows = []
        for item in items:
            entry = ids.get(index.folder / item.corrections)
            if entry is not None:
                row = asdict(item) | {"recording": entry.id, "name": entry.name}
                rows.append({k: v for k, v in row.items() if k not in ("audio", "corrections")})
        return {"items": rows}


def _corrections(index: DeskIndex, entry: Entry) -> Corrections | None:
    try:
        return index.corrections(entry)
    except ValueError as error:
        raise ApiError(422, str(error), code="broken_corrections") from error


def _audio(entry: Entry) -> dict[str, Any]:
    """Where the sound is to be had: the file itself, or a copy in which a browser finds the place;
    `is_exact` says which, and `plays_original` whether the file is of use until that is there."""
    from speechssl import audio

    try:
        exact = is_exact(audio.probe(entry.audio))
        copy = None if exact else kept(entry.audio)
    except (ValueError, OSError):
        return {"is_exact": False, "plays_original": False}
    ready = exact or (copy is not None and copy.copy is not None)
    return {"is_exact": ready, "plays_original": media_type(entry.audio) is not None}


def _add_sound(router: APIRouter, index: DeskIndex) -> None:
    find, prepare = _finder(index), Preparer()

    def readable(number: str) -> Entry:
        entry = find(number)
        try:
            index.duration_s(entry)
        except ValueError as error:
            raise ApiError(422, str(error), code="unreadable_recording") from error
        return entry

    @router.get("/desk/recordings/{number}/audio")
    def sound(number: str, form: str = "exact") -> FileResponse:
        entry = readable(number)
        from speechssl import audio

        if is_exact(audio.probe(entry.audio)):
            return _file(entry.audio, "audio/wav")
        original = media_type(entry.audio)
        if form == "original" and original:
            return _file(entry.audio, original)
        copy = prepare(entry.audio).copy
        if copy is not None:
            return _file(copy, "audio/wav")
        if original:
            return _file(entry.audio, original)
        raise ApiError(
            422,
            "Browsers do not play such a recording, and there is no cache folder for a copy: set "
            "SPEECHSSL_CACHE to a folder.",
            code="no_playable_form",
        )

    @router.get("/desk/recordings/{number}/peaks")
    def peaks(number: str, level: int = 0) -> Response:
        if not 0 <= level < len(LEVELS):
            raise ApiError(400, f"level is one of 0 to {len(LEVELS) - 1}.", param="level")
        entry = readable(number)
        values = prepare(entry.audio).peaks[level]
        headers = {"x-peaks-per-second": str(LEVELS[level]), "x-levels": str(len(LEVELS))}
        return Response(values.tobytes(), media_type="application/octet-stream", headers=headers)

    @router.get("/desk/recordings/{number}/spectrogram")
    def spectrogram(number: str, tile_number: int = 0, gain_db: float = 0.0) -> Response:
        entry = readable(number)
        if not 0 <= tile_number < 1e6 or not -60 <= gain_db <= 60:
            raise ApiError(
                400, "tile_number is below 1e6 and gain_db within 60 dB.", param="tile_number"
            )
        copy = None if not (made := kept(entry.audio)) else made.copy
        values = tile(copy or entry.audio, tile_number, gain_db)
        headers = {
            "x-frequencies": str(NUM_FREQUENCIES),
            "x-frames-per-second": str(FRAMES_PER_S),
            "x-tile-seconds": str(TILE_S),
            "cache-control": "private, max-age=600",
        }
        return Response(values.tobytes(), media_type="application/octet-stream", headers=headers)


def _file(path: Path, kind: str) -> FileResponse:
    """With ranges and an ETag; the browser may keep what it asks about."""
    return FileResponse(path, media_type=kind, headers={"cache-control": "private, no-cache"})


def _add_corrections(router: APIRouter, index: DeskIndex) -> None:
    find = _finder(index)

    def store(entry: Entry, expected: str, body: bytes) -> str:
        folder = entry.corrections.parent
        try:
            rows = json.loads(body)["segments"]
            before = _corrections(index, entry)
            digest = before.audio_sha256 if before else corrections_digest(entry)
            data = {"format": corrections.FORMAT, "audio": "-", "audio_sha256": digest}
            made = corrections.from_json(data | {"segments": rows}, entry.name, folder)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            reason = str(error) if type(error) is ValueError else "the body is no JSON of segments"
            raise ApiError(400, f"Nothing was saved: {reason}", code="bad_corrections") from error
        try:
            made = replace(made, audio=entry.audio)
            return corrections.write(entry.corrections, made, expected)
        except ChangedMeanwhile as error:
            raise ApiError(412, str(error), code="changed_meanwhile") from error

    @router.put("/desk/recordings/{number}/corrections")
    async def save(number: str, request: Request) -> Response:
        entry = await run_in_threadpool(find, number)
        tag = request.headers.get("if-match", "")
        if not (len(tag) >= 2 and tag[0] == tag[-1] == '"'):
            raise ApiError(
                428,
                "Say which version was changed: If-Match with the ETag of the recording.",
                code="if_match_missing",
            )
        body = bytearray()
        async for data in request.stream():
            body += data
            if len(body) > MAX_CORRECTIONS_BYTES:
                raise ApiError(413, "Corrections are limited to 64 MB.", code="too_large")
        digest = await run_in_threadpool(store, entry, tag[1:-1], bytes(body))
        return Response(status_code=204, headers={"etag": f'"{digest}"'})

    @router.get("/desk/recordings/{number}/download")
    def download(number: str, format: str = "txt") -> Response:
        entry = find(number)
        if format not in FORMATS:
            raise ApiError(400, f"format is one of {', '.join(FORMATS)}.", param="format")
        made = _corrections(index, entry)
        if made is None:
            raise ApiError(409, "This recording has no text yet: transcribe it.", code="no_text")
        try:
            duration_s = index.duration_s(entry)
        except ValueError:  # the text is there without the sound
            duration_s = max((segment.end_s for segment in made.segments), default=0.0)
        suffix, kind, written = FORMATS[format]
        return _attachment(
            written(made, duration_s), Path(entry.name).stem + suffix, f"{kind}; charset=utf-8"
        )


def corrections_digest(entry: Entry) -> str:
    """Of the recording's bytes, for a first file of corrections."""
    from speechssl.desk.labels import audio_digest

    try:
        return audio_digest(entry.audio)
    except OSError as error:
        raise ApiError(409, f"The recording {entry.name} is not there.") from error


def _attachment(text: str, name: str, kind: str) -> Response:
    from urllib.parse import quote

    plain = name.encode("ascii", "replace").decode().replace('"', "_").replace("?", "_")
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"
    return Response(
        text.encode("utf-8", "backslashreplace"),
        media_type=kind,
        headers={"content-disposition": disposition},
    )


def _add_jobs(
    router: APIRouter, index: DeskIndex, transcriptions: Transcriptions, learning: Learning
) -> None:
    find = _finder(index)

    @router.post("/desk/recordings/{number}/transcription", status_code=202)
    def transcribe(number: str) -> dict[str, Any]:
        entry = find(number)
        if _corrections(index, entry) is not None:
            raise ApiError(
                409,
                "This recording has a text already, which is not written over.",
                code="has_text",
            )
        return transcriptions.start(entry)

    @router.get("/desk/recordings/{number}/transcription")
    def transcription(number: str) -> dict[str, Any]:
        return transcriptions.state(find(number))

    @router.post("/desk/learn", status_code=202)
    def learn(minutes: float = 10.0) -> dict[str, Any]:
        if not 0.05 <= minutes <= MAX_MINUTES:
            raise ApiError(400, "minutes is from 0.05 to 1440.", param="minutes")
        try:
            return asdict(learning.start(minutes))
        except ValueError as error:
            raise ApiError(409, str(error), code="cannot_learn") from error

    @router.delete("/desk/learn", status_code=202)
    def stop() -> dict[str, Any]:
        learning.stop()
        return asdict(learning.progress())

    @router.get("/desk/learn")
    def progress() -> dict[str, Any]:
        return asdict(learning.progress())

    @router.get("/desk/learn/events")
    async def events(request: Request) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            last, quiet = "", 0
            while not await request.is_disconnected():
                now = json.dumps(asdict(await run_in_threadpool(learning.progress)))
                if now != last or quiet >= 15:
                    yield f"data: {now}\n\n"
                    last, quiet = now, 0
                quiet += 1
                await asyncio.sleep(1)

        return StreamingResponse(lines(), media_type="text/event-stream")
