"""Token + keys + now -> the principal who asks, or why it is refused.

LiveKit's clients send `Authorization: Bearer <JWT>`, HS256, signed with an API secret, a new one
for every request and connection. Claims: `iss` (the API key, which picks the secret), `sub` (an
identity), `nbf`, `exp` (600 s later), `inference: {"perform": true}`; no `iat`. On
/chat/completions the token stands where an OpenAI key would, and /eot/multi comes without one.
A refusal is told before a WebSocket's upgrade: a client retries no 4xx but 408 and 429.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind

VERIFIED_MAX: Final = 4096
"""Verified tokens remembered until they expire; the least recently used are forgotten first."""

TOKEN_CHARS_MAX: Final = 4096
"""A longer token is refused unread; LiveKit's have about 300 characters."""

ALGORITHM: Final = "HS256"

UNIX_S_MAX: Final = 1 << 53
"""Latest time of a claim, in seconds: beyond it a float skips some, and an integer of hundreds of
digits is no float at all."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the API key that signed the token, and the identity it was made for."""

    key: str
    identity: str


class Authenticator:
    """Verifies clients' JWTs against a map of API key -> secret.

    `leeway_s` is the clock skew allowed on `nbf` and `exp`. `now` gives Unix seconds.
    """

    def __init__(
        self,
        keys: Mapping[str, str],
        leeway_s: float = 10.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = dict(keys)
        self._leeway_s = leeway_s
        self._now = now
        self._verified: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    def authenticate(self, authorization: str | None) -> Principal | Failure:
        """The caller behind an `Authorization` header, or why it is refused (401, 403)."""
        if not authorization:
            return _refused("missing Authorization header: expected 'Bearer <token>'")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return _refused("malformed Authorization header: expected 'Bearer <token>'")
        token = token.strip()
        known = self._verified.get(token)
        if known is not None:
            caller, good_until = known
            if self._now() < good_until:
                self._verified.move_to_end(token)
                return caller
            del self._verified[token]
        return self._verify(token)

    def _verify(self, token: str) -> Principal | Failure:
        if len(token) > TOKEN_CHARS_MAX:
            why = f"malformed token: longer than {TOKEN_CHARS_MAX} characters"
            return Failure(Kind.UNAUTHENTICATED, why, bound=Bound.TOKEN_CHARS)
        try:
            header = jwt.get_unverified_header(token)
            claimed: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, RecursionError):  # claims may be nested as deep as a token is long
            return _refused("malformed token: expected a JWT signed with an API secret")
        if header.get("alg") != ALGORITHM:
            return _refused(f"token algorithm is not accepted: expected {ALGORITHM}")
        key = claimed.get("iss")
        secret = self._keys.get(key) if isinstance(key, str) else None
        if secret is None or not isinstance(key, str):
            return _refused(_UNKNOWN)
        try:
            jwt.decode(
                token,
                secret,
                algorithms=[ALGORITHM],
                options={
                    "require": ["exp"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    # for their mistakes there are better words, see `_check_claims`
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
        except jwt.MissingRequiredClaimError:
            return _refused("token has no expiry (claim 'exp')")
        except jwt.PyJWTError:
            return _refused(_UNKNOWN)
        return self._check_claims(token, key, claimed)

    def _check_claims(self, token: str, key: str, claims: Mapping[str, Any]) -> Principal | Failure:
        now = self._now()
        expires, not_before = claims.get("exp"), claims.get("nbf", 0)
        if expires is None or not _is_time(expires) or not _is_time(not_before):
            return _refused("malformed token: claims 'exp' and 'nbf': expected Unix seconds")
        for name in ("sub", "jti"):
            if not isinstance(claims.get(name, ""), str):
                return _refused(f"malformed token: claim '{name}': expected a string")
        if now >= expires + self._leeway_s:
            return _refused("token has expired")
        if now < not_before - self._leeway_s:
            return _refused("token is not valid yet (claim 'nbf')")
        grant = claims.get("inference")
        if not (isinstance(grant, Mapping) and grant.get("perform") is True):
            return Failure(
                Kind.FORBIDDEN, "token lacks the grant for inference: expected inference.perform"
            )
        caller = Principal(key, claims.get("sub", ""))
        self._verified[token] = (caller, expires + self._leeway_s)
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return caller


_UNKNOWN: Final = (
    "token was issued with an unknown API key (claim 'iss'), or its signature does not match that "
    "key's secret"
)
"""One message for both: two would tell anybody which API keys there are."""


def mint(key: str, secret: str, *, identity: str, ttl_s: int, now: float | None = None) -> str:
    """A client token like LiveKit's agents make, valid for `ttl_s` seconds."""
    issued = int(time.time() if now is None else now)
    claims = {
        "iss": key,
        "sub": identity,
        "nbf": issued,
        "exp": issued + ttl_s,
        "inference": {"perform": True},
    }
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -UNIX_S_MAX <= value <= UNIX_S_MAX  # false for NaN as well


def _refused(message: str) -> Failure:
    return Failure(Kind.UNAUTHENTICATED, message)
