"""What is served by one configuration: providers, models, routes. A reload makes another.

Nothing in it changes. A request or session keeps the installation it began with; the one `before`
hands over what must not be lost: health of providers, places that requests hold, what is counted
for quotas, open sockets, running processes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from starlette.types import ASGIApp

from gateway.config import Config
from gateway.conversations.avatar.route import AvatarEndRoute, AvatarRoute
from gateway.conversations.bargein.route import BargeinRoute, BargeinWindowRoute
from gateway.conversations.chat.decisions_route import DecisionsRoute
from gateway.conversations.chat.embeddings_route import EmbeddingsRoute
from gateway.conversations.chat.responses_route import KeptRoute, ResponsesRoute
from gateway.conversations.chat.responses_socket_route import ResponsesSocketRoute
from gateway.conversations.chat.route import ChatRoute, ModelRoute, ModelsRoute
from gateway.conversations.eot.route import EotRoute
from gateway.conversations.eot.text_route import EotMultiRoute
from gateway.conversations.realtime.cascade.line import KIND as CASCADE
from gateway.conversations.realtime.cascade.line_route import CascadeLine, Parts
from gateway.conversations.realtime.route import DuplexRoute, RealtimeRoute
from gateway.conversations.stt.route import SttRoute
from gateway.conversations.stt.transcription_route import TranscriptionRoute
from gateway.conversations.tts.route import TtsRoute
from gateway.conversations.tts.speech_route import SpeechRoute
from gateway.engines.interruption.engine import BargeinEngine
from gateway.engines.interruption.learning import LearningKeeper
from gateway.engines.interruption.voice_keeper import VoiceKeeper
from gateway.engines.turn_detection.engine import EotEngine
from gateway.engines.utterances import UtteranceEngines
from gateway.routing import cascades
from gateway.routing.catalogue import Catalogue
from gateway.routing.stand_in import StandIns
from gateway.runtime.connector import Connector
from gateway.server.admission import Admission, RequestContext
from gateway.server.auth import Authenticator
from gateway.server.host import (
    BodyHost,
    BodyRoute,
    OpenSockets,
    ReplyHost,
    ReplyRoute,
    SocketHost,
    SocketRoute,
)
from gateway.server.machine import Machine
from gateway.server.quota import Quota
from gateway.telemetry.agreement import Agreements
from gateway.telemetry.metrics import Expected, Metrics
from gateway.telemetry.prices import prices_in, told_unpriced
from gateway.telemetry.rests import LoggingBreaker
from gateway.telemetry.usage.log import UsageLog
from gateway.upstreams.adapters import Adapters
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Modality

PATHS = {
    ("POST", "/chat/completions"),
    ("POST", "/audio/speech"),
    ("POST", "/audio/transcriptions"),
    ("POST", "/embeddings"),
    ("POST", "/decisions"),
    ("POST", "/responses"),
    ("GET", "/responses/{id}"),
    ("DELETE", "/responses/{id}"),
    ("GET", "/responses/{id}/input_items"),
    ("WEBSOCKET", "/responses"),
    ("GET", "/models"),
    ("GET", "/models/{id:path}"),
    ("POST", "/avatar/sessions"),
    ("POST", "/avatar/sessions/terminate"),
    ("POST", "/bargein"),
    ("POST", "/eot/multi"),
    ("WEBSOCKET", "/bargein"),
    ("WEBSOCKET", "/stt"),
    ("WEBSOCKET", "/tts"),
    ("WEBSOCKET", "/realtime"),
    ("WEBSOCKET", "/live/sessions"),
    ("WEBSOCKET", "/eot"),
}
"""Method and path of every inference route."""


@dataclass(frozen=True, slots=True)
class Process:
    """What one process has once, whatever it is told to serve."""

    metrics: Metrics
    admission: Admission
    sockets: OpenSockets
    connector: Connector
    engines: UtteranceEngines
    bargein: BargeinEngine
    bargein_window: BargeinWindowRoute
    eot: EotEngine
    eot_multi: EotMultiRoute
    usage: UsageLog
    machine: Machine | None = None
    voices: VoiceKeeper | None = None
    agreements: Agreements | None = None
    learning: LearningKeeper | None = None


Catalogues = Mapping[Modality, Catalogue]


def prepare(config: Config) -> Catalogues:
    """The part of an installation that takes tens of milliseconds, and looks for files: while
    calls go on it is made in a thread."""
    accounts = config.accounts()
    return {
        modality: Catalogue(
            config.models,
            accounts,
            modality,
            stand_ins=StandIns(accounts.values(), modality) if config.local_stand_in else None,
            residency=config.residency,
            successors=config.successors,
        )
        for modality in get_args(Modality)
    }


class Installation:
    """One configuration, ready to serve. `hosts`: who serves each of PATHS."""

    adapters: Adapters
    quota: Quota
    breaker: LoggingBreaker
    chat: ChatRoute
    responses: ResponsesRoute
    avatars: AvatarRoute
    tts: TtsRoute
    _parts: Parts

    def __init__(
        self,
        config: Config,
        process: Process,
        before: Installation | None = None,
        prepared: Catalogues | None = None,
    ) -> None:
        """`prepared`: what `prepare` has made of `config`."""
        self.config = config
        self.open = 0
        """Requests and sessions that began with it and have not ended."""
        limits, metrics, connector = config.limits, process.metrics, process.connector
        self.adapters = Adapters(config.accounts(), None if before is None else before.adapters)
        self.authenticator = Authenticator(
            {key: secret.get_secret_value() for key, secret in config.keys.items()},
            config.server.token_leeway_s,
        )
        self.prices = prices_in(
            config.usage,
            config.prices,
            self.adapters.accounts,
            told_unpriced(
                self.adapters.accounts,
                logging.WARNING if config.quota.counts_money else logging.INFO,
            ),
        )
        self.quota = (
            Quota(
                config.quota,
                on_store_failure=metrics.quota_store_failures.inc,
                machine=process.machine,
                balances=process.usage.counts if config.usage.enabled else None,
                on_reached=lambda *labels: metrics.budgets_reached.labels(*labels).inc(),
                time_zone=config.usage.time_zone,
                currency=config.usage.currency,
            )
            if before is None
            else before.quota.renew(config.quota)
        )
        self.catalogues = prepared or prepare(config)
        deployments = {
            deployment
            for catalogue in self.catalogues.values()
            for deployment in catalogue.deployments()
        }
        # one for all: a key that /chat saw refused is known to /stt
        self.breaker = (
            LoggingBreaker(deployments)
            if before is None
            else before.breaker.renew(deployments, self.adapters.unchanged)
        )
        self.chat = ChatRoute(
            config.chat,
            self.catalogues["chat"],
            self.adapters,
            self.breaker,
            connector,
            self.prices,
            metrics,
            limits.chat_body_bytes,
            None if before is None else before.chat,
        )
        self.responses = ResponsesRoute(
            self.chat,
            None if before is None else before.responses,
            None if process.machine is None else process.machine.kept,
        )
        self.tts = TtsRoute(
            config.tts,
            self.catalogues["tts"],
            self.adapters,
            self.breaker,
            connector,
            self.prices,
            metrics,
            limits.session_idle_s,
            None if before is None else before.tts,
            process.voices,
        )
        self.stt = SttRoute(
            config.stt,
            self.catalogues["stt"],
            self.adapters,
            self.breaker,
            connector,
            process.engines,
            self.prices,
            process.agreements,
            process.learning,
        )
        self.cascades = cascades.served(config.cascades, self.adapters.accounts.values())
        self.realtime = RealtimeRoute(
            config.realtime,
            self.catalogues["realtime"],
            self.adapters.realtime,
            self.breaker,
            connector,
            self.prices,
            {CASCADE: self._open_cascade},
            self.cascades,
        )
        self.duplex = DuplexRoute(
            config.realtime,
            self.catalogues["duplex"],
            self.adapters.duplex,
            self.breaker,
            connector,
            self.prices,
        )
        self.avatars = AvatarRoute(
            config.avatar,
            self.catalogues["avatar"],
            self.adapters.avatar,
            self.breaker,
            connector,
            self.prices,
            {key: secret.get_secret_value() for key, secret in config.keys.items()},
            None if before is None else before.avatars,
            None if process.machine is None else process.machine.avatar,
        )
        self._process = process
        self.hosts = self._hosts()

    def _hosts(self) -> Mapping[tuple[str, str], ASGIApp]:
        process, limits = self._process, self.config.limits
        admission, metrics, idle_s = process.admission, process.metrics, limits.session_idle_s

        others = (self.catalogues["realtime"], self.catalogues["duplex"])

        def socket(route: SocketRoute) -> SocketHost:
            return SocketHost(route, admission, limits, process.sockets)

        def reply(route: ReplyRoute) -> ReplyHost:
            return ReplyHost(route, admission, limits)

        def body(route: BodyRoute) -> BodyHost:
            return BodyHost(route, admission, limits)

        parts = self._parts = Parts(
            stt=socket(self.stt),
            tts=socket(self.tts),
            chat=reply(self.chat),
            bargein=socket(
                BargeinRoute(
                    process.bargein,
                    metrics,
                    idle_s,
                    process.voices,
                    process.agreements,
                    process.learning,
                )
            ),
            eot=socket(EotRoute(process.eot, metrics, idle_s, process.learning)),
        )
        return {
            ("POST", "/chat/completions"): parts.chat,
            ("POST", "/decisions"): reply(DecisionsRoute(self.chat)),
            ("POST", "/responses"): reply(self.responses),
            ("GET", "/responses/{id}"): body(KeptRoute(self.responses, "get")),
            ("DELETE", "/responses/{id}"): body(KeptRoute(self.responses, "delete")),
            ("GET", "/responses/{id}/input_items"): body(KeptRoute(self.responses, "input_items")),
            ("WEBSOCKET", "/responses"): socket(ResponsesSocketRoute(self.responses, idle_s)),
            ("POST", "/audio/speech"): reply(SpeechRoute(self.tts)),
            ("POST", "/audio/transcriptions"): reply(TranscriptionRoute(self.stt)),
            ("POST", "/embeddings"): body(EmbeddingsRoute(self.chat)),
            ("GET", "/models"): body(ModelsRoute(self.chat, others, self.cascades)),
            ("GET", "/models/{id:path}"): body(ModelRoute(self.chat, others, self.cascades)),
            ("POST", "/avatar/sessions"): body(self.avatars),
            ("POST", "/avatar/sessions/terminate"): body(AvatarEndRoute(self.avatars)),
            ("POST", "/bargein"): body(process.bargein_window),
            ("POST", "/eot/multi"): body(process.eot_multi),
            ("WEBSOCKET", "/bargein"): parts.bargein,
            ("WEBSOCKET", "/stt"): parts.stt,
            ("WEBSOCKET", "/tts"): parts.tts,
            ("WEBSOCKET", "/realtime"): socket(self.realtime),
            ("WEBSOCKET", "/live/sessions"): socket(self.duplex),
            ("WEBSOCKET", "/eot"): parts.eot,
        }

    def _open_cascade(self, request: RequestContext, attempt: Attempt) -> CascadeLine:
        model = attempt.model
        engines = self._process.engines
        return CascadeLine(request, model, self.cascades[model], self._parts, engines)

    def serves(self, modality: Modality, now: float) -> bool:
        """Whether it has a deployment that does not rest."""
        catalogue = self.catalogues[modality]
        return any(
            not self.breaker.resting(Attempt(*deployment), now)
            for deployment in catalogue.deployments()
        ) or any(not self.breaker.provider_rests(name, now) for name in catalogue.unlisted())

    def expected(self) -> Mapping[str, list[Expected]]:
        """What the metrics know of before anybody has asked, for each modality: the deployments
        that `models:` names, and every provider."""
        told: dict[str, list[Expected]] = {}
        for modality, catalogue in self.catalogues.items():
            told[modality] = [
                Expected(attempt.provider, attempt.model, name)
                for name, plan in catalogue.names().items()
                if name in self.config.models
                for attempt in plan
            ]
            told[modality] += [Expected(name, "") for name in catalogue.providers]
        return told

    def stand_ins(self) -> list[str]:
        """The local models that serve the names of vendors with no provider."""
        found = (catalogue.stand_in for catalogue in self.catalogues.values())
        return [one.stand_in or "" for one in found if one is not None]

    async def end(self, others: Iterable[Installation]) -> None:
        """Its last session is over: close what none of `others`, which are still in use, has."""
        others = tuple(others)
        adapters = [one.adapters for one in others]
        for voice in self.adapters.only_here("tts", adapters):
            await self.tts.end(voice)
        for upstream in self.adapters.only_here("chat", adapters):
            await self.chat.end(upstream)
        used = {model for one in others for model in one.stt.local_models}
        self._process.engines.end(self.stt.local_models - used)
        if self.tts.clips is not None and all(
            self.tts.clips is not one.tts.clips for one in others
        ):
            self.tts.clips.close()

    async def close(self) -> None:
        """The process ends."""
        await self.avatars.close()
        await self.tts.close()
        await self.chat.companions.close()
        await self.quota.close()
