"""A whole AgentSession without a room: it replies, and while it speaks a recording talks over it.

The language model and the interruption decisions come from wherever the environment says; voice
activity detection is the client's own. Speech recognition hears nothing and speech synthesis is
a tone: they are no part of this. Every clip is a session of its own, all at the same time.

With `--realtime MODEL` that model does all of it, and the driver goes on until what the clip says
is answered, if it is an interruption.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import livekit.rtc as rtc
from drive_bargein import Clip, described
from events import Pace, error_fields, http_session, microphone, pieces, read_wave, run, say
from livekit.agents import Agent, AgentSession, inference, io, stt, tts, utils

RATE, FRAME_MS = 24000, 50  # what a room gives
REPLY_S = 9.0  # how long the tone of one reply is
SPEAKING_BEFORE_S = 3.3  # no interruption counts while echo cancellation warms up (3 s)
GIVE_UP_S = 25.0


class Deaf(stt.STT):
    """Recognises nothing; an agent must have one for interruptions to be held back."""

    def __init__(self) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(
                streaming=True, interim_results=False, aligned_transcript="word"
            )
        )

    async def _recognize_impl(self, *arguments: Any, **named: Any) -> stt.SpeechEvent:
        raise NotImplementedError

    def stream(self, *, conn_options: Any = None, **named: Any) -> stt.RecognizeStream:
        return DeafStream(stt=self, conn_options=conn_options)


class DeafStream(stt.RecognizeStream):
    async def _run(self) -> None:
        async for _ in self._input_ch:
            pass


class Tone(tts.TTS):
    """Says everything as a low tone of one length."""

    def __init__(self) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False), sample_rate=RATE, num_channels=1
        )

    def synthesize(self, text: str, *, conn_options: Any = None) -> tts.ChunkedStream:
        return ToneStream(tts=self, input_text=text, conn_options=conn_options)


class ToneStream(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid(), sample_rate=RATE, num_channels=1, mime_type="audio/pcm"
        )
        cycle = b"\x00\x04" * 60 + b"\x00\xfc" * 60
        output_emitter.push(cycle * int(REPLY_S * RATE / 120))
        output_emitter.flush()


class Microphone(io.AudioInput):
    """Gives the frames that are put in."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self.frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    def __aiter__(self) -> AsyncIterator[rtc.AudioFrame]:
        return self

    async def __anext__(self) -> rtc.AudioFrame:
        return await self.frames.get()


class Loudspeaker(io.AudioOutput):
    """Plays in real time to nobody."""

    def __init__(self) -> None:
        super().__init__(
            label="loudspeaker",
            capabilities=io.AudioOutputCapabilities(pause=False),
            sample_rate=RATE,
        )
        self._begun_at: float | None = None
        self._pushed_s = 0.0
        self._end: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if self._begun_at is None:
            self._begun_at = time.time()
            self.on_playback_started(created_at=self._begun_at)
        self._pushed_s += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._begun_at is not None and self._end is None:
            left_s = self._begun_at + self._pushed_s - time.time()
            self._end = asyncio.get_running_loop().call_later(max(0.0, left_s), self._finish, False)

    def clear_buffer(self) -> None:
        if self._begun_at is not None:
            self._finish(True)

    def _finish(self, interrupted: bool) -> None:
        assert self._begun_at is not None
        position_s = min(time.time() - self._begun_at, self._pushed_s)
        if self._end is not None:
            self._end.cancel()
        self._begun_at, self._pushed_s, self._end = None, 0.0, None
        self.on_playback_finished(playback_position=position_s, interrupted=interrupted)


async def converse(clip: Clip, options: argparse.Namespace) -> None:
    samples = microphone(*read_wave(clip.path), RATE)
    room = samples[: RATE * 2]  # a second of the room before anything is heard
    heard, speaker = Microphone(), Loudspeaker()
    session: AgentSession[None]
    if options.realtime:
        session = AgentSession(llm=inference.RealtimeModel(options.realtime))
    else:
        session = AgentSession(
            vad=inference.VAD(), llm=inference.LLM(options.model), stt=Deaf(), tts=Tone()
        )
    answered = asyncio.Event()

    @session.on("conversation_item_added")
    def on_item(event: Any) -> None:
        item = event.item
        if item.type == "message":
            say("item", clip=clip.path, role=item.role, text=item.text_content)

    @session.on("speech_created")
    def on_speech(event: Any) -> None:
        if not event.user_initiated:
            answered.set()

    speaking = asyncio.Event()

    @session.on("overlapping_speech")
    def on_overlap(event: Any) -> None:
        say("overlapping_speech", **described(clip.path, event))

    @session.on("agent_state_changed")
    def on_state(event: Any) -> None:
        say("agent_state", clip=clip.path, state=event.new_state)
        if event.new_state == "speaking":
            speaking.set()

    @session.on("user_state_changed")
    def on_user(event: Any) -> None:
        say("user_state", clip=clip.path, state=event.new_state)

    @session.on("error")
    def on_error(event: Any) -> None:
        say("error", clip=clip.path, **error_fields(getattr(event.error, "error", event.error)))

    session.input.audio, session.output.audio = heard, speaker

    async def listen() -> None:
        pace = Pace(1.0)

        async def hear(sound: bytes) -> None:
            for piece in pieces(sound, RATE, FRAME_MS):
                await pace.wait(FRAME_MS / 1000)
                heard.frames.put_nowait(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))

        while not speaking.is_set():
            await hear(room[: RATE * 2 * FRAME_MS // 1000])
        begun = time.monotonic()
        while time.monotonic() - begun < SPEAKING_BEFORE_S - clip.onset_s:
            await hear(room[: RATE * 2 * FRAME_MS // 1000])
        say("clip_started", clip=clip.path)
        await hear(samples)
        while True:
            await hear(room)

    listening = asyncio.create_task(listen())
    try:
        await session.start(Agent(instructions="You are a test."), record=False)
        reply = session.generate_reply(user_input=options.message)
        await asyncio.wait_for(reply.wait_for_playout(), GIVE_UP_S)
        said = [item.text_content for item in reply.chat_items if item.type == "message"]
        say(
            "replied",
            clip=clip.path,
            interrupted=reply.interrupted,
            text=" ".join(filter(None, said)),
        )
        if options.realtime and reply.interrupted:
            await asyncio.wait_for(answered.wait(), GIVE_UP_S)
            say("answered", clip=clip.path)
    except Exception as error:
        say("failed", clip=clip.path, **error_fields(error))
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await session.aclose()
        say("done", clip=clip.path)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Clip.parse, metavar="WAV:ONSET_S:END_S")
    parser.add_argument("--model", default="openai/gpt-4.1-mini")
    parser.add_argument("--message", default="Hello")
    parser.add_argument("--realtime", default=None)
    options = parser.parse_args()
    async with http_session():
        await asyncio.gather(*(converse(clip, options) for clip in options.clips))


if __name__ == "__main__":
    run(main)
