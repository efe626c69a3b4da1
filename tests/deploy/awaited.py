"""What deploy/ is written for and the gateway does not have yet. These lists only get shorter:
test_monitoring.py and test_helm.py fail for an entry that has arrived."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

OPTIONS: Final = frozenset({"admin_host", "admin_port", "trusted_proxies"})
"""Options of `server`."""

GRACE_S: Final = 18_000.0
"""What `server.shutdown_grace_s` is to allow; while it does not, it is left out too."""

ADMIN_PORT: Final = 9090
"""Default of `server.admin_port`: /metrics, /healthz, /readyz."""

METRICS: Final = {
    "parley_draining": frozenset[str](),
    "parley_provider_resting": frozenset({"provider"}),
    "parley_quota_store_failures_total": frozenset[str](),
}
"""Metrics that alerts ask for, and their labels."""


def without(config: dict[str, Any]) -> dict[str, Any]:
    """`config` as today's gateway reads it."""
    config = deepcopy(config)
    server = config.get("server", {})
    for option in OPTIONS | {"shutdown_grace_s"}:
        server.pop(option, None)
    return config
