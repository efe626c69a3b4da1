"""Which deployments rest, and for how long."""

from dataclasses import replace

import pytest

from gateway.routing.breaker import (
    FAILURES_TO_REST,
    LONG_REST_S,
    RECENT,
    REPLAY_SAMPLES_MIN,
    REST_S,
    REST_S_MAX,
    TTFT_SAMPLES_MIN,
    UNKNOWN_MAX,
    Breaker,
)
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt

A, A2, B = Attempt("acme", "a-1"), Attempt("acme", "a-2"), Attempt("zeus", "z-1")
KNOWN = {(one.provider, one.model) for one in (A, A2, B)}
BROKEN = Failure(Kind.UPSTREAM_ERROR, "x")


def failed(health: Breaker, attempt: Attempt = A, times: int = 1, now: float = 0.0) -> bool:
    rests = False
    for _ in range(times):
        health.began(attempt, now)
        rests = health.failed(attempt, BROKEN, now)
    return rests


def test_some_failures_in_a_row_put_a_deployment_last_and_leave_nothing_out() -> None:
    health = Breaker(KNOWN)
    assert not failed(health, times=FAILURES_TO_REST - 1)
    assert health.order((A, B), 0.0) == (A, B)
    assert failed(health)
    assert health.order((A, B), 0.0) == (B, A)
    assert health.order((A,), 0.0) == (A,)


def test_a_success_in_between_forgets_the_row() -> None:
    health = Breaker(KNOWN)
    failed(health, times=FAILURES_TO_REST - 1)
    health.worked(A)
    assert not failed(health, times=FAILURES_TO_REST - 1)


def test_the_same_request_counts_once_where_it_may_be_its_own_fault() -> None:
    health = Breaker(KNOWN)
    own_fault = replace(BROKEN, upstream_status=500)
    for cause in (1, 1, 1, 2, 1, 2):
        assert not health.failed(A, own_fault, 0.0, cause)
    assert health.order((A, B), 0.0) == (A, B)
    assert health.failed(A, own_fault, 0.0, 3)  # a third one: it is the deployment
    for _ in range(FAILURES_TO_REST - 1):
        assert not health.failed(B, replace(BROKEN, upstream_status=503), 0.0, 1)
    assert health.failed(B, replace(BROKEN, upstream_status=503), 0.0, 1)


def test_a_share_of_failures_is_enough_without_a_row() -> None:
    health = Breaker(KNOWN)
    rests = False
    for i in range(RECENT):
        health.began(A, 0.0)
        if i % 2:
            rests = health.failed(A, BROKEN, 0.0) or rests
        else:
            health.worked(A)
    assert rests


def test_after_its_rest_one_caller_probes_and_the_others_go_elsewhere() -> None:
    health = Breaker(KNOWN)
    failed(health, times=FAILURES_TO_REST)
    assert health.order((A, B), REST_S) == (A, B)
    health.began(A, REST_S)
    assert health.order((A, B), REST_S) == (B, A)
    health.worked(A)
    assert health.order((A, B), REST_S) == (A, B)


def test_a_failed_probe_doubles_the_rest_up_to_a_bound() -> None:
    health = Breaker(KNOWN)
    failed(health, times=FAILURES_TO_REST)
    now, rests = 0.0, []
    for _ in range(6):
        began = now
        while health.resting(A, now):
            now += 1.0
        rests.append(now - began)
        failed(health, now=now)
    assert rests[:3] == [REST_S, 2 * REST_S, 4 * REST_S]
    assert max(rests) == REST_S_MAX


def test_a_probe_that_was_let_go_lets_somebody_else_probe() -> None:
    health = Breaker(KNOWN)
    failed(health, times=FAILURES_TO_REST)
    health.began(A, REST_S)
    health.cancelled(A)
    assert health.order((A, B), REST_S) == (A, B)


def test_a_wish_to_wait_is_kept_to_from_the_first_failure() -> None:
    health = Breaker(KNOWN)
    health.failed(A, Failure(Kind.RATE_LIMITED, "x", retry_after_s=7), 10.0)
    assert health.order((A, B), 16.9) == (B, A)
    assert health.order((A, B), 17.0) == (A, B)
    assert health.order((A2, B), 16.9) == (A2, B)  # limits are for each model


