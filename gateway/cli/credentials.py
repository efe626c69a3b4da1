"""Tries the credentials of every provider, for `gateway check --live`.

Knows no vendor: what is opened is what the vendor's own adapters dial when they serve. A chat
provider is asked for its list of models, a recogniser or a voice is connected to and closed again
before any audio or text. Nothing of it is billed, redirects are not followed (they would take the
key elsewhere), and what cannot be tried so is told as not tried.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NoReturn

import aiohttp

from gateway.providers._shared.chat_errors import read_error
from gateway.settings.urls import shown
from gateway.upstreams.dial import Dial, websocket_url
from gateway.upstreams.errors import Failure, Kind, presentable
from gateway.upstreams.listing import (
    modalities_of_vendor,
    named_models,
    read_models,
    unlisted,
)
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, Modality, Vendor, find
from gateway.upstreams.realtime import Greeter, InProcess, Line, LineFailed
from gateway.upstreams.stt import Failed as RecognizerFailed
from gateway.upstreams.stt import LocalTarget, Ready, Recognizer
from gateway.upstreams.tts import Dialogue, SocketVoice, SpeechRequest
from gateway.upstreams.tts import Failed as VoiceFailed

TIMEOUT_S: Final = 10.0
"""How long a provider may take to answer."""

SETTLE_S: Final = 1.5
"""How long a socket is listened to that was opened and need not greet: some vendors look at the key
only then, and close."""

ANSWER_BYTES_MAX: Final = 8 << 20
"""Largest list of models that is read."""

SECRET_CHARS_MIN: Final = 4
"""Shorter keys ("x", "none") are no secrets, and stand in many words."""

AT_ONCE_MAX: Final = 16
"""Providers that are tried at the same time."""

State = Literal["ok", "failed", "not tried"]

_ANSWERS: Final[Mapping[int, str]] = {
    401: "the key is not accepted",
    402: "the account has no credit",
    403: "the key is not allowed to do this",
    404: "there is nothing at this address; is base_url right?",
    429: "too many requests; the key itself may be good",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one try. `unlisted` are models that the vendor's own list does not have."""

    provider: str
    modality: Modality
    state: State
    detail: str
    unlisted: tuple[str, ...] = ()


async def try_all(
    accounts: Iterable[Account],
    deployments: Mapping[Modality, Collection[tuple[str, str]]],
    settle_s: float = SETTLE_S,
) -> list[Trial]:
    """Try every account for all that it can be asked for, at the same time; results in order.
    `deployments` are the configured ones (provider and its model): those are tried first."""
    limit = asyncio.Semaphore(AT_ONCE_MAX)

    async def one(account: Account) -> list[Trial]:
        async with limit:
            return await try_account(account, deployments, settle_s)

    found = await asyncio.gather(*(one(account) for account in accounts))
    return [trial for trials in found for trial in trials]


async def try_account(
    account: Account,
    deployments: Mapping[Modality, Collection[tuple[str, str]]],
    settle_s: float = SETTLE_S,
) -> list[Trial]:
    """One try for each modality of a provider."""
    vendor = find(account.type)
    models: dict[Modality, list[str]] = {
        modality: _models(account, vendor, modality, deployments.get(modality, ()))
        for modality in modalities_of_vendor(account.type)
    }
    async with _session() as session:
        trier = _Trier(session, account, vendor, models, settle_s)
        trials = await asyncio.gather(*(trier.modality(modality) for modality in models))
    tried = [trial.modality for trial in trials if trial.state != "not tried"]
    return [
        replace(trial, detail=f"{trial.detail}; the key is that of {' and '.join(tried)}")
        if trial.state == "not tried" and tried
        else trial
        for trial in trials
    ]


def _models(
    account: Account,
    vendor: Vendor[Any],
    modality: Modality,
    deployments: Collection[tuple[str, str]],
) -> list[str]:
    """The vendor's names of models, the configured ones before those of the catalogue."""
    configured = [model for provider, model in deployments if provider == account.name]
    every = (*named_models(account, modality), *configured, *vendor.models(modality).values())
    return [model for model in dict.fromkeys(every) if "*" not in model]


