"""One /live/sessions WebSocket: a model that listens and speaks at the same time. Pure.

OpenAI's Live protocol (https://developers.openai.com/api/reference/resources/live) has no turns and
no responses of the voice's own: the client sends one `session.start`, and after `session.started`
audio flows both ways. So a line that fails is replaced until `session.started`; later an `error`
and a close tell it, and the client connects again with its history as the new session's `input`.
What the voice delegates is done by a Responses model at the same provider, whose events come inside
`response.event` and whose tokens are counted beside the seconds of the voice.

The model is named in the URL (LiveKit's client) or in `session.start` alone (OpenAI's own).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from gateway.conversations.messages import NAME_CHARS_MAX, bad_request
from gateway.conversations.realtime import messages
from gateway.conversations.realtime.session import (
    CALM_S,
    RESPONSES_MAX,
    Close,
    Planner,
    RealtimeSession,
    Running,
    Used,
)
from gateway.routing.breaker import Breaker
from gateway.settings.realtime import RealtimeConfig
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import SocketClosed
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.realtime import ClientEvent, RealtimeUpstream, ServerEvent

START_S: Final = 30.0
"""How long `session.start` is waited for where only it names the model."""

DELEGATES_MAX: Final = 8
"""Models to which one session delegates."""

_OWN_PREFIX: Final = "openai/"

Permits = Callable[[Attempt], bool]
"""Whether the caller's key may ask this."""


