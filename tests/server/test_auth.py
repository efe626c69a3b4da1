"""Who belongs here."""

import base64
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.auth import TOKEN_CHARS_MAX, VERIFIED_MAX, Authenticator, Principal, mint
from gateway.upstreams.errors import Failure
from tests.conversations.hostile import anything, assert_is_a_clear_refusal

KEYS = {"APIone": "1" * 40, "APItwo": "2" * 40}
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def an_authenticator(clock: Clock | None = None) -> Authenticator:
    return Authenticator(KEYS, leeway_s=10, now=clock or Clock())


def a_token(secret: str = KEYS["APIone"], algorithm: str = "HS256", **changes: object) -> str:
    claims = {
        "iss": "APIone",
        "sub": "agent",
        "nbf": NOW,
        "exp": NOW + 600,
        "inference": {"perform": True},
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, secret, algorithm=algorithm)


def signed(payload: str, secret: str = KEYS["APIone"]) -> str:
    """A token with `payload` as it is, whatever a library would make of it."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    start = f"{part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{part(payload.encode())}"
    signature = jwt.get_algorithm_by_name("HS256").sign(start.encode(), secret.encode())
    return f"{start}.{part(signature)}"


def unsigned() -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": "APIone", "exp": NOW + 600, "inference": {"perform": True}}
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def test_a_clients_token_is_accepted_and_says_who_asks() -> None:
    token = mint("APItwo", KEYS["APItwo"], identity="agent", ttl_s=600, now=NOW)
    assert an_authenticator().authenticate(f"Bearer {token}") == Principal("APItwo", "agent")


def test_the_scheme_is_not_case_sensitive() -> None:
    assert isinstance(an_authenticator().authenticate(f"bearer {a_token()}"), Principal)


@pytest.mark.parametrize(
    ("authorization", "word"),
    [
        (None, "missing"),
        ("", "missing"),
        ("Bearer", "malformed"),
        ("Basic abc", "malformed"),
        ("Bearer not.a.jwt", "malformed"),
        ("Bearer " + "x" * (TOKEN_CHARS_MAX + 1), "malformed"),
        (f"Bearer {unsigned()}", "algorithm"),
        (f"Bearer {a_token(algorithm='HS512', secret='1' * 64)}", "algorithm"),
        (f"Bearer {a_token(iss='APInobody')}", "unknown API key"),
        (f"Bearer {a_token(iss=None)}", "unknown API key"),
        (f"Bearer {a_token(secret=KEYS['APItwo'])}", "signature"),
        (f"Bearer {a_token(exp=NOW - 11)}", "expired"),
        (f"Bearer {a_token(exp=None)}", "expiry"),
        (f"Bearer {a_token(nbf=NOW + 11)}", "not valid yet"),
    ],
)
def test_who_cannot_show_a_good_token_is_refused_with_401(
    authorization: str | None, word: str
) -> None:
    refused = an_authenticator().authenticate(authorization)
    assert isinstance(refused, Failure)
    assert refused.status == 401
    assert word in refused.message


@pytest.mark.parametrize("grant", [None, {}, {"perform": False}, {"perform": "yes"}, "perform"])
def test_a_good_token_without_the_grant_is_refused_with_403(grant: object) -> None:
    refused = an_authenticator().authenticate(f"Bearer {a_token(inference=grant)}")
    assert isinstance(refused, Failure)
    assert refused.status == 403


def test_clocks_may_differ_by_the_leeway() -> None:
    clock = Clock()
    token = a_token(nbf=NOW + 9, exp=NOW + 10)
    authenticator = an_authenticator(clock)
    assert isinstance(authenticator.authenticate(f"Bearer {token}"), Principal)
    clock.now = NOW + 19
    assert isinstance(an_authenticator(clock).authenticate(f"Bearer {token}"), Principal)


def test_a_remembered_token_is_refused_once_it_has_expired() -> None:
    clock = Clock()
    authenticator, token = an_authenticator(clock), a_token()
    assert isinstance(authenticator.authenticate(f"Bearer {token}"), Principal)
    clock.now = NOW + 609
    assert isinstance(authenticator.authenticate(f"Bearer {token}"), Principal)
    clock.now = NOW + 610
    assert isinstance(authenticator.authenticate(f"Bearer {token}"), Failure)


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize(
    "time",
    ["NaN", "Infinity", "-Infinity", "true", '"soon"', "[]", "9" * 310, "-" + "9" * 2000, "1e300"],
)
def test_a_time_that_is_none_is_refused_with_words(claim: str, time: str) -> None:
    claims = {"iss": '"APIone"', "exp": str(NOW + 600), "nbf": str(NOW)} | {claim: time}
    said = ", ".join(f'"{name}": {value}' for name, value in claims.items())
    token = signed(f'{{{said}, "inference": {{"perform": true}}}}')
    refused = an_authenticator().authenticate(f"Bearer {token}")
    assert isinstance(refused, Failure)
    assert refused.status == 401
    assert refused.message == "malformed token: claims 'exp' and 'nbf': expected Unix seconds"


@pytest.mark.parametrize("claim", ["sub", "jti"])
@pytest.mark.parametrize("value", [5, [], {}, True])
def test_a_claim_that_is_no_string_is_named(claim: str, value: object) -> None:
    payload = {"iss": "APIone", "exp": NOW + 600, "inference": {"perform": True}, claim: value}
    refused = an_authenticator().authenticate(f"Bearer {signed(json.dumps(payload))}")
    assert isinstance(refused, Failure)
    assert refused.status == 401
    assert refused.message == f"malformed token: claim '{claim}': expected a string"


def test_a_token_without_a_subject_is_accepted() -> None:
    token = a_token(sub=None)
    assert an_authenticator().authenticate(f"Bearer {token}") == Principal("APIone", "")


def test_claims_that_are_nested_deep_are_malformed() -> None:
    for payload in ("[" * 1400 + "]" * 1400, '{"a":' + "[" * 1400 + "]" * 1400 + "}"):
        refused = an_authenticator().authenticate(f"Bearer {signed(payload)}")
        assert isinstance(refused, Failure)
        assert (refused.status, refused.message[:9]) == (401, "malformed")


@given(
    anything(
        {
            "iss": "APIone",
            "sub": "agent",
            "exp": NOW + 600,
            "nbf": NOW,
            "inference": {"perform": True},
        }
    )
)
def test_whatever_a_token_claims_it_is_accepted_or_clearly_refused(payload: str) -> None:
    caller = an_authenticator().authenticate(f"Bearer {signed(payload)}")
    if isinstance(caller, Failure):
        assert_is_a_clear_refusal(caller)


@given(st.text(max_size=60))
def test_whatever_the_header_holds_is_refused(header: str) -> None:
    refused = an_authenticator().authenticate(f"Bearer {header}")
    assert isinstance(refused, Failure)
    assert_is_a_clear_refusal(refused)


def test_no_more_tokens_are_remembered_than_the_bound() -> None:
    authenticator = an_authenticator()
    for i in range(VERIFIED_MAX + 5):
        authenticator.authenticate(f"Bearer {a_token(sub=str(i))}")
    assert len(authenticator._verified) == VERIFIED_MAX