class _Redirected(Exception):
    """The server sends us somewhere else."""


def _session() -> aiohttp.ClientSession:
    async def refuse(*_: Any) -> NoReturn:
        raise _Redirected

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(refuse)  # the key would go along
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=True,
        trace_configs=[tracing],
        skip_auto_headers=("User-Agent", "Accept"),
    )


NO_SESSION: Final = "parley-check"
"""The id of a session that nobody has."""


@dataclass(frozen=True, slots=True)
class _Trier:
    session: aiohttp.ClientSession
    account: Account
    vendor: Vendor[Any]
    models: Mapping[Modality, Sequence[str]]
    settle_s: float

    async def modality(self, modality: Modality) -> Trial:
        """The try for one modality; whatever goes wrong is told in the result."""
        if self.vendor.available is not None:
            return self._trial(modality, "not tried", "it runs on this machine")
        attempt = {
            "chat": self._chat,
            "stt": self._stt,
            "tts": self._tts,
            "realtime": self._realtime,
            "duplex": self._duplex,
            "avatar": self._avatar,
        }[modality]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await attempt()
        except TimeoutError:
            return self._trial(modality, "failed", f"no answer within {TIMEOUT_S:g} s")

    def _trial(
        self, modality: Modality, state: State, detail: str, missing: tuple[str, ...] = ()
    ) -> Trial:
        detail = presentable(self._clean(detail))
        return Trial(self.account.name, modality, state, detail, missing)

    def _clean(self, text: str) -> str:
        """`text` without what we sent: a provider, or a proxy, may repeat it."""
        secrets = (self.account.api_key, *self.account.headers.values())
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= SECRET_CHARS_MIN:
                text = text.replace(secret, "***")
        return text

    # -- lists of models

    async def _chat(self) -> Trial:
        assert self.vendor.chat is not None
        dial = self.vendor.chat.adapter(self.account).warm()
        if dial is None:
            return self._trial("chat", "not tried", "it has no list of models")
        answer = await self._get(dial)
        if isinstance(answer, str):
            return self._trial("chat", "failed", answer)
        status, body = answer
        if status >= 300:
            return self._trial("chat", "failed", self._refused_with(status, body))
        listed = read_models(body)
        if listed is None:
            if body.lstrip()[:1] not in (b"{", b"["):
                detail = "answered with no list of models; is base_url right?"
                return self._trial("chat", "failed", detail)
            return self._trial("chat", "ok", "the key is accepted")
        missing = self._unlisted(listed)
        return self._trial("chat", "ok", f"the key is accepted; {len(listed)} models", missing)

    def _refused_with(self, status: int, body: bytes) -> str:
        # cleaned as a whole: what is cut or masked before could leave a part of a secret
        clean = self._clean(body.decode("utf-8", "replace"))
        return _refused(status, read_error(clean.encode()).message)

    def _unlisted(self, listed: frozenset[str]) -> tuple[str, ...]:
        ours = {model for modality in self.vendor.listed for model in self.models.get(modality, ())}
        return unlisted(ours, listed) if listed else ()

    async def _listing(self) -> tuple[str, ...]:
        """What a vendor without chat does not list; nothing if its list cannot be read."""
        if self.vendor.listing is None:
            return ()
        answer = await self._get(self.vendor.listing(self.account))
        if isinstance(answer, str) or answer[0] >= 300:
            return ()  # a key may be good for speech and not for the list
        return self._unlisted(read_models(answer[1]) or frozenset())

    async def _list_trial(self, modality: Modality, dial: Dial) -> Trial:
        """Of a vendor whose list is all that costs nothing."""
        answer = await self._get(dial)
        if isinstance(answer, str):
            return self._trial(modality, "failed", answer)
        if answer[0] >= 300:
            return self._trial(modality, "failed", self._refused_with(*answer))
        missing = self._unlisted(read_models(answer[1]) or frozenset())
        return self._trial(modality, "ok", "its list is answered", missing)

    async def _get(self, dial: Dial, method: str = "GET") -> tuple[int, bytes] | str:
        """Status and body of an answer, or why there is none."""
        try:
            async with self.session.request(
                method, dial.url, headers=dial.headers, data=dial.body or None
            ) as response:
                body = bytearray()
                async for data in response.content.iter_any():
                    body += data
                    if len(body) > ANSWER_BYTES_MAX:
                        return "answered with more than a list of models; is base_url right?"
                return response.status, bytes(body)
        except _Redirected:
            return _redirected(dial)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _unreachable(error, dial)

    # -- recognisers

    async def _stt(self) -> Trial:
        assert self.vendor.stt is not None
        if not self.models["stt"]:
            return self._trial("stt", "not tried", "no model is named to try it with")
        upstream = self.vendor.stt.adapter(self.account)
        attempt = Attempt(self.account.name, self.models["stt"][0])
        recognizer = upstream.recognizer(attempt, 16_000)
        dial = recognizer.dial()
        if isinstance(dial, LocalTarget):
            return self._trial("stt", "not tried", "every request is billed")
        problem = await self._socket(dial, _RecognizerEar(recognizer))
        return self._socket_trial("stt", problem, attempt.model)

    # -- voices

    async def _tts(self) -> Trial:
        assert self.vendor.tts is not None
        voice = self.vendor.tts.adapter(self.account)
        if not isinstance(voice, SocketVoice):
            if self.vendor.listing is None or self.vendor.chat is not None:
                return self._trial("tts", "not tried", "every request is billed")
            return await self._list_trial("tts", self.vendor.listing(self.account))
        if not self.models["tts"]:
            return self._trial("tts", "not tried", "no model is named to try it with")
        model = self.models["tts"][0]
        request = SpeechRequest(model, None, None, voice.traits.rate_for(24_000))
        problem = await self._socket(voice.dial(request), _VoiceEar(voice.dialogue()))
        return self._socket_trial("tts", problem, model, await self._listing())

    # -- speech to speech

    async def _realtime(self) -> Trial:
        assert self.vendor.realtime is not None
        if not self.models["realtime"]:
            return self._trial("realtime", "not tried", "no model is named to try it with")
        model = self.models["realtime"][0]
        line = self.vendor.realtime.adapter(self.account).line(Attempt(self.account.name, model))
        dial = line.dial()
        if isinstance(dial, InProcess):
            return self._trial("realtime", "not tried", "it runs in this process")
        problem = await self._socket(dial, _LineEar(line, greets=not isinstance(line, Greeter)))
        return self._socket_trial("realtime", problem, model)

    async def _duplex(self) -> Trial:
        assert self.vendor.duplex is not None
        if not self.models["duplex"]:
            return self._trial("duplex", "not tried", "no model is named to try it with")
        model = self.models["duplex"][0]
        line = self.vendor.duplex.adapter(self.account).line(Attempt(self.account.name, model))
        dial = line.dial()
        assert isinstance(dial, Dial)
        problem = await self._socket(dial, _LineEar(line, greets=False))
        return self._socket_trial("duplex", problem, model)

    # -- avatars

    async def _avatar(self) -> Trial:
        """The end of a session that is none: a good key is told that."""
        assert self.vendor.avatar is not None
        answer = await self._get(self.vendor.avatar.adapter(self.account).end(NO_SESSION), "POST")
        if isinstance(answer, str):
            return self._trial("avatar", "failed", answer)
        if answer[0] not in (200, 404, 410):
            return self._trial("avatar", "failed", self._refused_with(*answer))
        return self._trial("avatar", "ok", "the key is accepted")

    def _socket_trial(
        self,
        modality: Modality,
        problem: str | None,
        model: str,
        missing: tuple[str, ...] = (),
    ) -> Trial:
        if problem is not None:
            return self._trial(modality, "failed", problem)
        return self._trial(modality, "ok", f"the connection is accepted ({model})", missing)

    async def _socket(self, dial: Dial, ear: _Ear) -> str | None:
        """Open a socket and listen until the key is known to be good; what is wrong, if it is."""
        try:
            async with self.session.ws_connect(
                websocket_url(dial.url),
                headers=dial.headers,
                protocols=dial.subprotocols,
                compress=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            ) as socket:
                for frame in ear.opening():
                    send = socket.send_str if isinstance(frame, str) else socket.send_bytes
                    await send(frame)
                return await self._listen(socket, ear)
        except _Redirected:
            return _redirected(dial)
        except aiohttp.WSServerHandshakeError as error:
            return _refused(error.status, "")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _unreachable(error, dial)

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse, ear: _Ear) -> str | None:
        patience = None if ear.must_greet else self.settle_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while True:
                    message = await socket.receive()
                    if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                        said = ear.hear(message.data)
                        if said is True:
                            return None
                        if isinstance(said, Failure):
                            return f"refused: {said.message}"
                    else:
                        code = socket.close_code or 1006
                        reason = message.extra if isinstance(message.extra, str) else ""
                        return f"closed the connection: {ear.closed(code, reason).message}"
        return None  # it was quiet, and did not close


