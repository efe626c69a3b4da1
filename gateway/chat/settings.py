"""What an operator may set for /chat/completions."""

from __future__ import annotations

from pydantic import Field

from gateway.section import Section


class ChatConfig(Section):
    """Time-outs of `/chat/completions`."""

    connect_timeout_s: float = Field(3.0, gt=0)
    """To open a connection to an upstream."""
    first_token_timeout_s: float = Field(8.0, gt=0)
    """From the request to the first content of one upstream; then the next is tried."""
    idle_timeout_s: float = Field(10.0, gt=0)
    """Between two pieces of an answer that has begun."""
    total_timeout_s: float = Field(300.0, gt=0)
    """The whole answer, all upstreams together; a non-streaming answer has only this one."""
    keepalive_s: float = Field(3.0, gt=0, le=9)
    """A comment is sent when nothing else was for so long: the clients give up after 10 s."""
