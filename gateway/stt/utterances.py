"""Engines that hear whole utterances: a voice detector cuts the audio for them."""

from __future__ import annotations

from typing import Any

from gateway.drive import Inbox
from gateway.stt.upstream import Engine


class UtteranceStream:
    """In place of a provider's WebSocket."""

    async def send(self, frame: Any) -> None:
        raise NotImplementedError

    async def listen(self, number: int, inbox: Inbox[Any]) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError


class Engines:
    """One for each process."""

    def open(self, engine: Engine) -> UtteranceStream:
        raise NotImplementedError

    def close(self) -> None:
        pass