class DuplexSession(RealtimeSession):
    """Events in, actions out. `plan` is None where only `session.start` names the model: `planner`
    makes one then. `permits`: whether the voice may delegate to a model."""

    greets: ClassVar[bool] = False

    def __init__(
        self,
        plan: Plan | None,
        upstreams: Mapping[str, RealtimeUpstream],
        config: RealtimeConfig,
        breaker: Breaker,
        session_id: str,
        now: float,
        *,
        planner: Planner,
        permits: Permits = lambda attempt: True,
        charged: bool = False,
    ) -> None:
        super().__init__(plan or (), upstreams, config, breaker, session_id, now, charged=charged)
        self._planner = planner
        self._permits = permits
        self._unplanned = plan is None
        self._start_asked = False
        self._started = False
        self._closed_well = False
        self._spoken_at = now  # by anybody
        self._delegated: set[str] = set()  # delegations whose response is under way

    def may_end(self, now: float) -> bool:
        """Whether nobody has spoken for a moment, and nothing delegated is under way."""
        running = self._running
        if running is None or running.ready_at is None or self._asked or self._delegated:
            return False
        return now >= self._spoken_at + CALM_S

    def _enter(self, now: float) -> None:
        if not self._unplanned:
            super()._enter(now)
            return
        self._timers.clear("connect")
        self._let_in(now)
        self._timers.set("start", now + START_S, self._not_started)

    def _ready(self, running: Running, now: float) -> None:
        super()._ready(running, now)
        if self._start_asked and not self._started and self._running is running:
            self._expect_response(now)  # of this line too: it has heard the start again

    def _not_started(self, now: float) -> None:
        why = f"session.start did not come within {START_S:g} s"
        self._end(Failure(Kind.IDLE, why, bound=Bound.CREATE_TIME), now)

    # -- what the client says

    def _client_said(self, event: ClientEvent, now: float) -> float | None:
        match event.type:
            case "session.input_audio.append":
                return messages.audio_seconds(event, self._bytes_per_s)
            case "session.start" | "session.update":
                session = event.body.get("session")
                if (wrong := self._wrong_delegation(session)) is not None:
                    self._refuse(wrong, event)
                    return None
                if event.type == "session.start":
                    return self._start(event, session, now)
            case "response.create":
                self._asked = True
        return 0.0

    def _start(self, event: ClientEvent, session: object, now: float) -> float | None:
        match session:
            case {"audio": {"format": {"type": str(form)}}}:
                self._bytes_per_s = messages.BYTES_PER_S.get(form, self._bytes_per_s)
        if self._unplanned:
            model = session.get("model") if isinstance(session, dict) else None
            if not isinstance(model, str) or not 0 < len(model) <= NAME_CHARS_MAX:
                words = "session.model: expected the name of a model"
                self._complain(bad_request(words, "session.model"))
                return None
            plan = self._planner(model)
            if isinstance(plan, Failure):
                self._end(plan, now)
                return None
            self.asked, self.plan, self._unplanned = model, plan, False
            self._timers.clear("start")
            self._timers.set("connect", now + self._config.connect_s, self._unconnected)
            assert self._replay is not None
            self._replay.add(event)
            self._start_asked = True
            super()._enter(now)
            self._expect_response(now)
            return None
        self._start_asked = True
        self._expect_response(now)
        return 0.0

    def _wrong_delegation(self, session: object) -> Failure | None:
        """What of a delegation is not served: what would be billed beside tokens, or is asked of
        another vendor. LiveKit's client knows these codes, and does not try again."""
        match session:
            case {"delegation": {"type": "responses", "responses": {} as responses}}:
                pass
            case _:
                return None
        tools = responses.get("tools")
        for tool in tools if isinstance(tools, list) else ():
            kind = tool.get("type") if isinstance(tool, dict) else None
            if kind != "function":
                return _wrong("unsupported_server_tool", "tools: expected functions alone")
        if responses.get("service_tier") not in (None, "auto", "default"):
            return _wrong("unsupported_service_tier", "service_tier: expected default")
        model = responses.get("model")
        if model is None:
            return None
        if not isinstance(model, str) or not 0 < len(model) <= NAME_CHARS_MAX:
            return _wrong("invalid_delegated_model", "model: expected the name of a model")
        own = model.removeprefix(_OWN_PREFIX)
        if "/" in own:
            return _wrong("unsupported_delegated_model", "model: expected one of the same vendor")
        attempts = [self._delegate(attempt.provider, own) for attempt in self.plan]
        if attempts and not any(map(self._permits, attempts)):
            return _wrong("invalid_delegated_model", "this API key may not use that model")
        return None

    @staticmethod
    def _delegate(provider: str, model: str) -> Attempt:
        return Attempt(provider, model, names=frozenset({f"{_OWN_PREFIX}{model}"}))

    def _refuse(self, failure: Failure, event: ClientEvent) -> None:
        about = event.body.get("event_id")
        self._tell(self._error(failure, about if isinstance(about, str) else None))

    def _error(self, failure: Failure, about: str | None = None) -> str:
        return messages.live_error_event(failure, self._event_id(), about)

    # -- what the provider says

    def _provider_said(self, event: ServerEvent, running: Running, now: float) -> None:
        match event.type:
            case "session.started":
                self._stay()
                self._started = True
                self._timers.clear("response")
                self._spoken_at = now
            case "session.input_transcript.delta" | "session.output_transcript.delta":
                self._spoken_at = now
            case "session.usage.updated" | "session.closed":
                seconds = messages.live_seconds(event.body)
                one = self._used[running.attempt.deployment]
                one.told_s = max(one.told_s or 0.0, seconds)
                self._closed_well = event.type == "session.closed"
                self._settle(now)
            case "response.event":
                self._delegation(event.body, running, now)
            case "error":
                self._asked = False
                if not self._started:
                    self._timers.clear("response")

    def _delegation(self, body: Mapping[str, Any], running: Running, now: float) -> None:
        delegation, inner = body.get("delegation_id"), body.get("event")
        if not isinstance(inner, dict):
            return
        name = delegation if isinstance(delegation, str) else ""
        match inner.get("type"):
            case "response.created":
                self._asked = False
                if len(self._delegated) < RESPONSES_MAX:
                    self._delegated.add(name)
            case "response.completed" | "response.failed" | "response.incomplete":
                self._delegated.discard(name)
                self.report.responses += 1
                self._count(inner, running)
                self._settle(now)

    def _count(self, inner: Mapping[str, Any], running: Running) -> None:
        """Tokens of a delegated response are those of the model that made it."""
        tokens = messages.tokens_of(inner)
        match inner:
            case {"response": {"model": str(model)}} if tokens is not None:
                attempt = self._delegate(running.attempt.provider, model[:NAME_CHARS_MAX])
                if attempt.deployment in self._used or len(self._used) < DELEGATES_MAX:
                    self._used.setdefault(attempt.deployment, Used(attempt)).tokens += tokens

    # -- the end

    def _line_closed(self, running: Running, event: SocketClosed, now: float) -> None:
        if self._closed_well:
            self._let_go(now)
            self._out.append(Close(1000))
        else:
            super()._line_closed(running, event, now)


def _wrong(code: str, words: str) -> Failure:
    words = f"session.delegation.responses.{words}"
    return Failure(Kind.BAD_REQUEST, words, words.partition(":")[0], details={"code": code})
