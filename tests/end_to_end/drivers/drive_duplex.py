"""Has `inference.DuplexModel` of the installed livekit-agents listen and speak.

A job (JSON, `--job`) is a `model` and a list of `turns`: {"ask": TEXT} has the voice speak about
it, {"speak": SECONDS} sends so much speech and then silence. Other fields: `tool` (offer one, and
answer its calls), `backend` (the model that does what is delegated), `provider`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from events import error_fields, http_session, run, say

RATE = 24_000
TURN_S = 20.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", dest="jobs", type=json.loads, action="append", default=[])
    return parser.parse_args()


class Talk:
    """One session, and what it told."""

    def __init__(self, job: dict[str, Any], http: Any) -> None:
        from livekit.agents import inference

        self.job = job
        options: dict[str, Any] = {}
        if backend := job.get("backend"):
            options["extra_kwargs"] = {"responses_options": {"model": backend}}
        self.model = inference.DuplexModel(
            job.get("model", "openai/gpt-live-1"),
            provider=job.get("provider"),
            http_session=http,
            **options,
        )
        self.session = self.model.session()
        self.spoken = asyncio.Event()
        self.gone = asyncio.Event()
        self.session.on("openai_server_event_received", self._heard)
        self.session.on("error", self._failed)
        self.session.on("session_reconnected", lambda _: self.tell("reconnected"))
        self.session.on("function_call", self._called)
        self.session.on("metrics_collected", self._measured)
        self.calls: list[Any] = []

    def tell(self, event: str, **fields: Any) -> None:
        say(event, job=self.job["job"], **fields)

    def _heard(self, event: dict[str, Any]) -> None:
        if event["type"] == "session.usage.updated":
            self.spoken.set()
        if not event["type"].endswith("audio.delta"):
            self.tell("server", type=event["type"], delta=event.get("delta"))

    def _failed(self, error: Any) -> None:
        self.tell("failed", recoverable=error.recoverable, **error_fields(error.error))
        if not error.recoverable:
            self.gone.set()

    def _measured(self, metrics: Any) -> None:
        if seconds := getattr(metrics, "session_duration", None):
            self.tell("used", seconds=seconds)
        elif metrics.type == "llm_metrics":
            self.tell("delegated", model=metrics.metadata.model_name, tokens=metrics.total_tokens)

    def _called(self, call: Any) -> None:
        from livekit.agents import llm

        self.tell("called", name=call.name, arguments=call.arguments)
        output = llm.FunctionCallOutput(
            call_id=call.call_id, name=call.name, output="sunny", is_error=False
        )
        self.calls.append(asyncio.create_task(self.session._append_items([output])))

    async def listen(self) -> None:
        audio = 0
        async for frame in self.session.audio_stream:
            audio += len(bytes(frame.frame.data))
        self.tell("heard", audio=audio)

    async def turn(self, turn: dict[str, Any]) -> None:
        from livekit import rtc

        self.spoken.clear()
        if "ask" in turn:
            self.session.append_commentary(turn["ask"])
        else:
            for sample in (b"\x10\x20", b"\0\0"):
                data = sample * int(RATE * turn["speak"])
                self.session.push_audio(rtc.AudioFrame(data, RATE, 1, len(data) // 2))
        waiting = [asyncio.create_task(one.wait()) for one in (self.spoken, self.gone)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=TURN_S)
        for task in waiting:
            task.cancel()

    async def hold(self) -> None:
        from livekit.agents import function_tool

        @function_tool
        async def weather(city: str) -> str:
            """The weather of a city."""
            return "sunny"

        listening = asyncio.create_task(self.listen())
        await self.session._update_session(
            instructions="You are brief.",
            chat_ctx=self.history(),
            tools=[weather] if self.job.get("tool") else [],
        )
        for turn in self.job["turns"]:
            await self.turn(turn)
        try:
            await self.session.aclose()
            await listening
        except Exception as error:
            self.tell("closed_badly", **error_fields(error))
        self.tell("ended")

    @staticmethod
    def history() -> Any:
        from livekit.agents import llm

        context = llm.ChatContext.empty()
        context.add_message(role="user", content="earlier")
        return context


async def main(options: argparse.Namespace) -> None:
    async with http_session() as http:
        await asyncio.gather(*(Talk(job, http).hold() for job in options.jobs))


if __name__ == "__main__":
    run(lambda: main(arguments()))
