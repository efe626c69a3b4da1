"""The console of an agent, with a program as microphone and loudspeaker.

The agent runs as `python -m livekit.agents console AGENT`, unmodified, and talks to this console.
The microphone hears a quiet room; then the first recording; when the agent has spoken for a while,
the second one, which interrupts it; and when it has answered that, the end. The loudspeaker plays
in real time to nobody.

Events: `agent_state`, `user_said` (finals), `item` (of the conversation), `spoken` (a recording has
ended), `sound` (the first sound of an utterance, `after_s` the end of the recording before it),
`interrupted` (a reply was cut short), `finished` (one was not), `error`, `done`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import struct
import sys
import time

from events import Pace, microphone, pieces, read_wave, run, say
from livekit.protocol.agent_pb import agent_session as pb

RATE = 48000
FRAME_MS = 20
LOUD = 300
"""A sample of this size is a sound."""
READY_S = 90.0
ANSWER_S = 300.0
SPEAKS_S = 3.4
"""No interruption counts while echo cancellation warms up (3 s)."""

Message = pb.AgentSessionMessage


class Console:
    """One agent's other end."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.listening = asyncio.Event()
        self.sounding = asyncio.Event()
        self.interrupted = asyncio.Event()  # a reply was cut short
        self.ended_at = time.monotonic()  # of the recording that was played last
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None
        self._sounded = False
        self._playing_until = 0.0
        self._finish: asyncio.TimerHandle | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.connected.set()
        while True:
            try:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                message = Message.FromString(await reader.readexactly(length))
            except asyncio.IncompleteReadError:
                return
            self._hear(message)

    def _hear(self, message: Message) -> None:
        kind = message.WhichOneof("message")
        now = time.monotonic()
        if kind == "audio_output":
            frame = message.audio_output
            samples = memoryview(frame.data).cast("h")
            self._playing_until = max(now, self._playing_until) + len(samples) / frame.sample_rate
            if not self._sounded and any(abs(one) > LOUD for one in samples[::8]):
                self._sounded = True
                say("sound", after_s=round(now - self.ended_at, 3))
                self.sounding.set()
        elif kind == "audio_playback_flush":
            left_s = max(0.0, self._playing_until - now)
            self._finish = asyncio.get_running_loop().call_later(left_s, self._played)
        elif kind == "audio_playback_clear":
            if self._finish is not None:
                self._finish.cancel()
            self._over()
        elif kind == "event":
            self._tell(message.event)

    def _played(self) -> None:
        self.send(Message(audio_playback_finished=Message.ConsoleIO.AudioPlaybackFinished()))
        say("finished")
        self._over()

    def _over(self) -> None:
        self._finish, self._sounded, self._playing_until = None, False, 0.0
        self.sounding.clear()

    def _tell(self, event: pb.AgentSessionEvent) -> None:
        match event.WhichOneof("event"):
            case "agent_state_changed":
                state = pb.AgentState.Name(event.agent_state_changed.new_state)
                say("agent_state", state=state)
                if state == "AS_LISTENING":
                    self.listening.set()
            case "user_input_transcribed" if event.user_input_transcribed.is_final:
                say("user_said", text=event.user_input_transcribed.transcript)
            case "conversation_item_added":
                said = event.conversation_item_added.item.message
                text = " ".join(part.text for part in said.content)
                say("item", role=pb.ChatRole.Name(said.role), text=text[:200])
                if said.interrupted:
                    say("interrupted")
                    self.interrupted.set()
            case "error":
                say("error", message=event.error.message)

    def send(self, message: Message) -> None:
        assert self._writer is not None
        data = message.SerializeToString()
        self._writer.write(struct.pack(">I", len(data)) + data)

    async def listen(self) -> None:
        """The microphone, until it is cancelled."""
        pace, quiet = Pace(1.0), bytes(2 * RATE * FRAME_MS // 1000)
        while True:
            await pace.wait(FRAME_MS / 1000)
            piece = quiet if self._heard.empty() else self._heard.get_nowait()
            frame = Message.ConsoleIO.AudioFrame(
                data=piece, sample_rate=RATE, num_channels=1, samples_per_channel=len(piece) // 2
            )
            self.send(Message(audio_input=frame))

    async def speak(self, path: str) -> None:
        """Play a recording into the microphone."""
        for piece in pieces(microphone(*read_wave(path), RATE), RATE, FRAME_MS):
            self._heard.put_nowait(piece)
        while not self._heard.empty():
            await asyncio.sleep(FRAME_MS / 1000)
        self.ended_at = time.monotonic()
        say("spoken", clip=path)


async def converse(console: Console, options: argparse.Namespace) -> None:
    async with asyncio.timeout(READY_S):
        await console.listening.wait()
    await asyncio.sleep(1.0)
    await console.speak(options.question)
    async with asyncio.timeout(ANSWER_S):
        await console.sounding.wait()
        await asyncio.sleep(SPEAKS_S)
        speaking = asyncio.create_task(console.speak(options.interruption))
        await console.interrupted.wait()
        await speaking
        console.sounding.clear()
        await console.sounding.wait()
    await asyncio.sleep(1.0)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agent")
    parser.add_argument("question", help="a recording")
    parser.add_argument("interruption", help="a recording")
    options = parser.parse_args()
    console = Console()
    server = await asyncio.start_server(console.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "livekit.agents", "console", options.agent),
        *("--connect-addr", f"127.0.0.1:{port}"),
        stdout=sys.stderr,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    listening = None
    try:
        async with asyncio.timeout(READY_S):
            await console.connected.wait()
        listening = asyncio.create_task(console.listen())
        await converse(console, options)
        say("done")
    finally:
        if listening is not None:
            listening.cancel()
        agent.terminate()
        try:
            async with asyncio.timeout(10):
                await agent.wait()
        except TimeoutError:
            agent.kill()
        server.close()


if __name__ == "__main__":
    run(main)
