from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.providers._openai.realtime import OpenAILive, OpenAIRealtime, RelayedLine, merged
from gateway.providers.azure_openai import AzureLive, AzureRealtime
from gateway.providers.azure_openai import Settings as AzureSettings
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.realtime import ClientEvent, LineFailed, ServerEvent


def line(options: dict[str, Any] | None = None, model: str = "gpt-realtime") -> RelayedLine:
    account = Account(
        "openai", "openai", "https://api.openai.com/v1", "sk-secret-1234567", {"x-own": "1"},
        settings=ProviderSettings(),
    )  # fmt: skip
    return OpenAIRealtime(account).line(Attempt("openai", model, options or {}))


def client(**fields: Any) -> ClientEvent:
    return ClientEvent(fields["type"], fields, orjson.dumps(fields).decode())


def decoded(**fields: Any) -> ServerEvent | LineFailed:
    (event,) = line().decode(orjson.dumps(fields).decode())
    return event


def failed(**fields: Any) -> Failure:
    event = decoded(**fields)
    assert isinstance(event, LineFailed)
    return event.failure


def test_the_vendors_key_goes_out_in_a_header() -> None:
    dial = line(model="gpt realtime&x=1").dial()
    assert isinstance(dial, Dial)
    assert dial.url == "wss://api.openai.com/v1/realtime?model=gpt+realtime%26x%3D1"
    assert dial.headers == {"authorization": "Bearer sk-secret-1234567", "x-own": "1"}


@pytest.mark.parametrize(("bearer", "header"), [(False, "api-key"), (True, "authorization")])
def test_azure_has_a_path_and_a_header_of_its_own(bearer: bool, header: str) -> None:
    account = Account(
        "azure", "azure-openai", "https://x.openai.azure.com", "key",
        settings=AzureSettings(bearer=bearer),
    )  # fmt: skip
    dial = AzureRealtime(account).line(Attempt("azure", "my-deployment")).dial()
    assert isinstance(dial, Dial)
    assert dial.url == "wss://x.openai.azure.com/openai/v1/realtime?model=my-deployment"
    assert list(dial.headers) == [header]


def test_what_the_client_says_is_passed_on_as_it_came() -> None:
    event = ClientEvent("of.tomorrow", {"type": "of.tomorrow"}, '{ "type" : "of.tomorrow" }')
    assert line().encode(event) == (event.text,)
    update = client(type="session.update", session={"voice": "marin"})
    assert line().encode(update) == (update.text,)


def test_the_model_is_that_of_the_url() -> None:
    update = client(type="session.update", session={"model": "openai/gpt-realtime", "tools": []})
    (frame,) = line().encode(update)
    assert orjson.loads(frame) == {"type": "session.update", "session": {"tools": []}}


def test_options_of_a_deployment_are_merged_over_every_update() -> None:
    update = client(type="session.update", session={"audio": {"output": {"voice": "x"}}, "a": 1})
    options = {"audio": {"output": {"voice": "marin"}}, "a": None}
    (frame,) = line(options).encode(update)
    assert orjson.loads(frame)["session"] == {"audio": {"output": {"voice": "marin"}}}


def test_nested_options_are_merged() -> None:
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}) == {"a": {"c": 2, "d": 3}}


def test_what_the_vendor_says_is_passed_on_as_it_came() -> None:
    text = '{ "type":"of.tomorrow", "x": 1 }'
    assert line().decode(text) == (
        ServerEvent("of.tomorrow", {"type": "of.tomorrow", "x": 1}, text),
    )


@pytest.mark.parametrize("frame", ["{", "7", "[]", "{}", '{"type": 7}', b"\xff\x00"])
def test_nonsense_ends_the_line(frame: str | bytes) -> None:
    (event,) = line().decode(frame)
    assert isinstance(event, LineFailed)
    assert event.failure.kind is Kind.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_api_key", Kind.UPSTREAM_AUTH),
        ("insufficient_quota", Kind.UPSTREAM_QUOTA),
        ("rate_limit_exceeded", Kind.RATE_LIMITED),
        ("session_expired", Kind.SESSION_LIMIT),
        ("model_not_found", Kind.UPSTREAM_NOT_FOUND),
    ],
)
def test_errors_about_the_account_end_the_line(code: str, kind: Kind) -> None:
    error = {"type": "invalid_request_error", "code": code, "message": "m"}
    assert failed(type="error", error=error).kind is kind
    response = {"status": "failed", "status_details": {"type": "failed", "error": error}}
    assert failed(type="response.done", response=response).kind is kind


def test_the_account_is_the_operators_affair() -> None:
    error = {"code": "insufficient_quota", "message": "org-1 owes 5 dollars"}
    failure = failed(type="error", error=error)
    assert "org-1" not in failure.message
    assert failure.upstream_text == "org-1 owes 5 dollars"


