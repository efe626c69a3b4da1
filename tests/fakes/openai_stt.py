"""A fake of OpenAI's Realtime transcription, on loopback."""

from __future__ import annotations

import base64
import json
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange
from tests.fakes.speech import KEY, Connection, SpeechFake
from tests.fakes.tones import HeardWord


class Realtime(Connection):
    rate = 24_000

    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        super().__init__(fake, request, exchange)
        self._events = 0
        self._items = 0
        self._appended_s = 0.0
        self._live = True
        self.faults.setdefault("no-final", "")  # utterances end with a commit

    async def _tell(self, kind: str, **fields: Any) -> None:
        self._events += 1
        await self.say({"type": kind, "event_id": f"event_{self._events}", **fields})

    async def _error(self, message: str, code: str | None = None, event: str | None = None) -> None:
        await self._tell(
            "error",
            error={
                "type": "invalid_request_error",
                "code": code,
                "message": message,
                "param": None,
                "event_id": event,
            },
        )

    async def opened(self) -> None:
        await self._tell(
            "session.created",
            session={
                "type": "transcription",
                "id": "sess_1",
                "object": "realtime.transcription_session",
            },
        )

    async def text(self, message: str) -> None:
        asked = json.loads(message)
        match asked.get("type"):
            case "session.update":
                await self._update(asked["session"])
            case "input_audio_buffer.append":
                pcm = base64.b64decode(asked["audio"], validate=True)
                self._appended_s += len(pcm) / 2 / self.rate
                await self.audio(pcm)
            case "input_audio_buffer.commit":
                if self._appended_s < 0.1:
                    await self._error(
                        "buffer too small", "input_audio_buffer_commit_empty", asked.get("event_id")
                    )
                    return
                self._appended_s = 0.0
                await self._tell(
                    "input_audio_buffer.committed", item_id=self._item, previous_item_id=None
                )
                if "no-flush" not in self.faults:
                    await self.end_utterance()
            case _:
                await self._error("unknown message")

    async def _update(self, session: dict[str, Any]) -> None:
        heard = session.get("audio", {}).get("input", {})
        rate = heard.get("format", {}).get("rate", 24_000)
        model = heard.get("transcription", {}).get("model")
        self._live = model in ("gpt-live-transcribe", "gpt-realtime-whisper")
        if session.get("type") != "transcription" or rate != 24_000:
            await self._error("invalid session")
        elif self._live and heard.get("turn_detection") is not None:
            await self._error("turn_detection is not supported by this model")
        elif heard.get("transcription", {}).get("languages") == []:
            await self._error("languages must not be empty")
        else:
            await self._tell("session.updated", session=session)

    @property
    def _item(self) -> str:
        return f"item_{self._items}"

    async def hypothesis(self, words: list[HeardWord]) -> None:
        if self._live:
            delta = ("" if len(words) == 1 else " ") + words[-1].text
            await self._tell(
                "conversation.item.input_audio_transcription.delta",
                item_id=self._item,
                content_index=0,
                delta=delta,
            )

    async def utterance_over(self, words: list[HeardWord]) -> None:
        item, self._items = self._item, self._items + 1
        await self._tell(
            "conversation.item.input_audio_transcription.completed",
            item_id=item,
            content_index=0,
            transcript=" ".join(word.text for word in words),
            languages=[{"code": "en"}],
            usage={"type": "duration", "seconds": 1.0},
        )

    async def fault(self) -> None:
        await self._tell(
            "error",
            error={
                "type": "server_error",
                "code": None,
                "param": None,
                "message": "out of order",
                "event_id": None,
            },
        )


class FakeOpenAIRealtime(SpeechFake):
    paths = ("/v1/realtime",)
    connection = Realtime

    def refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return self.refused(401)
        if request.query.get("intent") != "transcription":
            return self.refused(400)
        return None
