"""What an operator may set for /stt."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.section import Section


class SttHedgeConfig(Section):
    """A second recogniser hears the open utterance again while the first is silent although
    somebody speaks; the first to tell words serves, the other is dropped."""

    enabled: bool = True
    """False: a silent recogniser is only left after `stall_s`."""
    share_max: float = Field(0.25, gt=0, le=1)
    """Hedges per utterance on average that turn out not to be needed."""


class SttStandbyConfig(Section):
    """A second recogniser that is kept connected and silent beside the first, for callers who pay
    for it: where the first fails or falls silent, it serves without a connect. A provider bills it
    by its own rules: some bill every open connection, and all the silence that keeps a line alive.
    Whom it is kept for: sessions with one of `keys` or `models`; with neither, every session."""

    model: str | None = None
    """The recogniser, `provider/model`; it hears what the session's would, in the same language.
    Default: none is kept."""
    keys: list[str] = Field(default_factory=list)
    """API keys whose sessions have one."""
    models: list[str] = Field(default_factory=list)
    """Models, as clients name them, whose sessions have one."""
    connections_max: int = Field(100, ge=1, le=100_000)
    """Standbys of all sessions of a process together; further sessions go without."""


class SttConfig(Section):
    """Which recogniser serves whom, and when the next one takes over."""

    auto: dict[str, list[str]] = Field(default_factory=dict)
    """Language -> models in order, for a session without a model (or `auto`); `default` for every
    other language. Without it: what is configured and speaks the language, in its order, then
    local."""
    fallback: list[str] = Field(default_factory=list)
    """Models tried after those of the client."""
    local_last: bool = True
    """Whether the local engine, if it is there, is tried after everything else."""
    open_timeout_s: float = Field(5.0, gt=0, le=60)
    """To open a connection to a provider; a client's shorter `connection.timeout` goes first."""
    retries: int = Field(3, ge=0, le=10)
    """How often all providers are tried again before the session fails, if the client does not
    say (`connection.retries`). Counted anew once one has served."""
    replay_s: float = Field(30.0, ge=5, le=120)
    """So much audio is kept for the next provider; also what a client may be ahead."""
    stall_s: float = Field(5.0, ge=1, le=60)
    """So much speech goes in and nothing comes out: the provider has stalled."""
    hedge: SttHedgeConfig = SttHedgeConfig()
    standby: SttStandbyConfig = SttStandbyConfig()
    overdue_s: float | None = Field(None, ge=0.5, le=60)
    """A final that has not come so long after speech ended is overdue. Default: the provider's."""
    finalize_s: float = Field(1.0, ge=0.1, le=10)
    """After `session.finalize`: how long an unanswered flush is waited for if nothing is open."""
    close_s: float = Field(5.0, ge=0.5, le=60)
    """After `session.close`: how long the last finals are waited for."""
    idle_s: float = Field(3600.0, ge=5)
    """A session on which the client sends nothing for so long is ended."""
