"""Has vendors' own clients speak with servers that are said to be the vendors: prints what they
heard, and writes the samples to files. All clients that are named speak at the same time."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from events import error_fields, http_session, run, say

SDKS = {
    "assemblyai-sdk": ("assemblyai", "websockets"),
    "deepgram-sdk": ("deepgram", "deepgram.environment", "deepgram.speak.v1.types"),
    "fishaudio-sdk": ("fishaudio", "fishaudio.types"),
}


def imported(client: str) -> None:
    """Import what a client needs: it takes seconds, in which the others would hear nothing."""
    for name in SDKS.get(client, (f"livekit.plugins.{client}",)):
        importlib.import_module(name)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sentences", nargs="+")
    parser.add_argument(
        "--client", dest="clients", nargs=3, action="append", metavar=("NAME", "BASE", "OUT")
    )
    return parser.parse_args()


def plugin(name: str, base: str) -> Any:
    """LiveKit's plugin of a vendor."""
    ws = base.replace("http", "ws", 1)
    match name:
        case "assemblyai":
            from livekit.plugins import assemblyai

            return assemblyai.TTS(api_key="x", base_url=ws)
        case "cartesia":
            from livekit.plugins import cartesia

            return cartesia.TTS(api_key="x", base_url=base)
        case "deepgram":
            from livekit.plugins import deepgram

            return deepgram.TTS(api_key="x", base_url=f"{base}/v1/speak")
        case "elevenlabs":
            from livekit.plugins import elevenlabs

            return elevenlabs.TTS(api_key="x", base_url=f"{base}/v1", encoding="pcm_24000")
        case "fishaudio":
            from livekit.plugins import fishaudio

            return fishaudio.TTS(api_key="x", base_url=base, output_format="pcm")
        case "inworld":
            from livekit.plugins import inworld

            return inworld.TTS(api_key="x", base_url=f"{base}/", ws_url=f"{ws}/")
        case "rime":
            from livekit.plugins import rime

            return rime.TTS(
                api_key="x", base_url=ws, model="mistv2", use_websocket=True, sample_rate=24000
            )
        case "xai":
            from livekit.plugins import xai
            from livekit.plugins.xai import tts

            tts.XAI_WEBSOCKET_URL = f"{ws}/v1/tts"
            return xai.TTS(api_key="x")
        case _:
            raise SystemExit(f"no plugin {name}")


async def deepgram_sdk(base: str, sentences: list[str]) -> bytes:
    from deepgram import AsyncDeepgramClient
    from deepgram.environment import DeepgramClientEnvironment
    from deepgram.speak.v1.types import SpeakV1Text

    ws = base.replace("http", "ws", 1)
    environment = DeepgramClientEnvironment(base=base, production=ws, agent=ws, agent_rest=base)
    client = AsyncDeepgramClient(api_key="x", environment=environment)
    audio = b""
    connect = client.speak.v1.connect(
        model="aura-2-thalia-en", encoding="linear16", sample_rate=24000
    )
    async with connect as socket:
        for sentence in sentences:
            await socket.send_text(SpeakV1Text(text=sentence + " "))
        await socket.send_flush()
        while True:
            message = await socket.recv()
            if isinstance(message, bytes):
                audio += message
            else:
                say("message", client="deepgram-sdk", type=message.type)
                if message.type == "Flushed":
                    return audio


async def assemblyai_sdk(base: str, sentences: list[str]) -> bytes:
    import assemblyai as aai

    aai.settings.tts_base_url = base
    audio = b""
    async with aai.AsyncTTSSession(api_key="x", word_boundaries=True) as session:
        for sentence in sentences:
            async for piece in session.speak(sentence):
                audio += piece
    return audio


async def fishaudio_sdk(base: str, sentences: list[str]) -> bytes:
    from fishaudio import AsyncFishAudio
    from fishaudio.types import TTSConfig

    async def texts() -> AsyncIterator[str]:
        for sentence in sentences:
            yield sentence + " "

    client = AsyncFishAudio(api_key="x", base_url=base)
    stream = client.tts.stream_websocket(
        texts(), format="pcm", config=TTSConfig(sample_rate=24000), model="s2-pro"
    )
    return b"".join([piece async for piece in stream])


async def by_plugin(name: str, base: str, sentences: list[str]) -> bytes:
    audio = b""
    synthesizer = plugin(name, base)
    stream = synthesizer.stream()
    for sentence in sentences:
        stream.push_text(sentence + " ")
    stream.end_input()
    try:
        async for event in stream:
            audio += bytes(event.frame.data)
    finally:
        await stream.aclose()
        await synthesizer.aclose()
    return audio


async def speak(client: str, base: str, out: Path, sentences: list[str]) -> None:
    try:
        match client:
            case "deepgram-sdk":
                audio = await deepgram_sdk(base, sentences)
            case "assemblyai-sdk":
                audio = await assemblyai_sdk(base, sentences)
            case "fishaudio-sdk":
                audio = await fishaudio_sdk(base, sentences)
            case name:
                audio = await by_plugin(name, base, sentences)
    except Exception as error:
        say("failed", client=client, **error_fields(error))
        return
    out.write_bytes(audio)
    say("spoken", client=client, audio_bytes=len(audio))


async def main() -> None:
    options = arguments()
    os.environ.setdefault("LIVEKIT_URL", "ws://127.0.0.1:1")
    for client, _, _ in options.clients:
        imported(client)
    async with http_session():
        await asyncio.gather(
            *(
                speak(client, base, Path(out), options.sentences)
                for client, base, out in options.clients
            )
        )


run(main)