def test_a_mistake_of_the_clients_is_told_without_secrets() -> None:
    event = decoded(
        type="error",
        event_id="e",
        error={"type": "invalid_request_error", "code": "x", "event_id": "mine",
               "message": "bad header Bearer sk-proj-1234567890", "extra": {"a": 1}},
    )  # fmt: skip
    assert isinstance(event, ServerEvent)
    told = orjson.loads(event.text)
    assert "sk-proj" not in event.text
    assert told["error"]["event_id"] == "mine"
    assert told["event_id"] == "e"


def test_an_error_that_is_nested_too_deep_ends_the_line() -> None:
    deep = "[" * 500 + "]" * 500
    (event,) = line().decode(f'{{"type":"error","error":{{}},"x":{deep}}}')
    assert isinstance(event, LineFailed)


def test_a_failed_response_is_told_without_secrets() -> None:
    details = {"type": "failed", "error": {"code": "server_error", "message": "key sk-abcdefghi"}}
    event = decoded(
        type="response.done", response={"id": "r", "status": "failed", "status_details": details}
    )
    assert isinstance(event, ServerEvent)
    assert "sk-abc" not in event.text
    assert event.body["response"]["id"] == "r"


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1001, "Your session hit the maximum duration of 60 minutes.", Kind.SESSION_LIMIT),
        (3000, "invalid_request_error.invalid_api_key", Kind.UPSTREAM_AUTH),
        (1008, "policy", Kind.UPSTREAM_REFUSED),
        (1013, "", Kind.OVERLOADED),
        (1006, "", Kind.CONNECTION_LOST),
        (1000, "", Kind.CONNECTION_LOST),
    ],
)
def test_a_close_is_a_failure_of_its_kind(code: int, reason: str, kind: Kind) -> None:
    failure = line().closed(code, reason)
    assert failure.kind is kind
    assert failure.upstream_status == code


# -- models that listen and speak at the same time


def live(options: dict[str, Any] | None = None) -> RelayedLine:
    account = Account(
        "openai", "openai", "https://api.openai.com/v1", "sk-secret-1234567",
        settings=ProviderSettings(),
    )  # fmt: skip
    return OpenAILive(account).line(Attempt("openai", "gpt-live-1", options or {}))


def test_the_model_of_a_live_session_is_no_part_of_its_address() -> None:
    dial = live().dial()
    assert isinstance(dial, Dial)
    assert dial.url == "wss://api.openai.com/v1/live/sessions"
    assert dial.headers == {"authorization": "Bearer sk-secret-1234567"}


def test_azure_has_live_sessions_too() -> None:
    account = Account(
        "azure", "azure-openai", "https://x.openai.azure.com", "key", settings=AzureSettings()
    )
    dial = AzureLive(account).line(Attempt("azure", "my-deployment")).dial()
    assert isinstance(dial, Dial)
    assert dial.url == "wss://x.openai.azure.com/openai/v1/live/sessions"
    assert list(dial.headers) == ["api-key"]


def test_a_live_session_starts_with_the_vendors_names() -> None:
    session = {
        "model": "openai/gpt-live-1",
        "delegation": {"type": "responses", "responses": {"model": "openai/gpt-x", "tools": []}},
    }
    (frame,) = live({"audio": {"output": {"voice": "cedar"}}}).encode(
        client(type="session.start", session=session)
    )
    assert orjson.loads(frame)["session"] == {
        "model": "gpt-live-1",
        "audio": {"output": {"voice": "cedar"}},
        "delegation": {"type": "responses", "responses": {"model": "gpt-x", "tools": []}},
    }


def test_an_update_of_a_live_session_names_no_model_of_the_voice() -> None:
    session = {"delegation": {"type": "responses", "responses": {"model": "openai/gpt-x"}}}
    (frame,) = live().encode(client(type="session.update", session=session))
    assert orjson.loads(frame)["session"] == {
        "delegation": {"type": "responses", "responses": {"model": "gpt-x"}}
    }
    other = client(type="session.input_audio.append", audio="")
    assert live().encode(other) == (other.text,)
    odd = client(type="session.start", session=7)
    assert live().encode(odd) == (odd.text,)


def test_a_failure_of_what_was_delegated_is_told_without_secrets() -> None:
    error = {"code": "server_error", "message": "key sk-abcdefghi"}
    event = {"type": "response.failed", "response": {"id": "r", "error": error}}
    told = decoded(type="response.event", delegation_id="d", event=event)
    assert isinstance(told, ServerEvent)
    assert "sk-abc" not in told.text
    assert told.body["event"]["response"]["id"] == "r"
    plain = decoded(type="response.event", event={"type": "response.completed", "response": {}})
    assert isinstance(plain, ServerEvent)
