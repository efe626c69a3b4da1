"""What a provider's error means, whatever its form."""

from typing import Any

import orjson
import pytest

from gateway.providers._shared.chat_errors import (
    PAUSE_S,
    RULES,
    exhausted_for_s,
    failure_in_stream,
    failure_of,
    read_error,
    read_error_object,
    retry_after_s,
    rule_of,
)
from gateway.upstreams.errors import FailureScope, Kind, Rest

OPENAI = b'{"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}'


def body(message: str = "m", **words: object) -> bytes:
    return orjson.dumps({"error": {"message": message, **words}})


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (OPENAI, "m", "c"),
        (b'[{"error": {"code": 429, "message": "m", "status": "S"}}]', "m", "429"),
        (b'{"code": "c", "error": "m"}', "m", "c"),
        (b'{"type": "error", "error": {"type": "t", "message": "m"}}', "m", ""),
        (b'{"object": "error", "message": "m", "type": "t", "code": 40303}', "m", "40303"),
        (b'{"message": "m", "type": "t", "param": null, "code": "c"}', "m", "c"),
        (b'{"statusCode": 401, "message": "m"}', "m", "401"),
        (b'{"detail": "m"}', "m", ""),
        (b'{"detail": [{"loc": ["body"]}]}', '[{"loc":["body"]}]', ""),
        (b"<html><body><h1>502 Bad Gateway</h1></body></html>", "502 Bad Gateway", ""),
        (b"", "", ""),
        (b"[]", "", ""),
        (b"null", "", ""),
        (b"\xff\xfe", "\ufffd\ufffd", ""),
    ],
)
def test_every_form_of_error_body_is_read(body: bytes, message: str, code: str) -> None:
    error = read_error(body)
    assert error.message == message
    assert error.code == code


def test_a_key_in_an_upstreams_message_is_not_shown() -> None:
    body = b'{"error": {"message": "Incorrect API key provided: sk-proj-abcdef1234567890"}}'
    failure = failure_of(401, {}, body)
    assert "***" not in failure.message  # not even that there is one
    assert failure.upstream_text == "Incorrect API key provided: ***"


def test_a_long_message_is_cut() -> None:
    assert len(read_error(b'{"error": {"message": "' + b"x" * 9000 + b'"}}').message) == 500


@pytest.mark.parametrize(
    ("status", "body", "kind", "answered"),
    [
        (400, OPENAI, Kind.REQUEST_REFUSED, 400),
        (400, b'{"error": {"code": "context_length_exceeded"}}', Kind.CONTEXT_LENGTH, 400),
        (400, b'{"error": {"message": "prompt is too long: 9"}}', Kind.CONTEXT_LENGTH, 400),
        (400, b'{"error": {"code": "content_filter"}}', Kind.CONTENT_POLICY, 400),
        (400, b'[{"error": {"message": "API key not valid"}}]', Kind.UPSTREAM_AUTH, 502),
        (400, b'{"code": "x", "error": "Incorrect API key provided"}', Kind.UPSTREAM_AUTH, 502),
        (401, OPENAI, Kind.UPSTREAM_AUTH, 502),
        (402, OPENAI, Kind.UPSTREAM_QUOTA, 502),
        (403, OPENAI, Kind.UPSTREAM_FORBIDDEN, 502),
        (404, OPENAI, Kind.UPSTREAM_NOT_FOUND, 502),
        (408, OPENAI, Kind.TIMEOUT, 504),
        (409, OPENAI, Kind.UPSTREAM_ERROR, 503),
        (413, OPENAI, Kind.TOO_LARGE, 413),
        (422, OPENAI, Kind.REQUEST_REFUSED, 400),
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
def test_the_decision_table(status: int, body: bytes, kind: Kind, answered: int) -> None:
    failure = failure_of(status, {}, body)
    assert failure.kind is kind
    assert failure.status == answered
    assert failure.upstream_status == status


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens.",
        "request (4267 tokens) exceeds the available context size (4096 tokens)",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "prompt is too long: 213462 tokens > 200000 maximum",
        "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
        "Input is too long for requested model.",
        "Too many tokens: 9000",
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_window_that_is_too_small_is_known_in_the_words_of_every_server(
    message: str, status: int
) -> None:
    assert failure_of(status, {}, body(message)).kind is Kind.CONTEXT_LENGTH


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "registry.ollama.ai/library/gemma3:4b does not support tools"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser'),
        (400, "At most 0 image(s) may be provided in one prompt."),
        (404, "No endpoints found that support image input"),
        (500, "image input is not supported - hint: you may need to provide the mmproj"),
        (400, "Failed to generate JSON. Please adjust your prompt."),
        (400, "Tool calling is not supported with this model"),
    ],
)
def test_what_a_model_cannot_do_is_tried_elsewhere_and_rests_nobody(
    status: int, message: str
) -> None:
    failure = failure_of(status, {}, body(message))
    assert failure.kind is Kind.UNABLE
    assert failure.policy.scope is FailureScope.ATTEMPT
    assert failure.policy.rest is Rest.NOTHING