@pytest.mark.parametrize(
    ("failure", "whole"),
    [
        (Failure(Kind.UPSTREAM_AUTH, "x", upstream_status=401), True),
        (Failure(Kind.UPSTREAM_QUOTA, "x", upstream_status=402), True),
        (Failure(Kind.UPSTREAM_FORBIDDEN, "x", upstream_status=403), False),
        (Failure(Kind.UPSTREAM_NOT_FOUND, "x", upstream_status=404), False),
    ],
)
def test_what_only_the_operator_can_mend_rests_long(failure: Failure, whole: bool) -> None:
    health = Breaker(KNOWN)
    assert health.failed(A, failure, 0.0)
    assert health.order((A, B), LONG_REST_S - 1) == (B, A)
    assert health.resting(A2, LONG_REST_S - 1) is whole
    assert health.order((A, B), LONG_REST_S) == (A, B)


@pytest.mark.parametrize(
    "kind", [Kind.BAD_REQUEST, Kind.CONTEXT_LENGTH, Kind.TOO_LARGE, Kind.UNSUPPORTED]
)
def test_a_callers_fault_is_no_failure(kind: Kind) -> None:
    health = Breaker(KNOWN)
    for _ in range(50):
        health.failed(A, Failure(kind, "x"), 0.0)
    assert not health.resting(A, 0.0)


def test_a_callers_fault_does_not_end_the_rest_that_a_refused_key_began() -> None:
    health = Breaker(KNOWN)
    health.failed(A, Failure(Kind.UPSTREAM_AUTH, "x", upstream_status=401), 0.0)
    health.began(A2, 1.0)
    health.failed(A2, Failure(Kind.BAD_REQUEST, "x"), 1.0)
    assert health.resting(A, 1.0)
    assert health.order((A, A2, B), 1.0) == (B, A, A2)


def test_a_voice_that_is_not_there_rests_alone_and_at_once() -> None:
    health = Breaker(KNOWN)
    missing, other = replace(A, voice="nobody"), replace(A, voice="somebody")
    assert health.failed(missing, Failure(Kind.UPSTREAM_NOT_FOUND, "x"), 0.0)
    assert health.resting(missing, 1.0)
    assert not health.resting(other, 1.0)
    assert not health.resting(A, 1.0)


def test_a_probe_whose_request_was_at_fault_lets_somebody_else_probe() -> None:
    health = Breaker(KNOWN)
    failed(health, times=FAILURES_TO_REST)
    health.began(A, REST_S)
    health.failed(A, Failure(Kind.CONTEXT_LENGTH, "x"), REST_S)
    assert health.order((A, B), REST_S) == (A, B)


def test_a_limit_that_leaves_nothing_rests_before_the_first_refusal() -> None:
    health = Breaker(KNOWN)
    health.rate_limited_until(A, 3.0, 0.0)
    assert health.order((A, B), 2.9) == (B, A)
    assert health.order((A, B), 3.0) == (A, B)


def test_models_that_callers_invent_are_bounded_and_push_out_no_known_one() -> None:
    health = Breaker(KNOWN)
    failed(health, times=FAILURES_TO_REST)
    for i in range(10 * UNKNOWN_MAX):
        health.failed(Attempt("acme", f"m{i}"), BROKEN, 0.0)
    assert sum(len(one.parts) for one in health._providers.values()) <= UNKNOWN_MAX + len(KNOWN) + 1
    assert health.resting(A, 0.0)


def test_the_time_that_most_first_tokens_take_is_known_after_some() -> None:
    health = Breaker(KNOWN)
    for i in range(TTFT_SAMPLES_MIN - 1):
        health.record_ttft(A, 0.1 + i / 1000)
    assert health.ttft_p95_s(A) is None
    health.record_ttft(A, 9.0)
    p95 = health.ttft_p95_s(A)
    assert p95 is not None
    assert 0.1 < p95 < 1.0


