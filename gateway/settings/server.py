"""Where the server listens, what it lets in, what it writes to its log."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from gateway.settings.section import Section

WORKERS_MAX: Final = 64
"""More processes than this share no machine well: each has its own connections and models."""

SHUTDOWN_GRACE_S_MAX: Final = 18_000.0
"""As long as a call may take: what LiveKit's own chart for agents allows."""


EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to be recognised
"""Who listens there takes the port at every address."""


def host_problem(host: str) -> str:
    """What is wrong with an address or host name to listen on; "" if nothing is."""
    try:
        # an empty one would listen on every address
        good = host.isprintable() and not any(map(str.isspace, host)) and host.encode("idna")
        if any(char in "/:[]" for char in host):
            ip_address(host)  # no name has these, nor has an address with a port or a scheme
    except ValueError:
        good = False
    return "" if good else "expected an address or a host name, such as 0.0.0.0 or 127.0.0.1"


class TlsConfig(Section):
    """TLS for the inference port. Both or none; without them a proxy has to do it."""

    certificate: Path | None = None
    """PEM file: the server's certificate, then those of its issuers."""
    key: Path | None = None
    """PEM file: its private key, without a passphrase."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate needs its key, and a key its certificate")
        return self


class ServerConfig(Section):
    """Where and how the server listens."""

    host: str = "0.0.0.0"  # noqa: S104 - a server in a container; nobody enters without a key
    """Address to listen on. `--dev` always uses 127.0.0.1."""
    port: int = Field(8080, ge=0, le=65535)
    """Port; 0 lets the system choose one."""
    workers: int = Field(1, ge=1, le=WORKERS_MAX)
    """Processes that share the port, for more than one core. Each loads the models that run inside
    this server for itself (the interruption model takes its share of the cores). They count quotas,
    sessions and resting providers together, without Redis. One that dies is replaced."""
    admin_host: str = "127.0.0.1"
    """Address to listen on for the operator: /metrics, and /healthz and /readyz with details."""
    admin_port: int | None = Field(9090, ge=0, le=65535)
    """Port for the operator; 0 lets the system choose one, null: none. Unless it is set, any other
    that is free will do where 9090 is taken, and for `--dev`."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks of reverse proxies: a caller's address is then the last one in their
    X-Forwarded-For that is not theirs. From anybody else that header is ignored."""
    tls: TlsConfig = TlsConfig()
    """TLS for the inference port; the operator's port has none."""
    drain_delay_s: float = Field(5.0, ge=0, le=300)
    """After SIGTERM: how long new connections are still taken while /readyz says 503, so that load
    balancers notice before they are refused. Part of the grace."""
    shutdown_grace_s: float = Field(30.0, ge=0, le=SHUTDOWN_GRACE_S_MAX)
    """After SIGTERM: how long open sessions may go on before they are closed. Requests on open
    connections are served so long, with `Connection: close`."""
    token_leeway_s: float = Field(10.0, ge=0, le=300)
    """Clock skew allowed on a token's `nbf` and `exp`."""
    ws_ping_interval_s: float = Field(20.0, ge=0, le=3600)
    """A WebSocket gets a ping this often, because proxies cut a connection on which nothing moves
    (nginx and AWS after 60 s, Google after 30 s). No answer is waited for. 0 sends none."""

    @field_validator("host", "admin_host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        if wrong := host_problem(host):
            raise ValueError(wrong)
        return host

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        same = "admin_port" in self.model_fields_set and self.port and self.port == self.admin_port
        if same and (self.host == self.admin_host or EVERYWHERE & {self.host, self.admin_host}):
            raise ValueError(f"port and admin_port are both {self.port}; expected two ports")
        return self


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
    connections_per_address: int = Field(1000, ge=1)
    """Open connections from one address, before any token is looked at. Behind a proxy of
    `server.trusted_proxies`: requests and sessions from one address."""
    session_s_max: float = Field(14400.0, ge=1)
    """A WebSocket session that has lasted so long is closed when nobody speaks, a minute later in
    any case; clients of /stt and /tts connect again."""
    session_idle_s: float = Field(21600.0, ge=1)
    """A WebSocket session on which nothing moves for so long is closed. Generous, because an agent
    that is never interrupted says nothing on /bargein; dead peers are found by TCP keepalive."""


class LogConfig(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
