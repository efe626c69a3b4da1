"""Has Google's own SDK (google-genai) talk with a Live API: a question, then a function call."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from events import run, say

PATIENCE_S = 20.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", metavar="URL")
    parser.add_argument("key")
    return parser.parse_args()


def client_at(base: str, key: str) -> Any:
    from google import genai

    client = genai.Client(api_key=key)
    # the scheme is otherwise forced to be wss
    api: Any = client._api_client
    api._websocket_base_url = lambda *a, **k: base.replace("http", "ws", 1)
    api._websocket_ssl_ctx = {}
    return client


async def ask(live: Any, text: str) -> None:
    from google.genai import types

    content = types.Content(role="user", parts=[types.Part(text=text)])
    await live.send_client_content(turns=[content], turn_complete=True)


async def answer(live: Any, told: str) -> None:
    """One turn of the model's."""
    from google.genai import types

    words, audio, tokens = "", 0, 0
    async with asyncio.timeout(PATIENCE_S):
        async for message in live.receive():
            if message.tool_call is not None:
                call = message.tool_call.function_calls[0]
                say("called", name=call.name, arguments=call.args)
                result = types.FunctionResponse(
                    id=call.id, name=call.name, response={"output": "sunny"}
                )
                await live.send_tool_response(function_responses=[result])
            if message.usage_metadata is not None:
                tokens += message.usage_metadata.total_token_count
            content = message.server_content
            if content is not None and content.output_transcription is not None:
                words += content.output_transcription.text
            audio += len(message.data or b"")
    say(told, text=words, audio=audio, tokens=tokens)


async def main(options: argparse.Namespace) -> None:
    client = client_at(options.base, options.key)
    config: dict[str, Any] = {
        "response_modalities": ["AUDIO"],
        "output_audio_transcription": {},
        "input_audio_transcription": {},
    }
    async with client.aio.live.connect(model="gemini-3.8-live", config=config) as live:
        await ask(live, "When is noon?")
        await answer(live, "answered")
    weather = {"name": "weather", "description": "of a city"}
    config["tools"] = [{"function_declarations": [weather]}]
    async with client.aio.live.connect(model="gemini-3.8-live", config=config) as live:
        await ask(live, "The weather?")
        await answer(live, "answered")


if __name__ == "__main__":
    run(lambda: main(arguments()))
