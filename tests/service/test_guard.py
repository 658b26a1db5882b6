"""Who may use the service."""

import hmac
import time

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from speechssl.service import guard
from speechssl.service.config import ServiceConfig, is_loopback
from speechssl.service.errors import DRAIN_S, ApiError
from speechssl.service.guard import HEADERS, Guard
from speechssl.service.metrics import Metrics


def client(**settings):
    config = ServiceConfig("model", **settings)
    app = Guard(PlainTextResponse("in"), config, Metrics())
    return TestClient(app, base_url="http://localhost:8000")


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.1.7", True),  # a name server cannot make a page's name of it
        ("desk.example", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example:8000", False),
        ("", False),
        ("[::1", False),
        ("user@evil.example", False),
        ("127.0.0.1@evil.example", False),
    ],
)
def test_the_host_header(host, allowed):
    response = client(hosts=("desk.example",)).get("/", headers={"host": host})
    assert response.status_code == (200 if allowed else 403)
    if not allowed:
        assert response.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://localhost:8000", True),
        ("https://localhost:8000", True),
        ("https://desk.example", True),
        ("http://localhost:8001", False),
        ("http://localhost", False),
        ("http://evil.example", False),
        ("null", False),
        ("file://", False),
        ("http://localhost:8000.evil.example", False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_the_origin_header(origin, allowed, method):
    headers = {} if origin is None else {"origin": origin}
    made = client(origins=("https://desk.example",))
    response = made.request(method, "/v1/models", headers=headers)
    assert response.status_code == (200 if allowed else 403)
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, False),
        ({"authorization": "Bearer s3cret"}, True),
        ({"authorization": "bearer s3cret"}, True),
        ({"authorization": "Bearer  s3cret "}, True),
        ({"authorization": "Bearer s3cre"}, False),
        ({"authorization": "Bearer s3crets"}, False),
        ({"authorization": "Bearer S3CRET"}, False),
        ({"authorization": "Bearer"}, False),
        ({"authorization": "Basic s3cret"}, False),
        ({"authorization": "Bearer \xe9".encode("latin-1")}, False),
        ({"cookie": "speechssl-token=s3cret"}, True),
        ({"cookie": "a=b; speechssl-token=s3cret"}, True),
        ({"cookie": "speechssl-token=wrong"}, False),
        ({"cookie": "\x01;;=="}, False),
    ],
)
def test_the_token(headers, allowed):
    response = client(token="s3cret").get("/v1/models", headers=headers)
    assert response.status_code == (200 if allowed else 401)
    if not allowed:
        assert response.headers["www-authenticate"] == "Bearer"
        assert "s3cret" not in response.text


def test_the_token_is_compared_in_constant_time(monkeypatch):
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(
        guard.hmac, "compare_digest", lambda *given: compared.append(given) or compare(*given)
    )
    client(token="s3cret").get("/v1/models", headers={"authorization": "Bearer s3creX"})
    assert compared == [(b"s3creX", b"s3cret")]


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/", True),
        ("/healthz", True),
        ("/page/app.js", True),
        ("/metrics", False),
        ("/pages", False),
        ("/desk/recordings", False),
        ("//", False),
        ("/page/../metrics", False),
    ],
)
def test_what_needs_no_token(path, is_open):
    made = Guard(PlainTextResponse("in"), ServiceConfig("model", token="s3cret"), Metrics())
    from starlette.datastructures import Headers

    refusal = made._refusal(Headers({"host": "localhost"}), path)
    assert (refusal is None) is is_open


def test_headers_of_every_answer():
    for response in (client().get("/"), client(token="s3cret").get("/v1/models")):
        for name, value in HEADERS.items():
            assert response.headers[name] == value
    own = Guard(
        PlainTextResponse("page", headers={"content-security-policy": "default-src 'self'"}),
        ServiceConfig("model"),
        Metrics(),
    )
    response = TestClient(own, base_url="http://localhost").get("/")
    assert response.headers["content-security-policy"] == "default-src 'self'"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("", False),
        ("desk.example", False),
    ],
)
def test_addresses_of_this_machine(host, expected):
    assert is_loopback(host) is expected
    if not expected:
        with pytest.raises(ValueError, match="give a token"):
            ServiceConfig("model", host=host)
        assert ServiceConfig("model", host=host, token="t")


@pytest.mark.parametrize("token", ["a b", "é", "a\nb", "\x00"])
def test_a_token_that_no_header_can_carry(token):
    with pytest.raises(ValueError, match="ASCII"):
        ServiceConfig("model", token=token)


def test_the_token_is_not_shown():
    assert "s3cret" not in repr(ServiceConfig("model", token="s3cret"))


@pytest.mark.parametrize("content", [b"x", b"x" * 100_000, b""])
def test_a_refusal_of_what_was_read_ends_at_once(content):
    async def refuse(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await ApiError(422, "Not so.").response()(scope, receive, send)

    app = Guard(refuse, ServiceConfig("model"), Metrics())
    began = time.monotonic()
    response = TestClient(app, base_url="http://localhost").post("/", content=content)
    assert response.json()["error"]["message"] == "Not so."
    assert time.monotonic() - began < DRAIN_S / 2
