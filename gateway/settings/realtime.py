"""What an operator may set for /realtime and /live/sessions."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.section import Section


class RealtimeConfig(Section):
    """/realtime and /live/sessions: how providers are reached, and when the next one takes over:
    until the first response has begun (or the session has started), which the caller does not
    notice. A line that is lost later is told by an `error` event and a close; clients connect again
    and bring their history."""

    open_timeout_s: float = Field(5.0, gt=0, le=60)
    """From the dial to the first event of one provider; then the next is tried."""
    connect_s: float = Field(8.0, gt=0, le=60)
    """All providers together, before the caller's upgrade is answered; LiveKit's client waits
    10 s."""
    retries: int = Field(1, ge=0, le=10)
    """How often all providers are tried again, after failures that may pass."""
    replay_s: float = Field(30.0, ge=0, le=120)
    """So much of the caller's newest audio is kept for the next provider, until the first response
    has begun. 0: none."""
    replay_bytes: int = Field(4 << 20, ge=64 << 10, le=64 << 20)
    """The same of all that the caller has sent, audio as base64 among it. Of what is no audio
    nothing is left out: a caller that has sent more is not moved to another provider."""
    response_timeout_s: float = Field(5.0, gt=0, le=300)
    """From the caller's `response.create` to the begin of the first response; LiveKit's client
    waits 10 s. Of later ones: `stall_s`."""
    stall_s: float = Field(30.0, gt=0, le=300)
    """A response in which nothing comes for so long has stalled."""
    idle_s: float = Field(3600.0, ge=5)
    """A session on which the caller sends nothing for so long is ended."""