def test_a_provider_rests_with_any_known_deployment_of_it_and_for_nothing_invented() -> None:
    health = Breaker(KNOWN)
    failed(health, Attempt("acme", "invented"), times=FAILURES_TO_REST)
    assert not health.provider_rests("acme", 0.0)

    failed(health, A2, times=FAILURES_TO_REST)
    assert health.provider_rests("acme", 0.0)
    assert not health.provider_rests("zeus", 0.0)
    assert not health.provider_rests("acme", REST_S)


def test_a_provider_rests_after_a_refused_key() -> None:
    health = Breaker(KNOWN)
    health.failed(Attempt("zeus", "invented"), Failure(Kind.UPSTREAM_AUTH, "x"), 0.0)

    assert health.provider_rests("zeus", LONG_REST_S - 1)


def test_other_processes_are_told_when_a_rest_begins_and_when_it_ends() -> None:
    health = Breaker(KNOWN)
    told: list[tuple[str, str, float]] = []
    health.on_rest = lambda *rest: told.append(rest)
    failed(health, times=FAILURES_TO_REST - 1)
    health.worked(B)
    assert not told
    failed(health)
    assert told == [("acme", "a-1", REST_S)]
    health.rate_limited_until(A, REST_S + 0.1, 0.0)
    assert len(told) == 1  # hardly longer
    health.worked(A)
    health.worked(A)
    assert told[1:] == [("acme", "a-1", 0.0)]


def test_what_another_process_tells_is_not_told_again() -> None:
    health = Breaker(KNOWN)
    told: list[tuple[str, str, float]] = []
    health.on_rest = lambda *rest: told.append(rest)
    health.hear("acme", "*", LONG_REST_S, 10.0)
    assert health.order((A, B), 11.0) == (B, A)
    assert health.provider_rests("acme", 11.0)
    health.hear("acme", "*", 0.0, 12.0)
    assert health.order((A, B), 12.0) == (A, B)
    assert not told


def test_a_rest_that_is_heard_of_shortens_none() -> None:
    health = Breaker(KNOWN)
    failed(health, times=FAILURES_TO_REST)
    health.hear("acme", "a-1", 1.0, 0.0)
    assert health.resting(A, REST_S - 0.1)


def test_a_provider_that_did_not_change_keeps_its_health_and_another_begins_anew() -> None:
    health = Breaker(KNOWN)
    for attempt in (A, B):
        failed(health, attempt, FAILURES_TO_REST)
    new = health.renew(KNOWN, {"acme"})
    assert new.order((A, A2, B), 0.0) == (A2, B, A)
    # what sessions of before still learn holds for both
    health.worked(A)
    assert new.order((A, A2, B), 0.0) == (A, A2, B)
    health.failed(A2, Failure(Kind.UPSTREAM_AUTH, "x"), 0.0)
    assert new.resting(A, 0.0)


def test_what_sessions_of_before_see_of_a_provider_that_changed_is_told_to_nobody() -> None:
    told: list[str] = []
    health = Breaker(KNOWN)
    health.on_rest = lambda provider, part, seconds: told.append(provider)
    health.record_ttft(B, 0.1)  # it is known
    first = health.renew(KNOWN, {"acme", "zeus"})
    second = first.renew(KNOWN, {"acme"})
    refused = Failure(Kind.UPSTREAM_AUTH, "x")
    for before in (health, first):
        before.failed(B, refused, 0.0)
        assert not second.resting(B, 0.0)
    assert told == []
    health.failed(A, refused, 0.0)
    second.failed(B, refused, 0.0)
    assert told == ["acme", "zeus"]


def test_parts_that_no_configuration_names_any_more_are_bounded() -> None:
    health = Breaker(KNOWN)
    for i in range(3 * UNKNOWN_MAX):
        attempt = Attempt("acme", f"m{i}")
        health = health.renew({attempt.deployment}, {"acme", "zeus"})
        health.record_ttft(attempt, 0.1)
    assert len(health._providers["acme"].parts) <= UNKNOWN_MAX + 1


def test_how_soon_replays_bring_words_is_known_after_a_few() -> None:
    health = Breaker()
    for _ in range(REPLAY_SAMPLES_MIN - 1):
        health.record_replay(A, 0.2)
    assert health.replay_p95_s(A) is None
    health.record_replay(A, 0.2)
    assert health.replay_p95_s(A) == 0.2
    assert health.ttft_p95_s(A) is None
