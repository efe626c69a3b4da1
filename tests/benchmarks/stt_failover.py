"""What a failing recogniser costs a caller: words lost, words doubled, the pause.

Sessions of real speech (tests/recordings, or a folder with more that PARLEY_AUDIO names) go to two
fake recognisers through the gateway. They know the recordings by their samples, so that audio which
is lost or sent twice shows in the words. Connections fail at random moments, one way for each group
of sessions.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.benchmarks.tools import free_port, other_model, percentile, process, table
from tests.collection import collection, listed
from tests.end_to_end.server import Server
from tests.end_to_end.stt_caller import TRANSCRIPTS, converse
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.recordings import RATE, Library, RecordingEar
from tests.fakes.speech import KEY as PROVIDER_KEY
from tests.fakes.tones import hush

KEY, SECRET = "APIbench", "bench-secret-bench-secret-bench-secret"
SESSIONS, SESSIONS_QUICK = 210, 28
AT_A_TIME = 20
RECORDINGS_MAX = 24
"""That callers choose from, where there are so many."""

UTTERANCES = 2
"""Recordings in a session, one after the other."""

LEAD_S, GAP_S, TAIL_S = 0.3, 0.8, 1.0
FAILING = 0.7
"""So many connections fail; a session may meet several of them."""

KINDS = {
    "none": (),
    "reset": ("drop:{at}",),
    "closed, 1011": ("close:{at}:1011:internal",),
    "closed, 1000": ("close:{at}:1000:bye",),
    "says nothing more": ("stall:{at}",),
    "reads nothing more": ("no-read:{at}",),
    "its own error": ("error:{at}",),
    "reset, then refuses": ("drop:{at}", "status:503", "status:503"),
    "no final, no flush": ("no-final+no-flush",),
    "any of these": (
        "drop:{at}",
        "close:{at}:1011:internal",
        "stall:{at}",
        "no-read:{at}",
        "error:{at}",
        "status:503",
        "status:429",
    ),
}


SLOW = "words once a second"
"""The same, by recognisers that tell their words so seldom, as some do."""

SLOW_KINDS = ("none", "says nothing more", "any of these")


class _Killed(FakeDeepgram):
    """A recogniser whose connections fail at random."""

    def __init__(
        self, library: Library, faults: tuple[str, ...], longest_s: float, *, slow: bool = False
    ) -> None:
        super().__init__(ear=lambda rate: RecordingEar(library))
        self.interim_every_s = 1.0 if slow else 0.0
        self._faults = faults
        self._longest_s = longest_s
        self.killed = 0

    def next_scripted(self) -> str | None:
        if not self._faults or random.random() > FAILING:
            return ""
        self.killed += 1
        return random.choice(self._faults).format(at=f"{random.uniform(0.2, self._longest_s):.2f}")


def _recordings(folder: Path) -> list[bytes]:
    import soundfile

    paths = [row["path"] for row in listed(folder) if "speech_libri" in row["path"]]
    found = []
    for path in random.Random(7).sample(paths, min(RECORDINGS_MAX, len(paths))):
        samples, rate = soundfile.read(folder / path, dtype="int16")
        assert rate == RATE
        found.append(np.asarray(samples, np.int16).tobytes())
    return found


class _Call:
    """What one caller says, and what became of it."""

    def __init__(self, library: Library, choice: random.Random) -> None:
        self.pcm = hush(LEAD_S)
        self.ends: dict[str, float] = {}
        for n in choice.sample(range(len(library.recordings)), UTTERANCES):
            at = len(self.pcm) / 2 / RATE
            self.ends.update({name: at + end for name, end in library.words(n)})
            self.pcm += library.recordings[n] + hush(GAP_S)
        self.pcm += hush(TAIL_S)
        self.told: list[dict[str, Any]] = []

    def heard(self) -> Counter[str]:
        return Counter(
            word
            for one in self.told
            if one["type"] == "final_transcript"
            for word in _words(one["transcript"])
        )

    def pause_s(self) -> float:
        """How late the latest word first appeared."""
        first: dict[str, float] = {}
        for one in self.told:
            if one["type"] in TRANSCRIPTS:
                for word in _words(one["transcript"]):
                    first.setdefault(word, one["at"])
        return max((first[w] - end for w, end in self.ends.items() if w in first), default=0.0)

    def misplaced_s(self) -> float:
        """How far from its place on the session's clock a word stood at most."""
        return max(
            (
                abs(word["end"] - self.ends[name])
                for one in self.told
                if one["type"] == "final_transcript"
                for word in one["words"]
                for name in _words(word["word"])
                if name in self.ends
            ),
            default=0.0,
        )


