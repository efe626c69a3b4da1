"""Where the server listens, what it lets in, what it writes to its log."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from gateway.settings.section import Section


def host_problem(host: str) -> str:
    """What is wrong with an address or host name to listen on; "" if nothing is."""
    try:
        # an empty one would listen on every address
        good = host.isprintable() and not any(map(str.isspace, host)) and host.encode("idna")
    except UnicodeError:
        good = False
    return "" if good else "expected an address or a host name, such as 0.0.0.0 or 127.0.0.1"


class ServerConfig(Section):
    """Where and how the server listens."""

    host: str = "0.0.0.0"  # noqa: S104 - a server in a container; nobody enters without a key
    """Address to listen on. `--dev` always uses 127.0.0.1."""
    port: int = Field(8080, ge=0, le=65535)
    """Port; 0 lets the system choose one."""
    shutdown_grace_s: float = Field(30.0, ge=0, le=3600)
    """After SIGTERM: how long open sessions may go on before they are closed."""
    token_leeway_s: float = Field(10.0, ge=0, le=300)
    """Clock skew allowed on a token's `nbf` and `exp`."""
    ws_ping_interval_s: float = Field(20.0, ge=0, le=3600)
    """A WebSocket gets a ping this often, because proxies cut a connection on which nothing moves
    (nginx and AWS after 60 s, Google after 30 s). No answer is waited for. 0 sends none."""

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        if wrong := host_problem(host):
            raise ValueError(wrong)
        return host


class LimitsConfig(Section):
    """Bounds on what callers may take."""

    sessions: int = Field(2000, ge=1)
    """Open WebSocket sessions and running chat requests, all callers together."""
    sessions_per_key: int = Field(2000, ge=1)
    """The same for one API key."""
    chat_body_bytes: int = Field(16 << 20, ge=1024)
    """Largest body of a chat request (images travel inside it)."""
    body_timeout_s: float = Field(30.0, gt=0, le=600)
    """A request whose body has not come whole after so long is refused (408)."""
    message_bytes: int = Field(1 << 20, ge=128 << 10)
    """Largest WebSocket message; a larger one closes the connection with code 1009."""
    session_idle_s: float = Field(21600.0, ge=1)
    """A WebSocket session on which nothing moves for so long is closed. Generous, because an agent
    that is never interrupted says nothing on /bargein; dead peers are found by TCP keepalive."""


class LogConfig(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
