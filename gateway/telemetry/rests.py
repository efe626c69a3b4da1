"""Tells the operator when a deployment begins to rest, whichever conversation saw it fail."""

from __future__ import annotations

import logging

from gateway.routing.breaker import Breaker
from gateway.telemetry.outcome import DEPLOYMENT_CHARS_MAX, log_level
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt

_logger = logging.getLogger(__name__)


class LoggingBreaker(Breaker):
    """A breaker that writes a line when a rest begins; an error if it will not mend by itself."""

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
                    "said": failure.upstream_text or failure.message,
                },
            )
        return begins
