"""`gateway bench --providers`: the installation's own providers side by side, through a server of
its own with the installation's configuration. It costs money, and says how much before."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
from pydantic import SecretStr

from gateway.audio.wav import WavError, read_wav
from gateway.cli.bench_server import BenchError, Running, server
from gateway.config import Config
from gateway.routing.catalogue import Catalogue
from gateway.telemetry.outcome import NANO
from gateway.telemetry.prices import Prices, prices_in, speech_cost, tokens_cost
from gateway.upstreams.provider import Modality, find

MODELS_MAX: Final = 3
"""Models of one provider that are asked, of those that the configuration names; of a provider that
it names none for, one."""

ROUNDS: Final = 3
"""Times that each is asked."""

MODALITIES: Final[tuple[Modality, ...]] = ("chat", "tts", "stt")
"""In this order: what a voice says is what the recognisers hear."""

QUESTION: Final = "Say hello in one short sentence."
PROMPT_TOKENS: Final = 20
"""What that is at most, with what providers add."""

REPLY_TOKENS_MAX: Final = 64

SENTENCE: Final = "Good morning, and thank you for calling. How may I help you today?"

VOICE_RATE: Final = 24_000
EAR_RATE: Final = 16_000
SPEECH_S_MAX: Final = 10.0
"""Longer speech is cut: it is paid for."""

ANSWER_S: Final = 30.0
FRAME_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment that is asked, under the name `asked` of the measured configuration."""

    modality: Modality
    provider: str
    model: str
    asked: str = ""


@dataclass(slots=True)
class Tried:
    """What came of it: seconds of each round to the first token, audio or interim."""

    target: Target
    first_s: list[float] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What it will cost at most, in billionths of `currency`; models without a price are not in
    it."""

    nano: int
    currency: str
    unpriced: tuple[str, ...]


WHAT: Final[Mapping[Modality, str]] = {
    "chat": "first token",
    "tts": "first audio",
    "stt": "first interim",
}


def targets(config: Config) -> list[Target]:
    """Which deployments are asked: those that `models` names, of other providers the first of the
    vendor's models. Engines of this machine are among them: they cost nothing."""
    accounts = config.accounts()
    found: list[Target] = []
    for modality in MODALITIES:
        catalogue = Catalogue(config.models, accounts, modality)
        named = [
            (one.provider, one.model)
            for name, deployments in config.models.items()
            if name in catalogue.names()
            for one in deployments
            if one.provider is not None and "*" not in one.model
        ]
        for name, account in accounts.items():
            own = list(dict.fromkeys(model for provider, model in named if provider == name))
            if not own:
                offer = find(account.type).offers.get(modality)
                first = [] if offer is None else [m for m in offer.models.values() if "*" not in m]
                listed = [
                    a.model for p in catalogue.names().values() for a in p if a.provider == name
                ]
                own = [*first, *listed][:1] if offer is not None else []
            found += [Target(modality, name, model) for model in own[:MODELS_MAX]]
    return [replace(one, asked=f"bench/{i}") for i, one in enumerate(found)]


def bill(config: Config, chosen: Iterable[Target], speech_s: float) -> Bill:
    """What the targets will cost at most by the price list. `speech_s`: seconds of the speech that
    recognisers hear."""
    prices = prices_in(config.usage, config.prices, config.accounts())
    nano, unpriced = 0, []
    for one in chosen:
        cost = _cost(prices, one, speech_s)
        if cost is None:
            unpriced.append(f"{one.provider}:{one.model}")
        else:
            nano += ROUNDS * cost
    local = {name for name, one in config.accounts().items() if find(one.type).available}
    return Bill(
        nano,
        config.usage.currency,
        tuple(name for name in unpriced if name.partition(":")[0] not in local),
    )


def _cost(prices: Prices, target: Target, speech_s: float) -> int | None:
    price = prices.of(target.provider, target.model)
    if price is None:
        return None
    if target.modality == "chat":
        return tokens_cost(price, PROMPT_TOKENS, REPLY_TOKENS_MAX)
    if target.modality == "tts":
        return speech_cost(price, speech_s if price.audio_minute else 0.0, len(SENTENCE))
    return speech_cost(price, speech_s, 0)


def told(chosen: Sequence[Target], costs: Bill, speech_s: float) -> str:
    """What will be done and what it costs, for the person who has to agree."""
    lines = [
        f"{len(chosen)} deployments are asked {ROUNDS} times each, with the keys of the "
        f"configuration: {', '.join(f'{one.provider}:{one.model}' for one in chosen)}",
        f"at most {costs.nano / NANO:.4f} {costs.currency} by the price list (replies of "
        f"{REPLY_TOKENS_MAX} tokens, {len(SENTENCE)} characters, {speech_s:.0f} s of speech)",
    ]
    if costs.unpriced:
        lines.append(f"without a price, so not in this sum: {', '.join(costs.unpriced)}")
    return "\n".join(lines)


