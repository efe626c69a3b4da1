"""A rolling restart behind a load balancer while unmodified clients talk, as a table.

    python -m tests.end_to_end.rollout                    # two gateways, then three
    python -m tests.end_to_end.rollout --grace-s 16       # calls that outlive the grace

One gateway after the other is replaced, as Kubernetes does it: the new one is started and ready,
then the old one gets SIGTERM. Each client's call has speech-to-text, replies, a voice,
interruption and end of turn going on at the same time (`drivers/drive_talk.*`).
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import os
import signal
import sys
import tempfile
import wave
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.balancer import balancing
from tests.end_to_end.clients import CLIENTS, PYTHONS_KEPT, Client, Event
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model, turn_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

PAIR = ("APItest", "s" * 40)
RATE = 16_000
UTTERANCES = tuple(VOCABULARY[i : i + 3] for i in range(0, 18, 3))
PAUSE_S = 1.2
"""Between two utterances; also what ends one."""

GRACE_S = 3600.0
GOES_ON = {"reply": 3, "utterance": 2, "overlap": 2}
"""So much of each happens in every call before the next gateway is replaced."""

STEP_TIMEOUT_S = 120.0
POLL_S = 0.05


@dataclass
class Talk:
    """A client's call, and what came of it."""

    client: Client
    process: asyncio.subprocess.Process = field(repr=False)
    events: list[Event] = field(default_factory=list)

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                self.events.append(event)

    def of(self, *names: str) -> list[Event]:
        return [event for event in self.events if event["event"] in names]

    def tries(self, name: str) -> tuple[int, int]:
        """How many there were, and how many failed."""
        found = self.of(name)
        return len(found), sum(not event["ok"] for event in found)

    def words(self) -> tuple[int, int, int]:
        """Words that were said, lost, and heard although nobody had said them (or twice)."""
        loops = sum(event["loops"] for event in self.of("spoken"))
        said = [word for utterance in UTTERANCES for word in utterance] * loops
        text = " ".join(event["text"] for event in self.of("final"))
        heard = text.lower().replace(".", "").split()
        matcher = difflib.SequenceMatcher(None, said, heard, autojunk=False)
        kept = sum(block.size for block in matcher.get_matching_blocks())
        return len(said), len(said) - kept, len(heard) - kept

    @property
    def detectors_lost(self) -> list[str]:
        """Detectors that the client has given up."""
        return [event["part"] for event in self.of("detector") if event["lost"]]

    @property
    def broken(self) -> list[Event]:
        """Parts of the call that ended before it, and errors that a client does not get over."""
        final = [event for event in self.of("trouble") if not event["recoverable"]]
        return [*self.of("lost", "crashed", "unhandled"), *final]


def write_recording(path: Path) -> Path:
    """The caller's voice: each of the UTTERANCES once, a pause behind each."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        for utterance in UTTERANCES:
            file.writeframes(spoken(utterance, RATE) + hush(PAUSE_S, RATE))
    return path


@contextmanager
def configured(folder: Path, grace_s: float, workers: int) -> Iterator[str]:
    """The configuration of all gateways, and the providers that it names."""
    interruption = frame_model.write(folder / "interruption.onnx")
    turn = turn_model.write(folder / "turn.onnx")
    with FakeOpenAI() as llm, FakeCartesia() as voice, FakeDeepgram() as ear:
        yield f"""
bargein: {{model: {interruption}}}
eot: {{model: {turn}}}
usage: {{enabled: false}}
server: {{drain_delay_s: 1, shutdown_grace_s: {grace_s}, workers: {workers}}}
providers:
  openai: {{base_url: "{llm.base_url}", api_key: k}}
  cartesia: {{base_url: "{voice.url}", api_key: k}}
  deepgram: {{base_url: "{ear.url}", api_key: {KEY}}}
