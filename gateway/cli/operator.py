"""How commands reach the operator's port of a server on this machine."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from gateway.settings.server import EVERYWHERE, ServerConfig

NO_PORT: Final = (
    "the server has no fixed port for the operator (server.admin_port): name the one that its log "
    "says with --admin-port"
)

ANSWER_BYTES_MAX: Final = 16 << 20
"""Longest answer that is read."""


class NoServerError(Exception):
    """Nobody answers; the message says where and why."""


class RefusedError(Exception):
    """The server answers with an error."""

    def __init__(self, url: str, status: int, body: Any) -> None:
        """`body`: what came as JSON, None where it was none."""
        super().__init__(f"{url} answers with status {status}")
        self.status = status
        self.body = body


def operator_url(server: ServerConfig, port: int | None) -> str | None:
    """The operator's port, "http://127.0.0.1:9090"; `port` comes before that of the configuration.
    None: it is not known."""
    port = server.admin_port if port is None else port
    if not port:
        return None
    host = server.admin_host
    if host in EVERYWHERE:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def ask(url: str, headers: Mapping[str, str], timeout_s: float, body: bytes | None = None) -> Any:
    """The JSON that a GET brings (with `body` a POST). Raises NoServerError or RefusedError."""
    request = urllib.request.Request(url, body, dict(headers))  # noqa: S310 - http(s), see _url
    # a proxy of the environment's is for the way to providers
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return json.loads(answer.read(ANSWER_BYTES_MAX))
    except urllib.error.HTTPError as error:
        with error:
            try:
                told = json.loads(error.read(ANSWER_BYTES_MAX))
            except (OSError, ValueError):
                told = None
        raise RefusedError(url, error.code, told) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoServerError(f"no server answers at {url}: {reason}") from error
