"""Has `inference.RealtimeModel` of the installed livekit-agents hold conversations.

A job (JSON, `--job`) is a `model` and a list of `turns`: {"say": TEXT} adds a message of the user's
and asks for a reply, {"speak": SECONDS} sends so much speech and then silence. Other fields: `text`
(reply in text alone), `tool` (offer one, and answer its calls), `truncate_ms` (the last reply was
heard so far), `provider`, `server_turns` (the provider's own turn detection).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from events import error_fields, http_session, run, say

RATE = 24_000
TURN_S = 30.0


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
        if job.get("text"):
            options["modalities"] = ["text"]
        if not job.get("server_turns"):
            options["turn_detection"] = None
        self.model = inference.RealtimeModel(
            job.get("model", "openai/gpt-realtime"),
            provider=job.get("provider"),
            http_session=http,
            **options,
        )
        self.session = self.model.session()
        self.generations: asyncio.Queue[Any] = asyncio.Queue()
        self.session.on("generation_created", self.generations.put_nowait)
        self.session.on("error", self._failed)
        self.session.on("session_reconnected", lambda _: self.tell("reconnected"))
        self.session.on("metrics_collected", self._measured)
        self.session.on("input_speech_started", lambda _: self.tell("speech_started"))
        self.session.on("openai_server_event_received", self._heard)
        self.last = ""

    def tell(self, event: str, **fields: Any) -> None:
        say(event, job=self.job["job"], **fields)

    def _failed(self, error: Any) -> None:
        self.tell("failed", recoverable=error.recoverable, **error_fields(error.error))

    def _measured(self, metrics: Any) -> None:
        if metrics.type == "realtime_model_metrics":
            self.tell("used", input=metrics.input_tokens, output=metrics.output_tokens)

    def _heard(self, event: dict[str, Any]) -> None:
        if event["type"] in ("conversation.item.truncated", "error", "session.created"):
            self.tell("server", type=event["type"], error=event.get("error"))

    async def reply(self, generation: Any) -> None:
        """Take a whole reply; answer its calls and take the next one."""
        from livekit.agents import llm

        text, audio = "", 0
        async for message in generation.message_stream:
            self.last = message.message_id

            async def listen(stream: Any = message.audio_stream) -> int:
                return sum([len(bytes(frame.data)) async for frame in stream])

            hearing = asyncio.create_task(listen())
            text += "".join([part async for part in message.text_stream])
            audio += await hearing
            self.tell("message", modalities=await message.modalities)
        calls = [call async for call in generation.function_stream]
        self.tell("reply", text=text, audio=audio, calls=[call.name for call in calls])
        if not calls:
            return
        context = self.session.chat_ctx.copy()
        for call in calls:
            output = llm.FunctionCallOutput(
                call_id=call.call_id, name=call.name, output="sunny", is_error=False
            )
            context.items.append(output)
        await self.session.update_chat_ctx(context)
        await self.reply(await self.session.generate_reply())

    async def turn(self, turn: dict[str, Any]) -> None:
        from livekit import rtc

        if "say" in turn:
            context = self.session.chat_ctx.copy()
            context.add_message(role="user", content=turn["say"])
            await self.session.update_chat_ctx(context)
            await self.reply(await self.session.generate_reply())
            return
        for sample in (b"\x10\x20", b"\0\0"):
            data = sample * int(RATE * turn["speak"])
            self.session.push_audio(rtc.AudioFrame(data, RATE, 1, len(data) // 2))
        if self.job.get("server_turns"):
            await self.reply(await self.generations.get())
        else:
            self.session.commit_audio()
            await self.reply(await self.session.generate_reply())

    async def hold(self) -> None:
        from livekit.agents import function_tool

        @function_tool
        async def weather(city: str) -> str:
            """The weather of a city."""
            return "sunny"

        await self.session.update_instructions("You are brief.")
        if self.job.get("tool"):
            await self.session.update_tools([weather])
        try:
            for turn in self.job["turns"]:
                async with asyncio.timeout(TURN_S):
                    await self.turn(turn)
            if (end_ms := self.job.get("truncate_ms")) is not None:
                self.session.truncate(
                    message_id=self.last, modalities=["audio"], audio_end_ms=end_ms
                )
                await asyncio.sleep(1.0)
        except Exception as error:
            self.tell("gave_up", **error_fields(error))
        finally:
            try:
                await self.session.aclose()
            except Exception as error:
                self.tell("closed_badly", **error_fields(error))
            self.tell("ended", items=[item.type for item in self.session.chat_ctx.items])


async def main(options: argparse.Namespace) -> None:
    async with http_session() as http:
        await asyncio.gather(*(Talk(job, http).hold() for job in options.jobs))


if __name__ == "__main__":
    run(lambda: main(arguments()))
