"""Plays recordings in real time to providers' own clients: LiveKit's plugins or the SDKs.

All clients that are named hear theirs at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from events import Pace, error_fields, http_session, pieces, read_wave, run, say

PATIENCE_S = 12.0  # after the end of the recording: not every client ends by itself

_client: ContextVar[str] = ContextVar("client")


def tell(event: str, **fields: Any) -> None:
    say(event, client=_client.get(), **fields)


def plugin(name: str, base: str, key: str, http: Any) -> Any:
    """LiveKit's plugin for a recogniser, pointed at `base` (http://...)."""
    ws = base.replace("http", "ws", 1)
    common: dict[str, Any] = {"api_key": key}
    if name == "deepgram":
        from livekit.plugins import deepgram

        return deepgram.STT(base_url=f"{base}/v1/listen", http_session=http, **common)
    if name == "deepgram-flux":
        from livekit.plugins import deepgram

        return deepgram.STTv2(base_url=f"{ws}/v2/listen", http_session=http, **common)
    if name == "assemblyai":
        from livekit.plugins import assemblyai

        model = "universal-streaming-english"
        return assemblyai.STT(base_url=ws, model=model, http_session=http, **common)
    if name in ("cartesia-ink-2", "cartesia-ink-whisper"):
        from livekit.plugins import cartesia

        model = name.removeprefix("cartesia-")
        return cartesia.STT(model=model, base_url=base, http_session=http, **common)
    if name == "elevenlabs":
        from livekit.plugins import elevenlabs

        return elevenlabs.STT(
            model="scribe_v2_realtime", base_url=f"{base}/v1", server_vad={}, http_session=http,
            **common,
        )  # fmt: skip
    if name == "speechmatics-agent":
        from livekit.plugins import speechmatics

        mode = speechmatics.TurnDetectionMode.VAD
        return speechmatics.STT(base_url=f"{ws}/v2/agent", turn_detection_mode=mode, **common)
    if name == "xai":
        import livekit.plugins.xai.stt as xai

        xai.XAI_WEBSOCKET_URL = f"{ws}/v1/stt"
        return xai.STT(http_session=http, **common)
    if name == "inworld":
        from livekit.plugins import inworld

        return inworld.STT(base_url=f"{base}/", http_session=http, **common)
    raise SystemExit(f"no client for {name}")


async def with_plugin(name: str, base: str, key: str, samples: bytes, rate: int) -> None:
    import livekit.rtc as rtc

    async with http_session() as http:
        stream = plugin(name, base, key, http).stream()

        async def listen() -> None:
            try:
                async for event in stream:
                    text = event.alternatives[0].text if event.alternatives else ""
                    tell("speech", type=str(event.type.value), text=text)
                tell("ended")
            except Exception as error:
                tell("failed", **error_fields(error))

        listening = asyncio.create_task(listen())
        pace = Pace(1.0)
        for piece in pieces(samples, rate, 50):
            await pace.wait(0.05)
            stream.push_frame(rtc.AudioFrame(piece, rate, 1, len(piece) // 2))
        stream.end_input()
        await asyncio.wait({listening}, timeout=PATIENCE_S)
        await stream.aclose()


async def with_speechmatics(base: str, key: str, samples: bytes, rate: int) -> None:
    from speechmatics.rt import (
        AsyncClient,
        AudioEncoding,
        AudioFormat,
        ServerMessageType,
        TranscriptionConfig,
    )

    async with AsyncClient(api_key=key, url=base.replace("http", "ws", 1) + "/v2") as client:

        @client.on(ServerMessageType.ADD_TRANSCRIPT)
        def final(message: dict[str, Any]) -> None:
            tell("speech", type="final_transcript", text=message["metadata"]["transcript"])

        await client.start_session(
            transcription_config=TranscriptionConfig(language="en", enable_partials=True),
            audio_format=AudioFormat(encoding=AudioEncoding.PCM_S16LE, sample_rate=rate),
        )
        pace = Pace(1.0)
        for piece in pieces(samples, rate, 50):
            await pace.wait(0.05)
            await client.send_audio(piece)
        await client.force_end_of_utterance()
        await client.stop_session()
        tell("ended")


async def with_openai(base: str, key: str, samples: bytes, rate: int) -> None:
    import base64

    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key=key, base_url=f"{base}/v1")
    async with client.realtime.connect(model="", extra_query={"intent": "transcription"}) as live:
        heard: Any = {
            "format": {"type": "audio/pcm", "rate": rate},
            "transcription": {"model": "gpt-live-transcribe"},
            "turn_detection": None,
        }
        session: Any = {"type": "transcription", "audio": {"input": heard}}
        await live.session.update(session=session)
        pace = Pace(1.0)
        for piece in pieces(samples, rate, 50):
            await pace.wait(0.05)
            await live.input_audio_buffer.append(audio=base64.b64encode(piece).decode())
        await live.input_audio_buffer.commit()
        async for event in live:
            if event.type == "error":
                tell("failed", message=event.error.message)
                return
            if event.type == "conversation.item.input_audio_transcription.completed":
                tell("speech", type="final_transcript", text=event.transcript)
                tell("ended")
                return


async def with_google(base: str, key: str, samples: bytes, rate: int) -> None:
    from google import genai
    from google.genai import types

    client = genai.Client(api_key=key)
    # the scheme is otherwise forced to be wss
    api: Any = client._api_client
    api._websocket_base_url = lambda *a, **k: base.replace("http", "ws", 1)
    api._websocket_ssl_ctx = {}
    config = {"response_modalities": ["TEXT"], "input_audio_transcription": {}}
    async with client.aio.live.connect(model="gemini-3.5-transcribe-live", config=config) as live:
        pace = Pace(1.0)
        for piece in pieces(samples, rate, 50):
            await pace.wait(0.05)
            await live.send_realtime_input(
                audio=types.Blob(data=piece, mime_type=f"audio/pcm;rate={rate}")
            )
        await live.send_realtime_input(audio_stream_end=True)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(2):  # one turn after the other
                async for message in live.receive():
                    content = message.server_content
                    if content is not None and content.input_transcription is not None:
                        text = content.input_transcription.text
                        tell("speech", type="final_transcript", text=text)
    tell("ended")


SDKS: dict[str, Callable[[str, str, bytes, int], Any]] = {
    "speechmatics-rt": with_speechmatics,
    "openai-realtime": with_openai,
    "google": with_google,
}


PACKAGES = {
    "speechmatics-rt": "speechmatics.rt",
    "openai-realtime": "openai.resources.realtime",
    "google": "google.genai.types",
}


def imported(name: str) -> None:
    """Import what a client needs: it takes seconds, in which the others would hear nothing."""
    importlib.import_module("livekit.rtc")
    importlib.import_module(PACKAGES.get(name, f"livekit.plugins.{name.partition('-')[0]}"))


async def hear(name: str, base: str, key: str, wav: str) -> None:
    _client.set(name)
    samples, rate = read_wave(wav)
    try:
        if name in SDKS:
            await SDKS[name](base, key, samples, rate)
        else:
            await with_plugin(name, base, key, samples, rate)
    except Exception as error:
        tell("failed", **error_fields(error))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("key")
    parser.add_argument(
        "--client", dest="clients", nargs=3, action="append", metavar=("NAME", "BASE", "WAV")
    )
    options = parser.parse_args()
    for name, _, _ in options.clients:
        imported(name)
    await asyncio.gather(
        *(hear(name, base, options.key, wav) for name, base, wav in options.clients)
    )


run(main)
