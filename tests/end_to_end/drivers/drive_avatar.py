"""Has an avatar of `inference.AvatarSession` join a room, and leave it; prints what it was told.

The room is a stand-in: its name and its identities are all that the gateway's part needs.
"""

from __future__ import annotations

import argparse
import json
from types import SimpleNamespace
from typing import Any

from events import error_fields, http_session, run, say


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--extra", type=json.loads, default={}, help="extra_kwargs as JSON")
    parser.add_argument("--keep", action="store_true", help="do not end it")
    parser.add_argument("--retries", type=int, default=0)
    return parser.parse_args()


class Room:
    """A room that the agent is in."""

    name = "room-1"
    local_participant = SimpleNamespace(identity="agent-1")
    remote_participants: dict[str, Any] = {}  # noqa: RUF012 - nobody else is there

    def isconnected(self) -> bool:
        return True

    def on(self, *_: Any) -> None:
        """Nothing ever happens here."""

    off = on

    @property
    async def sid(self) -> str:
        return "RM_1"


class Output:
    """Where the agent's audio goes."""

    def replace_audio_tail(self, tail: Any) -> None:
        say("audio", sample_rate=tail.sample_rate)


async def main() -> None:
    from livekit.agents import APIConnectOptions, inference

    options = arguments()
    async with http_session():
        avatar = inference.AvatarSession(
            options.model,
            extra_kwargs=options.extra,
            conn_options=APIConnectOptions(max_retry=options.retries, retry_interval=0.1),
        )
        agent = SimpleNamespace(output=Output(), on=lambda *_: None, off=lambda *_: None)
        try:
            await avatar.start(agent, Room(), livekit_url="wss://livekit.example")
        except Exception as error:
            say("failed", **error_fields(error))
            return
        say("began", id=avatar.session_id, provider_id=avatar.provider_session_id)
        if not options.keep:
            await avatar.aclose()
            say("ended", known=avatar.provider_session_id is not None)


run(main)
