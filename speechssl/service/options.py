"""The fields of a transcription request, checked; what is not used is named."""

import math
import re
from dataclasses import dataclass
from typing import cast

from speechssl.decoding.hotwords import as_hotwords
from speechssl.service.errors import ApiError
from speechssl.service.formats import FORMATS, ResponseConfig, ResponseFormat
from speechssl.service.upload import Upload

ALIAS = "whisper-1"
"""What clients ask for that know no other name."""
MOST_PROMPT_WORDS = 4
"""A phrase of a prompt with more words is no hotword but context, which CTC does not use."""

_USED = {
    "model",
    "response_format",
    "timestamp_granularities",
    "include",
    "stream",
    "keywords",
    "prompt",
    "language",
    "temperature",
}
_UNUSED = {
    "languages": "the model transcribes what it was fine-tuned for",
    "chunking_strategy": "recordings are cut at quiet places",
    "known_speaker_names": "speakers are not told apart",
    "known_speaker_references": "speakers are not told apart",
}


@dataclass(frozen=True)
class Options:
    """What a request asks for."""

    response: ResponseConfig
    stream: bool
    hotwords: dict[str, float]


def read_options(upload: Upload, model_name: str) -> Options:
    """ApiError (400, 404) that names the field."""
    _check_model(upload.value("model"), model_name)
    form = _choice(upload, "response_format", FORMATS, "json")
    stream = _choice(upload, "stream", ("true", "false"), "false") == "true"
    if stream and form not in ("json", "text"):
        raise ApiError(
            400,
            f"stream=true sends text as it comes: response_format must be json or text with it, "
            f"and not {form}.",
            param="response_format",
        )
    granularities = _choices(upload, "timestamp_granularities", ("segment", "word"))
    if granularities and form != "verbose_json":
        raise ApiError(
            400,
            f"timestamp_granularities[] are of response_format verbose_json, and not of {form}.",
            param="timestamp_granularities",
        )
    include = _choices(upload, "include", ("logprobs",))
    if include and form != "json":
        raise ApiError(
            400,
            f"include[]=logprobs is of response_format json, and not of {form}.",
            param="include",
        )
    hotwords, notes = _hotwords(upload)
    notes += _notes(upload)
    response = ResponseConfig(
        form=cast(ResponseFormat, form),
        granularities=granularities or ("segment",),
        logprobs=bool(include),
        language=upload.value("language") or "unknown",
        notes=tuple(notes),
    )
    return Options(response, stream, hotwords)


def _check_model(given: str | None, model_name: str) -> None:
    if given not in (None, "", model_name, ALIAS):
        raise ApiError(
            404,
            f"There is no model {given[:100]!r} here: ask for {model_name}, or {ALIAS}, which is "
            "the same.",
            code="model_not_found",
            param="model",
        )


def _choice(upload: Upload, name: str, allowed: tuple[str, ...], default: str) -> str:
    given = upload.value(name)
    if given is None or given == "":
        return default
    value = given.strip().lower()
    if value not in allowed:
        raise ApiError(
            400, f"{name} must be one of {', '.join(allowed)}, and not {given[:60]!r}.", param=name
        )
    return value


def _choices(upload: Upload, name: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    found = upload.values(name)
    for value in found:
        if value not in allowed:
            raise ApiError(
                400, f"{name}[] takes {' and '.join(allowed)}, and not {value[:60]!r}.", param=name
            )
    return tuple(dict.fromkeys(found))


def _hotwords(upload: Upload) -> tuple[dict[str, float], list[str]]:
    """Keywords as they are; of a prompt the short phrases between commas and ends of sentences."""
    notes: list[str] = []
    phrases = [word for word in upload.values("keywords") if word.strip()]
    prompt = upload.value("prompt") or ""
    parts = [part.strip() for part in re.split(r"[,;:.!?\n\r\t]+", prompt) if part.strip()]
    short = [part for part in parts if len(part.split()) <= MOST_PROMPT_WORDS]
    if left := len(parts) - len(short):
        notes.append(
            f"{left} of {len(parts)} phrases of the prompt are not used, as they have more than "
            f"{MOST_PROMPT_WORDS} words: the model takes hotwords, and no context."
        )
    if not phrases and not short:
        return {}, notes
    try:
        return as_hotwords([*phrases, *short]), notes
    except ValueError as error:
        raise ApiError(400, str(error), param="keywords" if phrases else "prompt") from error


def _notes(upload: Upload) -> list[str]:
    """What was given and is not used."""
    notes = []
    if language := upload.value("language"):
        notes.append(
            f"language {language[:40]!r} is not used: the model transcribes what it was fine-tuned "
            "for."
        )
    if (temperature := upload.value("temperature")) not in (None, ""):
        try:
            value = float(temperature)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise ApiError(
                400,
                f"temperature must be a number from 0 to 1, and not {temperature[:40]!r}.",
                param="temperature",
            )
        if value:
            notes.append(f"temperature {value:g} is not used: CTC decoding draws nothing.")
    given = dict.fromkeys(name for name, _ in upload.fields)
    for name in given:
        plain = name.partition("[")[0]
        if plain in _UNUSED:
            notes.append(f"{plain} is not used: {_UNUSED[plain]}.")
        elif name not in _USED:
            notes.append(f"The field {name[:60]!r} is not known here, and not used.")
    return list(dict.fromkeys(notes))
