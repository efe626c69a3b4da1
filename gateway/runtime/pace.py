"""Connections to providers, paced: what a socket brings is parsed a slice at a time, and an answer
that never begins is none.

aiohttp parses all that one read brought before anybody else gets a turn: 256 KB, of which one turn
of the loop may see thirty, and they may hold 100,000 WebSocket frames, or as many `100 Continue`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage

SLICE_BYTES: Final = 16 << 10
"""So much is parsed in one turn: 2700 chunks of a byte take some 5 ms. A reply that comes at once
mostly fits."""

INTERIM_MAX: Final = 16
"""Answers of status 1xx before the real one; servers send one or two."""


class PacedHandler(ResponseHandler):
    """One connection. An upstream that sends more than INTERIM_MAX interim answers breaks off with
    an aiohttp.ClientResponseError."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._waiting = bytearray()  # read and not parsed; then the socket is not read
        self._next: asyncio.Handle | None = None
        self._feeding = False
        self._interim = 0
        self._refused = False

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        # aiohttp calls this itself: without data, to go on with what it has, and with what is left
        # of a slice behind the end of an upgrade
        own = self._feeding or not data
        if own or (not self._waiting and len(data) <= SLICE_BYTES):
            self._feed(data)
        else:
            self._waiting += data
            self._pause_socket()
            self._later()

    def _feed(self, data: bytes) -> None:
        before, self._feeding = self._feeding, True
        try:
            super().data_received(data)
        finally:
            self._feeding = before

    def _later(self) -> None:
        if self._next is None:
            self._next = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._next = None
        if self._refused or self._reading_paused:  # `resume_reading` calls again
            return
        piece = bytes(self._waiting[:SLICE_BYTES])
        del self._waiting[:SLICE_BYTES]
        self._feed(piece)
        if self._waiting:
            self._later()
        elif not self._reading_paused and not getattr(self, "_buffer_paused", False):
            self._resume_socket()

    def resume_reading(self, *args: Any, **kwargs: Any) -> None:
        if not self._reading_paused:
            return  # the body's reader calls this for every chunk: nothing waits, nothing to do
        super().resume_reading(*args, **kwargs)
        if self._waiting:
            self._pause_socket()
            self._later()

    def set_parser(self, *args: Any, **kwargs: Any) -> None:
        self._older_first(super().set_parser, *args, **kwargs)

    def set_response_params(self, *args: Any, **kwargs: Any) -> None:
        self._older_first(super().set_response_params, *args, **kwargs)

    def _older_first(self, change: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """A new parser is first given what came before there was one."""
        newer, self._waiting = self._waiting, bytearray()
        change(*args, **kwargs)
        self._waiting += newer

    @property
    def should_close(self) -> bool:
        return bool(self._waiting) or super().should_close

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._waiting and not self._refused:  # it came before the end
            rest, self._waiting = bytes(self._waiting), bytearray()
            self._feed(rest)
        super().connection_lost(exc)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The head of an answer, from aiohttp's parser."""
        if 100 <= data[0].code < 200 and data[0].code != 101:
            self._interim += 1
            if self._interim > INTERIM_MAX:
                if not self._refused:
                    self._refused = True
                    self.set_exception(BadHttpMessage("interim answers without end"))
                    if self.transport is not None:
                        self.transport.close()
                return
        else:
            self._interim = 0
        super().feed_data(data, size)

    def _pause_socket(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def _resume_socket(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()


class PacedConnector(aiohttp.TCPConnector):
    """Makes such connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(PacedHandler, loop=self._loop)  # type: ignore[assignment]
