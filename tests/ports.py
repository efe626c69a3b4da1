"""Ports of this machine for servers that tests start, while other tests do the same."""

from __future__ import annotations

import socket
import sys
from typing import Self

HOST = "127.0.0.1"


class Port:
    """A port that nobody else is given until it is released.

    It is bound and does not listen: a connection is refused until a server that is told to use it
    listens there (with SO_REUSEADDR, as servers do), and again once that server has gone.
    """

    def __init__(self) -> None:
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind((HOST, 0))
        self.number: int = self._held.getsockname()[1]
        if sys.platform != "linux":  # elsewhere nobody can listen on a port that is bound
            self.release()

    def release(self) -> None:
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
