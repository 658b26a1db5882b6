"""The service through the official client of OpenAI."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.cli import main
from speechssl.inference.transcribe import transcribe
from speechssl.inference.writers import to_vtt
from speechssl.rng import rng
from speechssl.service.errors import ApiError
from speechssl.service.options import read_options
from speechssl.service.upload import Upload

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.extras


@pytest.fixture(scope="module")
def client(service):
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="s3cret", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def expected(checkpoint, clip):
    found = transcribe(checkpoint, clip)
    assert len(found.words) > 3
    return found


def create(client, file, **fields):
    return client.audio.transcriptions.create(file=Path(file), model="whisper-1", **fields)


def test_models(client):
    assert [m.id for m in client.models.list()] == ["tiny", "whisper-1"]
    assert client.models.retrieve("whisper-1").owned_by == "speechssl"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_the_text_is_that_of_the_command(client, config, clip, capsys, expected):
    assert main(["transcribe", config.model, str(clip), "--format", "srt"]) == 0
    assert create(client, clip, response_format="srt") == capsys.readouterr().out
    assert create(client, clip).text == expected.text
    assert create(client, clip, response_format="text") == expected.text + "\n"
    assert create(client, clip, response_format="vtt") == to_vtt(expected)


def test_verbose_json_has_all_fields(client, clip, expected):
    found = create(
        client, clip, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert (found.text, found.duration, found.language) == (expected.text, 2.0, "unknown")
    assert found.task == "transcribe"
    assert [w.word for w in found.words] == [w.text for w in expected.words]
    assert [w.start for w in found.words] == pytest.approx(
        [w.start_s for w in expected.words], abs=1e-3
    )
    assert " ".join(s.text for s in found.segments) == expected.text
    segment, own = found.segments[0], expected.segments[0]
    assert (segment.id, segment.temperature) == (0, 0.0)
    assert segment.seek == int(own.start_s * 100)
    parts = [part.confidence for word in own.words for part in word.parts]
    assert segment.avg_logprob == pytest.approx(float(np.log(parts).mean()), abs=1e-4)
    content = own.text.encode()
    assert segment.compression_ratio == pytest.approx(
        len(content) / len(zlib.compress(content)), abs=1e-3
    )
    assert 0 <= segment.no_speech_prob <= 1
    assert segment.tokens
    assert found.usage.seconds == 2


@pytest.mark.parametrize(
    ("asked", "has_words", "has_segments"),
    [([], False, True), (["segment"], False, True), (["word"], True, False)],
)
def test_granularities(client, clip, asked, has_words, has_segments):
    fields = {"timestamp_granularities": asked} if asked else {}
    found = create(client, clip, response_format="verbose_json", **fields)
    assert (found.words is not None, found.segments is not None) == (has_words, has_segments)


def test_logprobs_spell_the_text(client, clip, expected):
    found = create(client, clip, include=["logprobs"])
    assert "".join(each.token for each in found.logprobs) == expected.text
    assert bytes(int(b) for each in found.logprobs for b in each.bytes).decode() == expected.text
    first = expected.words[0].parts[0]
    assert found.logprobs[0].logprob == pytest.approx(np.log(first.confidence), abs=1e-4)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """Longer than a window of a stream, so that its text comes in several parts."""
    loudness = np.tile(np.repeat([0.4, 0.0], [20_000, 12_000]), 10)[:304_000]  # with pauses
    wave = loudness * rng(1, "long").uniform(-1, 1, 304_000)
    path = tmp_path_factory.mktemp("clips") / "long.wav"
    audio.write(path, wave.astype(np.float32), 16000)
    return path


def test_events_joined_are_the_text(client, clip, expected, monkeypatch):
    from speechssl.service import engine

    monkeypatch.setattr(engine, "STREAM_BATCH_S", 0.01)  # a window each chunk
    for logprobs in (True, False):
        fields = {"include": ["logprobs"]} if logprobs else {}
        *deltas, done = create(client, clip, stream=True, **fields)
        assert {each.type for each in deltas} == {"transcript.text.delta"}
        assert "".join(each.delta for each in deltas) == done.text == expected.text
        if logprobs:
            tokens = [each.token for delta in deltas for each in delta.logprobs]
            assert tokens == [each.token for each in done.logprobs]


def test_a_long_recording_comes_in_parts(service, client, long_clip, monkeypatch):
    monkeypatch.setattr(service.engine.transcriber, "max_chunk_s", 4.0)
    *deltas, done = create(client, long_clip, stream=True)
    assert len(deltas) > 2
    assert "".join(each.delta for each in deltas) == done.text == create(client, long_clip).text


def test_hotwords_by_keywords_and_prompt(client, clip):
    plain = create(client, clip).text
    by_keywords = create(client, clip, keywords=["fdé", "déf abc"])
    by_prompt = create(
        client, clip, prompt="fdé, déf abc; and this here is a sentence that tells nothing"
    )
    assert by_keywords.text == by_prompt.text != plain
    assert "1 of 3 phrases of the prompt are not used" in by_prompt.notes[0]
    unknown = create(client, clip, keywords=["xyz"])
    assert "'xyz'" in unknown.notes[0]


def test_what_is_not_used_is_named(client, clip):
    found = create(
        client,
        clip,
        language="fr",
        temperature=0.7,
        extra_body={"colour": "red", "languages": "de"},
    )
    said = " ".join(found.notes)
    for name in ("language 'fr'", "temperature 0.7", "'colour'", "languages is not used"):
        assert name in said
    assert "notes" not in create(client, clip, temperature=0).model_extra
    raw = client.audio.transcriptions.with_raw_response.create(
        file=clip, model="tiny", response_format="srt", language="fr"
    )
    assert "'fr'" in raw.headers["speechssl-notes"]


@pytest.mark.parametrize(
    ("fields", "param", "status"),
    [
        ({"model": "gpt-4o-transcribe"}, "model", 404),
        ({"response_format": "diarized_json"}, "response_format", 400),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities", 400),
        ({"include": ["logprobs"], "response_format": "text"}, "include", 400),
        ({"include": ["everything"]}, "include", 400),
        ({"stream": True, "response_format": "srt"}, "response_format", 400),
        ({"temperature": 1.5}, "temperature", 400),
        ({"temperature": float("nan")}, "temperature", 400),
        ({"extra_body": {"language": ["a", "b"]}}, "language", 400),
        ({"extra_body": {"stream": "perhaps"}}, "stream", 400),
    ],
)
def test_wrong_fields_are_named(client, clip, fields, param, status):
    with pytest.raises(openai.APIStatusError) as caught:
        client.audio.transcriptions.create(**{"file": clip, "model": "tiny", **fields})
    assert caught.value.status_code == status
    assert caught.value.body["param"] == param
    assert caught.value.body["message"].endswith(".")


def test_more_hotwords_than_can_be_given():
    words = [("keywords", f"a{number}") for number in range(10_001)]
    with pytest.raises(ApiError, match="10,001 hotwords") as caught:
        read_options(Upload(Path("spool"), fields=words), "tiny")
    assert (caught.value.status, caught.value.param) == (400, "keywords")


def test_a_wrong_token(service):
    wrong = openai.OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError) as caught:
        wrong.models.list()
    assert caught.value.body["code"] == "invalid_api_key"


def test_the_client_tries_again_what_passes_and_nothing_else(service, clip, monkeypatch):
    admission = service.app.state.service.admission
    entered, tries = admission.entered, []

    def full_at_first():
        tries.append(1)
        if len(tries) == 1:
            raise ApiError(429, "Full.", headers={"retry-after-ms": "5"})
        return entered()

    monkeypatch.setattr(admission, "entered", full_at_first)
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="s3cret", max_retries=2) as again:
        assert create(again, clip).text
        assert len(tries) == 2
        with pytest.raises(openai.BadRequestError):
            again.audio.transcriptions.create(file=("a.wav", b"no sound"), model="tiny")
    assert len(tries) == 3
