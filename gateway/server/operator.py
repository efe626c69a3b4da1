"""The server on the operator's port, beside the one that serves callers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from gateway.server.http import HttpProtocol


class OperatorServer(uvicorn.Server):
    """Serves `app` until `should_exit` is set. Signals are the other server's affair."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=HttpProtocol,
                ws="none",
                lifespan="off",
                timeout_graceful_shutdown=1,
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