class _Ear:
    """What the messages of a new socket say about the key."""

    must_greet = False

    def opening(self) -> Sequence[Any]:
        return ()

    def hear(self, frame: str | bytes) -> bool | Failure:
        """True: all is well; a failure: it is not; False: not known yet."""
        raise NotImplementedError

    def closed(self, code: int, reason: str) -> Failure:
        raise NotImplementedError


class _RecognizerEar(_Ear):
    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self.must_greet = recognizer.traits.sends_ready

    def opening(self) -> Sequence[Any]:
        return self._recognizer.opening()

    def hear(self, frame: str | bytes) -> bool | Failure:
        for event in self._recognizer.decode(frame):
            match event:
                case RecognizerFailed(failure):
                    return failure
                case Ready():
                    return True
        return False

    def closed(self, code: int, reason: str) -> Failure:
        return self._recognizer.closed(code, reason)


class _VoiceEar(_Ear):
    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue

    def hear(self, frame: str | bytes) -> bool | Failure:
        for _, event in self._dialogue.decode(frame):
            if isinstance(event, VoiceFailed):
                return event.failure
        return False

    def closed(self, code: int, reason: str) -> Failure:
        return self._dialogue.closed(code, reason)


class _LineEar(_Ear):
    def __init__(self, line: Line, *, greets: bool = True) -> None:
        self._line = line
        self.must_greet = greets

    def opening(self) -> Sequence[Any]:
        return self._line.opening()

    def hear(self, frame: str | bytes) -> bool | Failure:
        for event in self._line.decode(frame):
            if isinstance(event, str):
                continue
            if isinstance(event, LineFailed):
                return event.failure
            if event.type != "error":
                return True
            error = event.body.get("error")
            said = error.get("message") if isinstance(error, dict) else None
            return Failure(Kind.UPSTREAM_REFUSED, presentable(str(said)))
        return False

    def closed(self, code: int, reason: str) -> Failure:
        return self._line.closed(code, reason)


def _refused(status: int, said: str) -> str:
    words = ": ".join(filter(None, (_ANSWERS.get(status, ""), said)))
    return f"refused with status {status}{f': {words}' if words else ''}"


def _redirected(dial: Dial) -> str:
    return (
        f"{_origin(dial)} redirects elsewhere, which is not followed: give base_url as it ends up"
    )


def _unreachable(error: Exception, dial: Dial) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            why = "its TLS certificate is not accepted"
        case aiohttp.ClientConnectorDNSError():
            why = "its host name is not found"
        case aiohttp.ClientConnectorError():
            why = "nothing listens there"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            why = "it closes the connection"
        case _:
            why = "it does not speak HTTP"
    return f"cannot be reached at {_origin(dial)}: {why}"


def _origin(dial: Dial) -> str:
    """Scheme, host and port: a path and a query may hold what nobody should read."""
    return "/".join(shown(dial.url).split("/", 3)[:3]).partition("?")[0]
