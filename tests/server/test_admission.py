"""Who may come in without a token, and who may not."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from gateway.server.admission import Admission, RequestContext, SessionLimiter, _client_ids
from gateway.server.auth import Authenticator, Principal, mint
from gateway.server.connections import AddressLimit
from gateway.settings.server import LimitsConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcome import NANO, Outcome
from gateway.upstreams.errors import Failure, Kind

NETWORKS = [ip_network("127.0.0.0/8"), ip_network("::1/128"), ip_network("172.31.0.0/16")]


def a_proxied_door(*trusted: str) -> Admission:
    networks = [ip_network(one) for one in trusted]
    limiter = SessionLimiter(LimitsConfig())
    return Admission(Authenticator({"key": "secret"}), limiter, Metrics(), None, networks)


def a_door(**limits: int) -> Admission:
    limiter = SessionLimiter(LimitsConfig(**limits))
    return Admission(Authenticator({"key": "secret"}), limiter, Metrics())


def scope(client: tuple[str, int] | None, authorization: str | None = None) -> dict[str, Any]:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return {"type": "http", "client": client, "headers": headers}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "172.31.9.9", "::ffff:127.0.0.1"])
def test_a_named_network_needs_no_token(address: str) -> None:
    visit = a_door().admit(scope((address, 1)), "eot_multi", NETWORKS)

    assert isinstance(visit, RequestContext)
    assert visit.caller.identity == "anonymous"
    with visit:
        pass


@pytest.mark.parametrize(
    "client", [("10.0.0.1", 1), ("::2", 1), ("::ffff:10.0.0.1", 1), ("", 1), ("x", 1), None]
)
def test_everybody_else_does(client: tuple[str, int] | None) -> None:
    refused = a_door().admit(scope(client), "eot_multi", NETWORKS)

    assert isinstance(refused, Failure)
    assert refused.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize(("forwarded", "enters"), [(b"172.31.1.1", True), (b"10.1.1.1", False)])
def test_behind_a_trusted_proxy_its_header_says_who_calls(forwarded: bytes, enters: bool) -> None:
    call = scope(("127.0.0.1", 1))
    call["headers"].append((b"x-forwarded-for", forwarded))
    visit = a_proxied_door("127.0.0.0/8").admit(call, "eot_multi", NETWORKS)

    assert isinstance(visit, RequestContext) == enters
    if isinstance(visit, RequestContext):
        with visit:
            assert visit.address == forwarded.decode()


def test_behind_a_proxy_each_caller_has_places_of_its_own() -> None:
    networks = [ip_network("127.0.0.0/8")]
    door = Admission(
        Authenticator({"key": "secret"}),
        SessionLimiter(LimitsConfig()),
        Metrics(),
        None,
        networks,
        AddressLimit(1),
    )

    def enter(forwarded: bytes | None) -> RequestContext | Failure:
        call = scope(("127.0.0.1", 1))
        if forwarded is not None:
            call["headers"].append((b"x-forwarded-for", forwarded))
        return door.admit(call, "eot_multi", NETWORKS)

    first = enter(b"172.31.1.1")
    second = enter(b"172.31.1.1")
    assert isinstance(first, RequestContext)
    assert isinstance(second, Failure)
    assert second.kind is Kind.TOO_MANY_CONNECTIONS
    assert isinstance(enter(b"172.31.1.2"), RequestContext)
    assert isinstance(enter(None), RequestContext)  # of the proxy itself, whose places others take
    assert isinstance(enter(None), RequestContext)
    with first:
        pass
    assert isinstance(enter(b"10.1.1.1"), Failure)  # without a token; its place is free again
    assert isinstance(enter(b"172.31.1.1"), RequestContext)
    assert enter(b"10.1.1.1").kind is Kind.UNAUTHENTICATED  # type: ignore[union-attr]


def test_a_caller_who_writes_that_header_itself_stays_who_it_is() -> None:
    call = scope(("10.0.0.1", 1))
    call["headers"].append((b"x-forwarded-for", b"127.0.0.1"))

    assert isinstance(a_proxied_door("127.0.0.0/8").admit(call, "eot_multi", NETWORKS), Failure)


def test_a_route_without_such_networks_asks_everybody() -> None:
    assert isinstance(a_door().admit(scope(("127.0.0.1", 1)), "bargein"), Failure)


def test_a_wrong_token_is_not_overlooked_for_its_network() -> None:
    refused = a_door().admit(scope(("127.0.0.1", 1), "Bearer x"), "eot_multi", NETWORKS)

    assert isinstance(refused, Failure)


def test_who_has_no_token_keeps_nobody_out_who_has_one() -> None:
    secret = "s" * 32
    limiter = SessionLimiter(LimitsConfig(sessions=8))
    door = Admission(Authenticator({"key": secret}), limiter, Metrics())
    inside = [door.admit(scope(("127.0.0.1", 1)), "eot_multi", NETWORKS) for _ in range(2)]
    assert all(isinstance(one, RequestContext) for one in inside)
    refused = door.admit(scope(("127.0.0.1", 1)), "eot_multi", NETWORKS)
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.status) == (Kind.TOO_MANY_SESSIONS, 429)
    token = mint("key", secret, identity="a", ttl_s=60)
    for _ in range(6):
        assert isinstance(
            door.admit(scope(("127.0.0.1", 1), f"Bearer {token}"), "chat"), RequestContext
        )


def test_the_anonymous_are_bounded_and_turned_away_at_the_end() -> None:
    door = a_door(sessions_per_key=1)
    first = door.admit(scope(("127.0.0.1", 1)), "eot_multi", NETWORKS)
    second = door.admit(scope(("127.0.0.1", 2)), "eot_multi", NETWORKS)

    assert isinstance(first, RequestContext)
    assert isinstance(second, Failure)
    assert second.kind is Kind.TOO_MANY_SESSIONS
    with first:
        pass
    door.listens = False
    third = door.admit({**scope(("127.0.0.1", 3)), "type": "websocket"}, "eot_multi", NETWORKS)
    assert isinstance(third, Failure)
    assert third.kind is Kind.SHUTTING_DOWN


def test_a_request_on_a_connection_that_is_open_is_served_to_the_end() -> None:
    door = a_door()
    door.listens = False

    visit = door.admit(scope(("127.0.0.1", 1)), "eot_multi", NETWORKS)

    assert isinstance(visit, RequestContext)
    with visit:
        pass


@pytest.mark.parametrize(
    ("kind", "level"),
    [(None, "INFO"), (Kind.BAD_REQUEST, "WARNING"), (Kind.UPSTREAM_AUTH, "ERROR")],
)
def test_a_request_that_failed_is_not_written_as_a_matter_of_course(
    kind: Kind | None, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    request = a_door().admit(scope(("127.0.0.1", 1)), "eot_multi", NETWORKS)
    assert isinstance(request, RequestContext)
    with request:
        if kind is not None:
            request.fail(Failure(kind, "why"))
    (line,) = caplog.records
    assert line.levelname == level
    assert vars(line).get("error") == (None if kind is None else "why")


def test_a_refusal_names_its_status_and_whom_it_met_if_that_is_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "s" * 32
    limiter = SessionLimiter(LimitsConfig(sessions_per_key=1))
    door = Admission(Authenticator({"key": secret}), limiter, Metrics())
    token = mint("key", secret, identity="agent-7", ttl_s=60)
    asked = {**scope(("127.0.0.1", 1), f"Bearer {token}"), "type": "websocket"}
    assert isinstance(door.admit(asked, "stt"), RequestContext)
    assert isinstance(door.admit(asked, "stt"), Failure)
    assert isinstance(door.admit(scope(("127.0.0.1", 1), "Bearer x"), "chat"), Failure)

    full, stranger = (vars(record) for record in caplog.records)
    assert (full["route"], full["status"]) == ("stt", 429)
    assert (full["key"], full["identity"]) == ("key", "agent-7")
    assert (stranger["route"], stranger["status"]) == ("chat", 401)
    assert (stranger["key"], stranger["identity"]) == (None, None)


def test_what_breaks_is_ours(caplog: pytest.LogCaptureFixture) -> None:
    request = a_door().admit(scope(("127.0.0.1", 1)), "eot_multi", NETWORKS)
    assert isinstance(request, RequestContext)
    with pytest.raises(ZeroDivisionError), request:
        1 / 0  # noqa: B018
    (line,) = caplog.records
    assert (line.levelname, vars(line)["outcome"]) == ("ERROR", "internal")


@pytest.mark.parametrize("header", ["x-livekit-room-id", "x-livekit-job-id", "user-agent"])
@pytest.mark.parametrize("value", ["RM_\0", "a\nb", "\x1b[2J", "\x9b2J", "a\u2028b"])
def test_an_identification_with_control_characters_is_refused(header: str, value: str) -> None:
    asked = scope(("127.0.0.1", 1))
    asked["headers"].append((header.encode(), value.encode()))
    refused = a_door().admit(asked, "eot_multi", NETWORKS)

    assert isinstance(refused, Failure)
    assert (refused.status, refused.param) == (400, header)


@pytest.mark.parametrize("value", ["RM_zoë", "日本語", "x" * 500])
def test_an_identification_may_be_of_any_script(value: str) -> None:
    asked = scope(("127.0.0.1", 1))
    asked["headers"].append((b"x-livekit-room-id", value.encode()))
    visit = a_door().admit(asked, "eot_multi", NETWORKS)

    assert isinstance(visit, RequestContext)
    assert _client_ids(visit.scope).room_id == value[:128]
    with visit:
        pass


def test_sessions_at_the_other_workers_take_places_of_the_server() -> None:
    elsewhere = 2
    limiter = SessionLimiter(LimitsConfig(sessions=3), None, None, lambda: elsewhere)
    assert limiter.take("one") is None
    assert isinstance(limiter.take("two"), Failure)
    elsewhere = 1
    assert limiter.take("two") is None


def test_a_browser_offers_its_token_as_a_subprotocol() -> None:
    door = Admission(Authenticator({"key": "s" * 40}), SessionLimiter(LimitsConfig()), Metrics())
    token = mint("key", "s" * 40, identity="page", ttl_s=60)
    offered = ["realtime", f"openai-insecure-api-key.{token}"]
    socket = {**scope(("127.0.0.1", 1)), "type": "websocket", "subprotocols": offered}
    visit = door.admit(socket, "realtime")
    assert isinstance(visit, RequestContext)
    assert visit.caller.identity == "page"
    with visit:
        pass
    offered[1] += "x"
    refused = door.admit(socket, "realtime")
    assert isinstance(refused, Failure)
    assert refused.status == 401


def test_what_a_session_costs_is_counted_as_it_goes_on_and_once() -> None:
    metrics = Metrics()
    metrics.expect(["key"], {})
    door = Admission(Authenticator({}), SessionLimiter(LimitsConfig()), metrics)
    request = RequestContext(door, "stt", Principal("key", "agent"), scope(None), 0.0, "req_1")
    labels = {"key": "key", "model": "ears"}

    def counted() -> float | None:
        return metrics.registry.get_sample_value("parley_cost_total", labels)

    request.record_part(Outcome(label="ears", cost=NANO))
    assert counted() == 1.0
    request.record_part(Outcome(label="ears", cost=NANO))
    assert counted() == 1.0
    with request:
        request.outcome = Outcome(label="ears", cost=3 * NANO)
    assert counted() == 3.0