"""


@asynccontextmanager
async def talking(client: Client, url: str, wav: Path) -> AsyncIterator[Talk]:
    kept = {key: os.environ[key] for key in PYTHONS_KEPT if key in os.environ}
    process = await asyncio.create_subprocess_exec(
        *client.command("drive_talk", [str(wav)]),
        cwd=client.folder(),
        env={
            **kept,
            "LIVEKIT_INFERENCE_URL": f"{url}/v1",
            "LIVEKIT_REMOTE_EOT_URL": f"{url}/v1",
            "LIVEKIT_API_KEY": PAIR[0],
            "LIVEKIT_API_SECRET": PAIR[1],
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    talk = Talk(client, process)
    reading = asyncio.create_task(talk.read())
    try:
        yield talk
        assert process.stdin is not None
        process.stdin.close()
        await reading
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        reading.cancel()


async def until_all_went_on(talks: Sequence[Talk], more: Mapping[str, int]) -> None:
    """Every call has had so much more of everything."""
    before = [{name: talk.tries(name)[0] for name in more} for talk in talks]
    while not all(
        talk.tries(name)[0] >= had[name] + wanted
        for talk, had in zip(talks, before, strict=True)
        for name, wanted in more.items()
    ):
        if gone := [talk for talk in talks if talk.process.returncode is not None]:
            raise RuntimeError(f"{gone[0].client.name} ended: {gone[0].events[-3:]}")
        await asyncio.sleep(POLL_S)


async def roll(
    folder: Path,
    clients: Sequence[Client],
    gateways: int,
    grace_s: float = GRACE_S,
    goes_on: Mapping[str, int] = GOES_ON,
    workers: int = 1,
) -> list[Talk]:
    """Replace every gateway while each of `clients` talks; before each, the calls go on by
    `goes_on`. Raises TimeoutError if a call stands
    still, RuntimeError if a gateway does not end well."""
    wav = write_recording(folder / "caller.wav")
    with configured(folder, grace_s, workers) as config, ExitStack() as stack:

        async def start(number: int) -> Server:
            own = folder / f"gateway-{number}"
            own.mkdir()
            started = running(own, config, pair=PAIR)
            return await asyncio.to_thread(stack.enter_context, started)

        old = [await start(number) for number in range(gateways)]
        async with balancing(*(server.port for server in old), spread=True) as balancer:
            await balancer.until_ready(*(server.port for server in old))
            async with AsyncTalks(clients, balancer.url, wav) as talks:
                async with asyncio.timeout(STEP_TIMEOUT_S):
                    await until_all_went_on(talks, goes_on)
                for number, server in enumerate(old, start=gateways):
                    async with asyncio.timeout(STEP_TIMEOUT_S):
                        new = await start(number)
                        balancer.ports.append(new.port)
                        await balancer.until_ready(*balancer.ports)
                        server.process.send_signal(signal.SIGTERM)
                        balancer.ports.remove(server.port)
                        await until_all_went_on(talks, goes_on)
                        if grace_s < STEP_TIMEOUT_S:
                            await ended(server)
            # the calls are over: nothing holds the old ones
            for server in old:
                async with asyncio.timeout(STEP_TIMEOUT_S):
                    await ended(server)
            if balancer.refused:
                raise RuntimeError(f"{balancer.refused} connections were taken by nobody")
    return talks


async def ended(server: Server) -> None:
    """The process has ended, and well."""
    if status := await asyncio.to_thread(server.process.wait):
        raise RuntimeError(f"exit status {status}:\n{server.log.read_text()[-4000:]}")


class AsyncTalks:
    """The calls of all clients, side by side."""

    def __init__(self, clients: Sequence[Client], url: str, wav: Path) -> None:
        self._open = [talking(client, url, wav) for client in clients]

    async def __aenter__(self) -> list[Talk]:
        return list(await asyncio.gather(*(one.__aenter__() for one in self._open)))

    async def __aexit__(self, *failure: object) -> None:
        await asyncio.gather(*(one.__aexit__(*failure) for one in self._open))  # type: ignore[arg-type]


def table(talks: Sequence[Talk], gateways: int) -> str:
    """What came of the calls, in Markdown."""
    lines = [
        "| gateways | client | replies | failed | words | lost | heard twice | sentences | cut "
        "| overlaps | unanswered | turns | unanswered | detectors given up | errors it got over |",
        "|---|---|" + "--:|" * 11 + "---|--:|",
    ]
    for talk in talks:
        cells: list[object] = [gateways, talk.client.name]
        cells += [*talk.tries("reply"), *talk.words(), *talk.tries("utterance")]
        cells += [*talk.tries("overlap"), *talk.tries("turn")]
        cells.append(", ".join(talk.detectors_lost) or "none")
        cells.append(sum(event["recoverable"] for event in talk.of("trouble")))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, nargs="*", default=[2, 3])
    parser.add_argument("--grace-s", type=float, default=GRACE_S)
    parser.add_argument("--workers", type=int, default=1, help="processes of each gateway")
    parser.add_argument("--client", action="append", choices=[one.name for one in CLIENTS])
    parser.add_argument(
        "--verbose", action="store_true", help="also what went wrong, an event a line"
    )
    asked = parser.parse_args()
    clients = [one for one in CLIENTS if not asked.client or one.name in asked.client]
    for client in clients:
        client.ensure()
    for gateways in asked.gateways:
        with tempfile.TemporaryDirectory() as folder:
            talks = asyncio.run(
                roll(
                    Path(folder),
                    clients,
                    gateways,
                    asked.grace_s,
                    workers=asked.workers,
                )
            )
        print(table(talks, gateways), flush=True)
        for talk in talks:
            wrong = [event for event in talk.events if event.get("ok") is False]
            for event in [*talk.broken, *wrong, *talk.of("trouble")] if asked.verbose else []:
                print(talk.client.name, json.dumps(event), file=sys.stderr)


if __name__ == "__main__":
    main()
