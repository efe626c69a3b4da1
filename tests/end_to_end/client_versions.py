"""A short call of each kind with many versions of LiveKit's Python client, against the real server.

`python -m tests.end_to_end.client_versions` takes the oldest and the newest release of each minor
that the package index has; names of versions choose others. Environments are kept, as those of the
tests are (clients.py); the packages that a version needs are the newest that it can be imported
with.

A row of the table is a version: `ok`, `-` where that version has no such class, or what went wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import environments
from tests.end_to_end import make_recordings
from tests.end_to_end.clients import Client, ClientError, Event, _python, _uv
from tests.end_to_end.conftest import recordings
from tests.end_to_end.server import Server, running
from tests.environments import InstallError
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

PACKAGE: Final = "livekit-agents"

SINCE: Final = (1, 2)
"""Older minors have no `inference` package."""

RATE: Final = 16_000
SAID: Final = "Hello there my friend."
CALL_S: Final = 90.0

OLDER: Final = (
    (),
    ("openai<3", "httpx<1"),
    ("opentelemetry-sdk<1.39", "opentelemetry-exporter-otlp<1.39"),
)
"""What releases of another time need in place of the newest: they name no upper bounds. Each is
added where the package cannot be imported without."""

CLASSES: Final = {
    "llm": "class LLM",
    "tools": "class LLM",
    "stt": "class STT",
    "tts": "class TTS",
    "bargein": "class AdaptiveInterruptionDetector",
    "decisions": "class DecisionModel",
}
"""Kinds of calls, and what a version must have for them."""

Version = tuple[int, int, int]


def ends_of_minors(versions: Iterable[str], since: tuple[int, int] = SINCE) -> list[str]:
    """The oldest and the newest release of each minor, oldest first; no pre-releases."""
    minors: dict[tuple[int, int], list[Version]] = {}
    for name in versions:
        if (found := re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", name)) is None:
            continue
        major, minor, patch = (int(part) for part in found.groups())
        if (major, minor) >= since:
            minors.setdefault((major, minor), []).append((major, minor, patch))
    ends = [end for _, found in sorted(minors.items()) for end in (min(found), max(found))]
    return [".".join(map(str, end)) for end in dict.fromkeys(ends)]


def released() -> list[str]:
    """The versions that the package index has for this Python."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", PACKAGE],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"^Available versions: (.*)$", told, re.M)
    return [] if found is None else found[1].split(", ")


@dataclass(frozen=True)
class Released(Client):
    """A version of the package, with the newest that it works with of what it needs."""

    version: str = ""

    def folder(self) -> Path:
        return environments.cache() / f"{PACKAGE}-{self.version}-matrix"

    def _install(self, folder: Path) -> None:
        uv = _uv()
        make: tuple[str | Path, ...]
        install: list[str | Path]
        if uv:
            make = (uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder)
            install = [uv, "pip", "install", "--quiet", "--python", _python(folder)]
        else:
            make = (sys.executable, "-m", "venv", folder)
            install = [_python(folder), "-m", "pip", "install", "--quiet"]
        environments.run(*make)
        wanted = [f"{PACKAGE}=={self.version}"]
        for older in OLDER:
            wanted += older
            environments.run(*install, *wanted)
            with contextlib.suppress(InstallError):
                environments.run(_python(folder), "-c", "import livekit.agents.inference")
                return

    def has(self, what: str) -> bool:
        """Whether its inference package has this."""
        files = self.folder().glob("**/livekit/agents/inference/*.py")
        return any(what in path.read_text() for path in files)


def client_of(version: str) -> Released:
    return Released(f"{PACKAGE}-{version}", "python", (), version=version)


# -- calls


@contextlib.contextmanager
def server() -> Iterator[tuple[Server, Path]]:
    """A gateway in front of fake providers, and a recording of words."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        chat = stack.enter_context(FakeOpenAI())
        judge = stack.enter_context(FakeOpenAI(default="structured"))
        ear = stack.enter_context(FakeDeepgram())
        voice = stack.enter_context(FakeCartesia())
        config = (
            "local_stand_in: false\nproviders:\n"
            f"  openai: {{base_url: '{chat.base_url}', api_key: k}}\n"
            f"  judge: {{type: openai-compatible, base_url: '{judge.base_url}', api_key: k}}\n"
            f"  deepgram: {{base_url: '{ear.url}', api_key: {KEY}}}\n"
            f"  cartesia: {{base_url: '{voice.url}', api_key: k}}\n"
            "models: {decides: [{provider: judge, model: one}]}\n"
        )
        recording = folder / "words.wav"
        with wave.open(str(recording), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(hush(0.3) + spoken(VOCABULARY[:6]) + hush(1.5))
        yield stack.enter_context(running(folder, config)), recording


def calls(client: Released, gateway: Server, recording: Path) -> dict[str, str]:
    """What became of each kind of call."""
    driven = {
        "llm": ("drive_llm", ["say: text"], "answered"),
        "tools": ("drive_llm", ["--tools", "say: tools"], "tool_call"),
        "stt": ("drive_stt", [str(recording), "--model", "deepgram/nova-3"], "speech"),
        "tts": ("drive_tts", [SAID], "spoken"),
        "bargein": ("drive_bargein", [_interruption()], "overlapping_speech"),
        "decisions": ("drive_decisions", ["decides"], "decided"),
    }
    return {
        kind: _call(client, gateway, driver, arguments, wanted)
        if client.has(CLASSES[kind])
        else "-"
        for kind, (driver, arguments, wanted) in driven.items()
    }


def _interruption() -> str:
    return next(one.argument for one in recordings() if one.label == "interruption")


def _call(
    client: Released, gateway: Server, driver: str, arguments: Sequence[str], wanted: str
) -> str:
    try:
        events = client.drive(
            driver, *arguments, environment=gateway.agent_environment(), timeout_s=CALL_S
        )
    except ClientError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return lines[-1][:120]
    except subprocess.TimeoutExpired:
        return f"no end within {CALL_S:g} s"
    if wanted in [one["event"] for one in events]:
        return "ok"
    return _trouble(events)


def _trouble(events: Sequence[Event]) -> str:
    told = [one for one in events if one["event"] in ("failed", "error", "crashed")]
    return str((told or [{"message": "nothing came"}])[-1].get("message", ""))[:120]


def check(version: str, gateway: Server, recording: Path) -> dict[str, str]:
    """A row of the table."""
    client = client_of(version)
    try:
        client.ensure()
    except InstallError as error:
        return dict.fromkeys(CLASSES, f"cannot be installed: {str(error).splitlines()[-1][:90]}")
    return calls(client, gateway, recording)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", help="default: the ends of each minor")
    parser.add_argument("--at-once", type=int, default=1, help="versions tried at the same time")
    options = parser.parse_args()
    versions = options.versions or ends_of_minors(released())
    make_recordings.make()
    bad = 0
    print(f"{'version':10}" + "".join(f"{kind:>11}" for kind in CLASSES))
    with server() as (gateway, recording), ThreadPoolExecutor(options.at_once) as pool:
        found = pool.map(lambda version: check(version, gateway, recording), versions)
        for version, row in zip(versions, found, strict=True):
            words = [word if word in ("ok", "-") else "FAILED" for word in row.values()]
            print(f"{version:10}" + "".join(f"{word:>11}" for word in words), flush=True)
            for kind, word in row.items():
                if word not in ("ok", "-"):
                    bad += 1
                    print(f"{'':10}{kind}: {word}", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