def measured_config(config: Config, chosen: Sequence[Target], folder: Path) -> Config:
    """The installation's configuration, where each target has a name of its own that leads nowhere
    else: no fallback, no hedge, no cache answers for it. Use is recorded as ever; that a server
    started is none of the installation's changes, and stands in `folder`."""
    models = {
        one.asked: [
            {"provider": one.provider, "model": one.model, "options": _options(config, one)}
        ]
        for one in chosen
    }
    deployments = Config.model_validate({"models": models}).models
    off = {"enabled": False}
    plain = {
        "models": deployments,
        "keys": config.keys or {"APIbench": SecretStr("bench-secret-bench-secret-bench-secret")},
        "local_stand_in": False,
        "usage": config.usage.model_copy(update={"spill": str(folder / "spill")}),
        "server": type(config.server).model_validate({"drain_delay_s": 0, "shutdown_grace_s": 1}),
        "page": type(config.page)(),
        "traces": type(config.traces)(),
        "chat": config.chat.model_copy(
            update={"hedge": type(config.chat.hedge).model_validate(off), "decision_model": None}
        ),
        "stt": config.stt.model_copy(
            update={
                "auto": {},
                "fallback": [],
                "local_last": False,
                "hedge": type(config.stt.hedge).model_validate(off),
                "standby": type(config.stt.standby)(),
            }
        ),
        "tts": config.tts.model_copy(
            update={
                "default_model": None,
                "hedge": type(config.tts.hedge).model_validate(off),
                "cache": type(config.tts.cache)(),
            }
        ),
    }
    return config.model_copy(update=plain)


def _options(config: Config, target: Target) -> dict[str, Any]:
    """The options that the configuration gives the deployment, such as its voice."""
    for deployments in config.models.values():
        for one in deployments:
            if (one.provider, one.model) == (target.provider, target.model):
                return one.options
    return {}


async def try_all(config: Config, chosen: Sequence[Target], speech: bytes | None) -> list[Tried]:
    """Ask every target, one after the other. `speech` (s16le at EAR_RATE) is what recognisers hear;
    None: what the first voice said. Raises BenchError where the server does not start."""
    from gateway.cli.bench import asking

    tried: list[Tried] = []
    with (
        tempfile.TemporaryDirectory(prefix="parley-bench-") as name,
        server(measured_config(config, chosen, Path(name)), Path(name), "bench") as running,
    ):
        async with asking() as http:
            for one in chosen:
                result = Tried(one)
                tried.append(result)
                for _ in range(ROUNDS):
                    try:
                        async with asyncio.timeout(ANSWER_S):
                            first_s, said = await _try(http, running, one, speech)
                    except (BenchError, aiohttp.ClientError, OSError, ValueError) as error:
                        result.error = str(error) or f"no answer within {ANSWER_S:.0f} s"
                        break
                    result.first_s.append(first_s)
                    speech = speech or said
    return tried


async def _try(
    http: Any, running: Running, target: Target, speech: bytes | None
) -> tuple[float, bytes | None]:
    """Seconds to the first answer, and what a voice said. Raises BenchError."""
    if target.modality == "chat":
        return await _chat(http, running, target.asked), None
    if target.modality == "tts":
        return await _tts(http, running, target.asked)
    if speech is None:
        raise BenchError("no voice spoke, so there is nothing to hear: name a recording, --speech")
    return await _stt(http, running, target.asked, speech), None


def _headers(running: Running) -> dict[str, str]:
    return {"authorization": f"Bearer {running.token}"}


async def _chat(http: Any, running: Running, model: str) -> float:
    body = {
        "model": model,
        "stream": True,
        "max_tokens": REPLY_TOKENS_MAX,
        "messages": [{"role": "user", "content": QUESTION}],
    }
    began, first = time.perf_counter(), 0.0
    url = f"{running.url}/v1/chat/completions"
    async with http.post(url, json=body, headers=_headers(running)) as reply:
        whole = b""
        async for piece in reply.content.iter_any():
            whole += piece
            if not first and reply.status == 200 and _has_content(whole):
                first = time.perf_counter() - began
    if not first:
        raise BenchError(_refusal(whole))
    return first


def _has_content(stream: bytes) -> bool:
    for line in stream.split(b"\n"):
        if line.startswith(b"data: {"):
            try:
                choices = json.loads(line[6:]).get("choices") or ()
            except ValueError:  # not yet whole
                continue
            if any((one.get("delta") or {}).get("content") for one in choices):
                return True
    return False


