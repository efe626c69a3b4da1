"""Talks to `inference.LLM` of the installed livekit-agents and prints all that came back.

Every MESSAGE is a conversation of its own: its text, MODEL::TEXT, or a JSON object with a `name`,
a `text` and any of the options, which then hold for this one alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from events import error_fields, http_session, run, say
from pydantic import BaseModel


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("messages", nargs="+", metavar="MESSAGE")
    parser.add_argument("--model", default="openai/gpt-4.1-mini")
    parser.add_argument("--provider", help="serve from this provider only")
    parser.add_argument("--tools", action="store_true", help="offer two functions")
    parser.add_argument("--follow-up", action="store_true", help="send the tools' results back")
    parser.add_argument("--structured", action="store_true", help="ask for a JSON object")
    parser.add_argument("--extra", type=json.loads, default={}, help="extra_kwargs as JSON")
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=10.0)
    parser.add_argument("--stop-after", type=int, help="leave after so many pieces of text")
    parser.add_argument("--prewarm", action="store_true")
    parser.add_argument("--together", action="store_true", help="all conversations at once")
    return parser.parse_args()


class Place(BaseModel):
    """Where something is."""

    city: str
    floor: int


def offered_tools() -> list[Any]:
    from livekit.agents import function_tool

    @function_tool
    async def get_time(city: str) -> str:
        """The time of day in a city."""
        return f"noon in {city}"

    @function_tool
    async def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}"

    return [get_time, get_weather]


def understood(argument: str, options: argparse.Namespace) -> tuple[str, str, argparse.Namespace]:
    """Name, text and options of a conversation."""
    if argument.startswith("{"):
        given = json.loads(argument)
        name, text = given.pop("name"), given.pop("text")
    else:
        model, _, text = argument.rpartition("::")
        name, given = argument, {"model": model} if model else {}
    return name, text, argparse.Namespace(**{**vars(options), **given})


async def converse(argument: str, everybodys: argparse.Namespace) -> None:
    from livekit.agents import APIConnectOptions, inference, llm

    message, text, options = understood(argument, everybodys)
    client = inference.LLM(
        options.model, provider=options.provider, extra_kwargs=options.extra or None
    )

    def on_error(error: Any) -> None:
        say("error", chat=message, recoverable=error.recoverable, **error_fields(error.error))

    client.on("error", on_error)
    if options.prewarm:
        client.prewarm()
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="You are a test.")
    context.add_message(role="user", content=text)
    for _ in range(2 if options.follow_up else 1):
        made = await one_answer(client, context, message, options, APIConnectOptions)
        if not made:
            break
        for call in made:
            entry: dict[str, Any] = {"call_id": call.call_id, "name": call.name}
            extra = {"extra": call.extra} if getattr(call, "extra", None) else {}
            context.items.append(llm.FunctionCall(**entry, arguments=call.arguments, **extra))
            context.items.append(llm.FunctionCallOutput(**entry, output="noon", is_error=False))
    await client.aclose()


async def one_answer(
    client: Any, context: Any, message: str, options: argparse.Namespace, connect: Any
) -> list[Any]:
    wishes: dict[str, Any] = {
        "chat_ctx": context,
        "conn_options": connect(
            max_retry=options.retries, retry_interval=0.1, timeout=options.timeout_s
        ),
    }
    if options.tools:
        wishes["tools"] = offered_tools()
    if options.structured:
        wishes["response_format"] = Place
    say("asked", chat=message)
    text, pieces, made = "", 0, []
    stream = client.chat(**wishes)
    try:
        async for chunk in stream:
            delta = chunk.delta
            if delta is not None and delta.content:
                text, pieces = text + delta.content, pieces + 1
                say("content", chat=message, text=delta.content[:200], size=len(delta.content))
            for call in (delta.tool_calls if delta is not None else None) or []:
                made.append(call)
                say(
                    "tool_call",
                    chat=message,
                    call_id=call.call_id,
                    name=call.name,
                    arguments=call.arguments,
                    extra=getattr(call, "extra", None),
                )
            if chunk.usage is not None:
                say("usage", chat=message, **chunk.usage.model_dump())
            if options.stop_after is not None and pieces >= options.stop_after:
                say("left", chat=message)
                break
        else:
            say(
                "answered",
                chat=message,
                text=text[:2000],
                size=len(text),
                pieces=pieces,
                calls=len(made),
            )
    except Exception as error:
        say("failed", chat=message, text=text, **error_fields(error))
        return []
    finally:
        await stream.aclose()
    return made


async def main() -> None:
    options = arguments()
    async with http_session():
        if options.together:
            await asyncio.gather(*(converse(message, options) for message in options.messages))
            return
        for message in options.messages:
            await converse(message, options)


run(main)
