"""Talks to `openai.responses.LLM` of LiveKit's plugin, by WebSocket, and prints what came back.

Two turns of one conversation: the client sends of the second only what is new.
"""

from __future__ import annotations

import argparse
from typing import Any

from events import error_fields, http_session, run, say


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("model")
    parser.add_argument("--tools", action="store_true")
    parser.add_argument("--no-websocket", action="store_true")
    return parser.parse_args()


async def main() -> None:
    from livekit.agents import APIConnectOptions, function_tool, llm
    from livekit.plugins import openai

    @function_tool
    async def get_time(city: str) -> str:
        """The time of day in a city."""
        return f"noon in {city}"

    options = arguments()
    client = openai.responses.LLM(
        model=options.model,
        base_url=options.url,
        api_key=options.key,
        use_websocket=not options.no_websocket,
    )
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="You are a test.")
    context.add_message(role="user", content="hi")
    async with http_session():
        for _ in range(2):
            wishes: dict[str, Any] = {"tools": [get_time]} if options.tools else {}
            stream = client.chat(
                chat_ctx=context, conn_options=APIConnectOptions(max_retry=0), **wishes
            )
            text = ""
            calls: list[Any] = []
            try:
                async for chunk in stream:
                    delta = chunk.delta
                    text += (delta.content or "") if delta is not None else ""
                    calls += (delta.tool_calls if delta is not None else None) or []
                    if chunk.usage is not None:
                        say("usage", **chunk.usage.model_dump())
            except Exception as error:
                say("failed", **error_fields(error))
                return
            say("answered", text=text, calls=[call.name for call in calls])
            if text:
                context.add_message(role="assistant", content=text)
            for call in calls:
                entry: dict[str, Any] = {"call_id": call.call_id, "name": call.name}
                context.items.append(llm.FunctionCall(**entry, arguments=call.arguments))
                context.items.append(llm.FunctionCallOutput(**entry, output="noon", is_error=False))
            if not calls:
                context.add_message(role="user", content="and now?")
        await client.aclose()


run(main)