def test_no_providers_answer_ends_the_plan_for_the_others() -> None:
    for status in (400, 401, 404, 408, 409, 429, 500, 503, 529):
        assert failure_of(status, {}, OPENAI).policy.scope is not FailureScope.REQUEST


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
def test_the_wish_to_wait_is_read_in_every_form(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_s(headers, now=1445412480.0) == seconds


ROWS = [
    ("the request is too long for this model", 400, body(code="1261")),
    ("the provider's policy forbids it", 403, body(code="content_policy_violation")),
    ("the operator's account is empty", 429, body(code="1113")),
    ("the operator's key is refused", 400, body("Incorrect API key provided")),
    ("the operator's spend limit is reached", 400, body("You have reached your usage limits")),
    ("the model wrote a malformed tool call", 400, body(code="tool_use_failed")),
    ("the model cannot do this", 400, body("gemma3:4b does not support tools")),
    ("a parameter is not supported here", 400, body('Unknown name "store": Cannot find field')),
    ("one request exceeds the rate limit by itself", 429, body("Request too large for gpt-x")),
    ("refused", 422, OPENAI),
    ("key refused", 434, OPENAI),
    ("model not allowed to this key", 403, OPENAI),
    ("payment required", 402, OPENAI),
    ("model or path unknown", 404, OPENAI),
    ("the upstream timed out", 408, OPENAI),
    ("conflict", 409, OPENAI),
    ("body too large", 413, b"<html>Payload Too Large</html>"),
    ("failed dependency", 424, OPENAI),
    ("the provider is full", 429, body(code="1305")),
    ("rate limit", 429, body(code="rate_limit_exceeded")),
    ("no capacity for this tier", 498, OPENAI),
    ("cancelled on the way", 499, b""),
    ("the upstream timed out inside", 504, b"<html>"),
    ("overloaded", 529, OPENAI),
    ("server error", 520, b""),
    ("a refusal by another status", 418, b"{}"),
    ("not understood", 999, b"{}"),
]


@pytest.mark.parametrize(("case", "status", "sent"), ROWS, ids=[row[0] for row in ROWS])
def test_every_row_of_the_table_is_reached(case: str, status: int, sent: bytes) -> None:
    assert rule_of(status, read_error(sent)).case == case


def test_no_row_of_the_table_is_without_a_test() -> None:
    assert [row[0] for row in ROWS] == [rule.case for rule in RULES]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported with this model.", "max_tokens"),
        ('Invalid JSON payload received. Unknown name "store": Cannot find field.', "store"),
        ("Unrecognized request argument supplied: verbosity", "verbosity"),
        ("property 'logprobs' is unsupported", "logprobs"),
        ("temperature: Extra inputs are not permitted", "temperature"),
        ("Function tools with reasoning_effort are not supported for x", "reasoning_effort"),
    ],
)
def test_the_parameter_that_is_refused_is_found_in_the_message(
    message: str, param: str | None
) -> None:
    failure = failure_of(400, {}, body(message))
    assert failure.kind is Kind.UNSUPPORTED
    assert failure.param == param


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"type": "overloaded_error", "message": "m"}}, Kind.OVERLOADED),
        ({"error": {"code": 429, "message": "m"}}, Kind.RATE_LIMITED),
        ({"error": {"code": "server_error", "message": "m"}}, Kind.UPSTREAM_ERROR),
        ({"error": {"code": "rate_limit_exceeded", "message": "m"}}, Kind.RATE_LIMITED),
        (
            {"error": {"message": "m", "metadata": {"error_type": "provider_overloaded"}}},
            Kind.OVERLOADED,
        ),
        ({"error": "text"}, Kind.UPSTREAM_ERROR),
    ],
)
def test_an_error_inside_a_stream_is_judged_by_its_words(event: dict[str, Any], kind: Kind) -> None:
    assert failure_in_stream(read_error_object(event)).kind is kind


def test_geminis_wish_to_wait_stands_in_the_body() -> None:
    details = [{"@type": "x"}, {"retryDelay": "12s"}]
    sent = orjson.dumps([{"error": {"code": 429, "message": "m", "details": details}}])
    assert failure_of(429, {}, sent).retry_after_s == 12.0


def test_a_provider_that_knows_whether_to_ask_again_is_believed() -> None:
    assert failure_of(500, {}, b"").retry_same_after_s == PAUSE_S
    assert failure_of(500, {"x-should-retry": "false"}, b"").retry_same_after_s is None
    assert failure_of(503, {"retry-after": "20"}, b"").retry_same_after_s is None
    assert (
        failure_of(429, {"x-should-retry": "true", "retry-after": "0.5"}, b"").retry_same_after_s
        == 0.5
    )


DATE = {"date": "Wed, 21 Oct 2015 07:28:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"}, 9.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2m59.56s"}, 179.56),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        (
            {
                **DATE,
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2015-10-21T07:28:30Z",
            },
            30.0,
        ),
    ],
)
def test_what_the_limits_headers_leave_is_read(
    headers: dict[str, str], seconds: float | None
) -> None:
    left = exhausted_for_s(headers)
    assert left == (None if seconds is None else pytest.approx(seconds))


def test_a_date_counts_from_the_answers_own_date() -> None:
    headers = {**DATE, "retry-after": "Wed, 21 Oct 2015 07:28:10 GMT"}
    assert retry_after_s(headers) == 10.0
