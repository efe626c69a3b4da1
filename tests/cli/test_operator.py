"""How commands reach the operator's port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gateway.cli.operator import NoServerError, RefusedError, ask, operator_url
from gateway.settings.server import ServerConfig


class Handler(BaseHTTPRequestHandler):
    """/STATUS answers with that status; what it answers with is no JSON where that is 500."""

    def do_GET(self) -> None:
        status = int(self.path[1:])
        body = b"oh no" if status == 500 else b'{"asked": "GET"}'
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("settings", "port", "found"),
    [
        ({"admin_port": 9091}, None, "http://127.0.0.1:9091"),
        ({"admin_port": 9091}, 9, "http://127.0.0.1:9"),
        ({"admin_host": "::", "admin_port": 9091}, None, "http://[::1]:9091"),
        ({"admin_host": "10.0.0.1", "admin_port": 9091}, None, "http://10.0.0.1:9091"),
        ({"admin_port": None}, None, None),
    ],
)
def test_the_port_is_that_of_the_configuration(
    settings: dict[str, object], port: int | None, found: str | None
) -> None:
    assert operator_url(ServerConfig.model_validate(settings), port) == found


def test_an_answer_is_json_and_a_refusal_keeps_its_own(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(f"{url}/200", {}, 30.0) == {"asked": "GET"}
    with pytest.raises(RefusedError, match="status 401") as refused:
        ask(f"{url}/401", {}, 30.0)
    assert (refused.value.status, refused.value.body) == (401, {"asked": "GET"})
    with pytest.raises(RefusedError) as refused:
        ask(f"{url}/500", {}, 30.0)
    assert refused.value.body is None


def test_nobody_there_is_told_with_the_address() -> None:
    with pytest.raises(NoServerError, match=r"no server answers at http://127\.0\.0\.1:9/"):
        ask("http://127.0.0.1:9/", {}, 30.0)