def _refusal(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "no reply came"


async def _tts(http: Any, running: Running, model: str) -> tuple[float, bytes]:
    async with http.ws_connect(
        f"{running.url}/v1/tts?model={model}", headers=_headers(running), max_msg_size=0
    ) as socket:
        create = {"type": "session.create", "model": model, "extra": {}}
        await socket.send_json(create | {"sample_rate": str(VOICE_RATE), "encoding": "pcm_s16le"})
        await _next(socket, "session.created")
        began, first, audio = time.perf_counter(), 0.0, b""
        await socket.send_json({"type": "input_transcript", "transcript": SENTENCE})
        await socket.send_json({"type": "session.flush"})
        while True:
            message = await _next(socket, "output_audio", "done")
            if message["type"] == "done":
                break
            first = first or time.perf_counter() - began
            audio += base64.b64decode(message["audio"])
    if not first:
        raise BenchError("no audio came")
    return first, resampled(audio, VOICE_RATE)


async def _stt(http: Any, running: Running, model: str, speech: bytes) -> float:
    """From the begin of the speech to the first words."""
    async with http.ws_connect(
        f"{running.url}/v1/stt?model={model}", headers=_headers(running), max_msg_size=0
    ) as socket:
        settings = {"sample_rate": str(EAR_RATE), "encoding": "pcm_s16le"}
        await socket.send_json({"type": "session.create", "model": model, "settings": settings})
        await _next(socket, "session.created")
        began = time.perf_counter()
        playing = asyncio.create_task(_play(socket, speech, began))
        try:
            while True:
                told = await _next(socket, "interim_transcript", "final_transcript", "closed")
                if told["type"].endswith("closed"):
                    raise BenchError("no words came")
                if told.get("transcript"):
                    return time.perf_counter() - began
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)


async def _play(socket: Any, speech: bytes, began: float) -> None:
    size = 2 * round(EAR_RATE * FRAME_S)
    for i in range(0, len(speech), size):
        audio = base64.b64encode(speech[i : i + size]).decode()
        await socket.send_json({"type": "input_audio", "audio": audio})
        await asyncio.sleep(max(0.0, began + (i / size + 1) * FRAME_S - time.perf_counter()))
    await socket.send_json({"type": "session.finalize"})
    await socket.send_json({"type": "session.close"})


async def _next(socket: Any, *types: str) -> dict[str, Any]:
    """The next message of one of these types; "closed" matches the end of a session. Raises
    BenchError for an error or another end."""
    while True:
        message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            if "closed" in types:
                return {"type": "session.closed"}
            raise BenchError(f"the connection was closed ({socket.close_code})")
        told: dict[str, Any] = json.loads(message.data)
        if told.get("type") == "error":
            raise BenchError(str(told.get("message")))
        if any(str(told.get("type")).endswith(one) for one in types):
            return told


def resampled(pcm: bytes, rate: int) -> bytes:
    """s16le at `rate` as s16le at EAR_RATE, SPEECH_S_MAX at most."""
    import numpy as np
    import soxr

    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2")[: int(SPEECH_S_MAX * rate)]
    found = samples if rate == EAR_RATE else soxr.resample(samples, rate, EAR_RATE)
    return bytes(found.astype("<i2").tobytes())


def speech_of(path: Path) -> bytes:
    """What is said in a WAV file. Raises BenchError."""
    try:
        samples, rate = read_wav(path.read_bytes())
    except (OSError, WavError) as error:
        raise BenchError(f"{path}: {error}") from error
    return resampled((samples * 32767).astype("<i2").tobytes(), rate)


def rows(tried: Sequence[Tried]) -> list[tuple[str, ...]]:
    """Lines of a table, the fastest of each kind first: kind, provider, model, to what, best,
    median, worst, or why not."""
    ordered = sorted(
        tried,
        key=lambda one: (
            MODALITIES.index(one.target.modality),
            one.error is not None,
            sorted(one.first_s)[len(one.first_s) // 2] if one.first_s else 0.0,
        ),
    )
    found = []
    for one in ordered:
        times = sorted(one.first_s)
        shown = (
            [f"{1000 * s:.0f}" for s in (times[0], times[len(times) // 2], times[-1])]
            if (times)
            else ["-"] * 3
        )
        target = one.target
        found.append(
            (
                target.modality,
                target.provider,
                target.model,
                WHAT[target.modality],
                *shown,
                one.error or "",
            )
        )
    return found


def as_json(tried: Sequence[Tried], costs: Bill) -> dict[str, Any]:
    """All of it; times in seconds, money as a decimal number in text."""
    return {
        "cost_at_most": f"{costs.nano / NANO:.9f}",
        "currency": costs.currency,
        "unpriced": list(costs.unpriced),
        "tried": [
            asdict(one) | {"to": WHAT[one.target.modality], "first_s": one.first_s} for one in tried
        ],
    }
