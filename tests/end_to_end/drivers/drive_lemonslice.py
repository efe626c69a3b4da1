"""Begins a session with the API client of LiveKit's plugin for LemonSlice; prints its id."""

from __future__ import annotations

import argparse

from events import error_fields, http_session, run, say


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    return parser.parse_args()


async def main() -> None:
    from livekit.agents import APIConnectOptions
    from livekit.plugins.lemonslice.api import LemonSliceAPI

    options = arguments()
    async with (
        http_session(),
        LemonSliceAPI(
            api_key=options.key, api_url=options.url, conn_options=APIConnectOptions(max_retry=0)
        ) as client,
    ):
        for given in ({"agent_id": "agent_1"}, {"agent_image_url": "https://x/y.png"}):
            try:
                name = await client.start_agent_session(
                    livekit_url="wss://x",
                    livekit_token="t",
                    livekit_session_id="RM_1",
                    agent_prompt="smile",
                    idle_timeout=30,
                    **given,
                )
            except Exception as error:
                say("failed", **error_fields(error))
                return
            say("began", id=name)


run(main)