def _words(text: str) -> list[str]:
    return text.lower().replace(".", "").split()


async def _play(server: Server, calls: list[_Call]) -> None:
    places = asyncio.Semaphore(AT_A_TIME)

    async def one(call: _Call) -> None:
        async with places:
            await asyncio.sleep(random.random())
            connection = {"timeout": 5.0, "retries": 10}
            call.told = await converse(
                server, call.pcm, model="bench", connection=connection, timeout_s=120
            )

    await asyncio.gather(*(one(call) for call in calls))


def _hedges(admin_port: int) -> int:
    """Hedges that the gateway has counted."""
    answer = httpx.get(f"http://127.0.0.1:{admin_port}/metrics", timeout=10.0)
    lines = answer.raise_for_status().text.splitlines()
    lines = [line for line in lines if line.startswith("parley_hedges_total{")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def _group(
    library: Library, kind: str, sessions: int, *, slow: bool = False
) -> tuple[list[_Call], int, int]:
    """The calls of a group, how many connections were killed, and how many were hedges."""
    calls = [_Call(library, random.Random(n)) for n in range(sessions)]
    longest_s = min(len(call.pcm) for call in calls) / 2 / RATE
    with (
        tempfile.TemporaryDirectory() as folder,
        _Killed(library, KINDS[kind], longest_s, slow=slow) as one,
        _Killed(library, KINDS[kind], longest_s, slow=slow) as two,
    ):
        port, admin_port = free_port(), free_port()
        config = Path(folder) / "gateway.yaml"
        providers = "".join(
            f"  {name}: {{type: deepgram, base_url: '{fake.url}', api_key: {PROVIDER_KEY}}}\n"
            for name, fake in (("one", one), ("two", two))
        )
        config.write_text(
            f"keys: {{{KEY}: {SECRET}}}\n{other_model()}log: {{level: warning}}\n"
            f"stt: {{local_last: false}}\nproviders:\n{providers}models:\n  bench:\n"
            "    - {provider: one, model: nova-3}\n    - {provider: two, model: nova-3}\n"
        )
        command = [
            "-m",
            "gateway",
            "serve",
            f"--admin-port={admin_port}",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        with process(
            [sys.executable, *command, "--config", str(config)], f"http://127.0.0.1:{port}/readyz"
        ) as ours:
            asyncio.run(_play(Server(port, KEY, SECRET, Path(), ours), calls))
            hedges = _hedges(admin_port)
        return calls, one.killed + two.killed, hedges


def _row(title: str, calls: list[_Call], killed: int, hedges: int) -> list[Any]:
    lost = doubled = 0
    for call in calls:
        heard = call.heard()
        lost += sum(name not in heard for name in call.ends)
        doubled += sum(count - 1 for count in heard.values())
    pauses = [call.pause_s() for call in calls]
    return [
        title,
        len(calls),
        killed,
        hedges,
        sum(len(call.ends) for call in calls),
        lost,
        doubled,
        sum(one["type"] == "error" for call in calls for one in call.told),
        percentile(pauses, 0.5),
        percentile(pauses, 0.99),
        max(pauses),
        max(call.misplaced_s() for call in calls),
    ]


def main(*, quick: bool = False) -> None:
    random.seed(11)
    library = Library(_recordings(collection()))
    failing = [kind for kind in KINDS if KINDS[kind]]
    sessions = SESSIONS_QUICK if quick else SESSIONS
    of_each = max(2, sessions // len(failing))
    rows, everybody, every_kill, every_hedge = [], [], 0, 0
    for kind in KINDS:
        calls, killed, hedges = _group(library, kind, of_each)
        rows.append(_row(kind, calls, killed, hedges))
        if KINDS[kind]:
            everybody += calls
            every_kill += killed
            every_hedge += hedges
    rows.append(_row("all that fail", everybody, every_kill, every_hedge))
    for kind in SLOW_KINDS:
        rows.append(_row(f"{kind}; {SLOW}", *_group(library, kind, of_each, slow=True)))
    table(
        f"/stt: real speech, two recognisers, {FAILING:.0%} of connections fail",
        (
            "",
            "sessions",
            "killed",
            "hedges",
            "words",
            "lost",
            "doubled",
            "errors",
            "pause p50 s",
            "p99 s",
            "worst s",
            "misplaced s",
        ),
        rows,
    )
