"""Tells the operator when a deployment begins to rest and when it works again, whichever
conversation saw it."""

from __future__ import annotations

import logging

from gateway.routing.breaker import Breaker, Key
from gateway.telemetry.outcome import DEPLOYMENT_CHARS_MAX, log_level
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt

_logger = logging.getLogger(__name__)


class LoggingBreaker(Breaker):
    """A breaker that writes a line when a rest begins, an error if it will not mend by itself, and
    one when it ends with a success."""

    def failed(
        self, attempt: Attempt, failure: Failure, now: float, cause: int | None = None
    ) -> bool:
        begins = super().failed(attempt, failure, now, cause)
        if begins:
            _logger.log(
                log_level(failure),
                "a deployment rests",
                extra={
                    "provider": attempt.provider,
                    "model": attempt.model[:DEPLOYMENT_CHARS_MAX],
                    "kind": failure.kind.value,
                    "upstream_status": failure.upstream_status,
                    "upstream_id": failure.upstream_id,
                    "said": failure.upstream_text or failure.message,
                },
            )
        return begins

    def rate_limited_until(self, attempt: Attempt, until: float, now: float) -> bool:
        begins = super().rate_limited_until(attempt, until, now)
        if begins:
            _logger.warning(
                "a deployment rests",
                extra={
                    "provider": attempt.provider,
                    "model": attempt.model[:DEPLOYMENT_CHARS_MAX],
                    "kind": Kind.RATE_LIMITED.value,
                    "said": f"its headers say that nothing is left for {until - now:.1f} s",
                },
            )
        return begins

    def recovered(self, key: Key) -> None:
        provider, part = key
        # as loud as the rest was: who filters by level sees both ends of it
        _logger.warning(
            "a deployment works again",
            extra={
                "provider": provider,
                "model": part.partition("\0")[0][:DEPLOYMENT_CHARS_MAX],
            },
        )
