"""`gateway reload` against a server that says what it is told to say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main
from gateway.server.reload_route import HEADER
from gateway.telemetry.changes import ChangeLog, user

SECRET = "s" * 40
TAKEN = {"applied": True, "mistakes": [], "warnings": [], "needs_restart": [], "changes": {}}


class Operator(HTTPServer):
    """The operator's port."""

    status = 200
    told: Any = TAKEN
    asked: str | None = None


class Handler(BaseHTTPRequestHandler):
    server: Operator

    def do_POST(self) -> None:
        self.server.asked = f"{self.path} {self.headers[HEADER]}"
        body = json.dumps(self.server.told).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def operator() -> Iterator[Operator]:
    with Operator(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def reload(tmp_path: Path, *arguments: str, admin: str = "") -> int:
    file = tmp_path / "c.yaml"
    file.write_text(f"keys: {{one: {SECRET}}}\nserver: {{{admin}}}\n")
    with pytest.raises(SystemExit) as ended:
        main(["reload", "--config", str(file), *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_server_of_the_configuration_is_asked(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.told = TAKEN | {
        "changes": {"keys_removed": "two"},
        "needs_restart": ["server.port"],
        "warnings": ["odd"],
    }
    admin = f"admin_host: 0.0.0.0, admin_port: {operator.server_port}"
    assert reload(tmp_path, admin=admin) == 0
    assert operator.asked == f"/reload {user()}"
    shown = capsys.readouterr().out
    for text in ("keys removed: two", "server.port: has changed", "warning: odd", "taken"):
        assert text in shown


def test_what_the_server_finds_wrong_is_told(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.status, operator.told = 422, TAKEN | {"applied": False, "mistakes": ["keys: bad"]}
    assert reload(tmp_path, "--admin-port", str(operator.server_port)) == 2
    assert "keys: bad" in capsys.readouterr().err


def test_no_server_and_no_port_are_told_apart(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reload(tmp_path, admin="admin_port: null") == 1
    assert "SIGHUP" in capsys.readouterr().err
    operator.status = 404
    assert reload(tmp_path, "--admin-port", str(operator.server_port)) == 1
    assert "404" in capsys.readouterr().err
    operator.status, operator.told = 200, "no"
    operator.server_close()
    operator.socket.close()


def test_nobody_is_asked_about_a_configuration_with_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reload(tmp_path, admin="prot: 1") == 2
    assert "server.prot" in capsys.readouterr().err


def test_who_changed_what_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "c.yaml"
    file.write_text(f"keys: {{one: {SECRET}}}")
    ChangeLog(tmp_path / "parley" / "changes.jsonl").note("applied", "ann", {"keys_added": "one"})
    for options, status in ((["--json"], 0), ([], 0), (["--since", "soon"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(["changes", "--config", str(file), *options])
        assert ended.value.code == status
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["keys_added"] == "one"
    assert " applied  ann " in second
