"""What a provider's error means, whatever its form."""

import pytest

from gateway.chat.failures import failure_of, read_error, retry_after_s
from gateway.errors import Kind, Reach

OPENAI = b'{"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}'


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (OPENAI, "m", "c"),
        (b'[{"error": {"code": 429, "message": "m", "status": "S"}}]', "m", "429"),
        (b'{"code": "c", "error": "m"}', "m", "c"),
        (b'{"type": "error", "error": {"type": "t", "message": "m"}}', "m", ""),
        (b'{"object": "error", "message": "m", "type": "t", "code": 40303}', "m", "40303"),
        (b'{"message": "m", "type": "t", "param": null, "code": "c"}', "m", "c"),
        (b'{"statusCode": 401, "message": "m"}', "m", ""),
        (b'{"detail": "m"}', "m", ""),
        (b'{"detail": [{"loc": ["body"]}]}', '[{"loc":["body"]}]', ""),
        (b"<html><body><h1>502 Bad Gateway</h1></body></html>", "502 Bad Gateway", ""),
        (b"", "", ""),
        (b"[]", "", ""),
        (b"null", "", ""),
        (b"\xff\xfe", "\ufffd\ufffd", ""),
    ],
)
def test_every_form_of_error_body_is_read(body: bytes, message: str, code: str):
    error = read_error(body)
    assert error.message == message
    assert error.code == code


def test_a_key_in_an_upstreams_message_is_not_shown():
    body = b'{"error": {"message": "Incorrect API key provided: sk-proj-abcdef1234567890"}}'
    failure = failure_of(401, {}, body)
    assert "***" not in failure.message  # not even that there is one
    assert failure.said == "Incorrect API key provided: ***"


def test_a_long_message_is_cut():
    assert len(read_error(b'{"error": {"message": "' + b"x" * 9000 + b'"}}').message) == 500


@pytest.mark.parametrize(
    ("status", "body", "kind", "answered"),
    [
        (400, OPENAI, Kind.BAD_REQUEST, 400),
        (400, b'{"error": {"code": "context_length_exceeded"}}', Kind.CONTEXT_LENGTH, 400),
        (400, b'{"error": {"message": "prompt is too long: 9"}}', Kind.CONTEXT_LENGTH, 400),
        (400, b'{"error": {"code": "content_filter"}}', Kind.CONTENT_POLICY, 400),
        (400, b'[{"error": {"message": "API key not valid"}}]', Kind.UPSTREAM_AUTH, 502),
        (400, b'{"code": "x", "error": "Incorrect API key provided"}', Kind.UPSTREAM_AUTH, 502),
        (401, OPENAI, Kind.UPSTREAM_AUTH, 502),
        (402, OPENAI, Kind.UPSTREAM_QUOTA, 502),
        (403, OPENAI, Kind.UPSTREAM_AUTH, 502),
        (404, OPENAI, Kind.UPSTREAM_NOT_FOUND, 502),
        (408, OPENAI, Kind.TIMEOUT, 504),
        (409, OPENAI, Kind.UPSTREAM_ERROR, 503),
        (413, OPENAI, Kind.TOO_LARGE, 413),
        (422, OPENAI, Kind.BAD_REQUEST, 400),
        (429, OPENAI, Kind.RATE_LIMITED, 429),
        (429, b'{"error": {"code": "insufficient_quota"}}', Kind.UPSTREAM_QUOTA, 502),
        (498, OPENAI, Kind.OVERLOADED, 503),
        (499, OPENAI, Kind.UPSTREAM_ERROR, 503),
        (500, OPENAI, Kind.UPSTREAM_ERROR, 503),
        (502, b"<html>", Kind.UPSTREAM_ERROR, 503),
        (503, b"", Kind.UPSTREAM_ERROR, 503),
        (504, b"", Kind.TIMEOUT, 504),
        (529, OPENAI, Kind.OVERLOADED, 503),
    ],
)
def test_the_decision_table(status: int, body: bytes, kind: Kind, answered: int):
    failure = failure_of(status, {}, body)
    assert failure.kind is kind
    assert failure.status == answered
    assert failure.upstream_status == status


def test_only_the_callers_own_fault_ends_the_plan():
    assert failure_of(400, {}, OPENAI).reach is Reach.REQUEST
    for status in (401, 404, 408, 409, 429, 500, 503, 529):
        assert failure_of(status, {}, OPENAI).reach is not Reach.REQUEST


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "2"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:10 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after": "999999"}, 3600.0),
    ],
)
def test_the_wish_to_wait_is_read_in_every_form(headers: dict[str, str], seconds: float | None):
    assert retry_after_s(headers, now=1445412480.0) == seconds
