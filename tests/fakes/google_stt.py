"""A fake of Google's live transcription, on loopback."""

from __future__ import annotations

import base64
import json
from typing import Any

from aiohttp import web

from tests.fakes.speech import KEY, Connection, SpeechFake
from tests.fakes.tones import HeardWord

# the SDK asks for one of several versions
PATH = r"/ws/google.ai.generativelanguage.{version:v1\w*}.GenerativeService.BidiGenerateContent"


def field(message: dict[str, Any], camel: str, snake: str) -> Any:
    """Protobuf's JSON takes both spellings."""
    return message.get(camel, message.get(snake))


class Live(Connection):
    async def say(self, message: dict[str, Any]) -> None:
        """As binary frames: the service's are."""
        if not self.stalled and "mute" not in self.faults:
            self.exchange.said.append(json.dumps(message))
            await self.socket.send_bytes(json.dumps(message).encode())

    async def text(self, message: str) -> None:
        await self.binary(message.encode())

    async def binary(self, data: bytes) -> None:
        asked = json.loads(data)
        if "setup" in asked:
            if not asked["setup"].get("model", "").startswith("models/"):
                await self.close(1007, "invalid model")
                return
            await self.say({"setupComplete": {}})
            return
        heard = field(asked, "realtimeInput", "realtime_input") or {}
        if (audio := heard.get("audio")) is not None:
            kind = field(audio, "mimeType", "mime_type") or "audio/pcm;rate=16000"
            self.rate = self.ear.rate = int(kind.partition("rate=")[2] or 16_000)
            await self.audio(
                base64.urlsafe_b64decode(audio["data"].replace("+", "-").replace("/", "_"))
            )
        elif field(heard, "audioStreamEnd", "audio_stream_end") and "no-flush" not in self.faults:
            self.utterance += self.ear.settle()
            if self.utterance:
                await self.end_utterance()
            else:
                await self.say({"serverContent": {"turnComplete": True}})

    async def hypothesis(self, words: list[HeardWord]) -> None:
        text = " ".join(word.text for word in words)
        await self.say(
            {
                "serverContent": {
                    "interimInputTranscription": {"text": text, "languageCode": "en-US"}
                }
            }
        )

    async def utterance_over(self, words: list[HeardWord]) -> None:
        text = " ".join(word.text for word in words)
        final = {
            "text": text,
            "languageCode": "en-US",
            "startOffset": f"{words[0].start}s",
            "endOffset": f"{words[-1].end}s",
        }
        await self.say({"serverContent": {"inputTranscription": final}})
        await self.say({"serverContent": {"turnComplete": True}})

    async def fault(self) -> None:
        await self.close(1011, "internal")


class FakeGoogleLive(SpeechFake):
    paths = (PATH,)
    connection = Live

    def refusal(self, request: web.Request) -> web.Response | None:
        key = request.headers.get("x-goog-api-key") or request.query.get("key")
        return None if key == KEY else self.refused(401)
