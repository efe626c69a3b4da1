"""`gateway top`, on a terminal of its own, against a port that tells what it is told to tell."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main
from gateway.cli.top import TOKEN_VARIABLE
from tests.cli.test_top_view import NOW
from tests.terminal import frames, terminal

TOKEN = "a-token-of-the-page"


class Operator(HTTPServer):
    """The operator's port."""

    told: Any = NOW
    asked = ""


class Handler(BaseHTTPRequestHandler):
    server: Operator

    def do_GET(self) -> None:
        self.server.asked = self.path
        known = self.headers["authorization"] == f"Bearer {TOKEN}"
        body = json.dumps(self.server.told if known else {"error": {}}).encode()
        self.send_response(200 if known else 401)
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


def configured(folder: Path, operator: Operator, page: str = f"page: {{token: {TOKEN}}}") -> str:
    file = folder / "c.yaml"
    file.write_text(f"{page}\nserver: {{admin_port: {operator.server_port}}}\n")
    return str(file)


def top(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["top", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_once_is_plain_text_and_whole_where_there_is_no_terminal(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, operator)
    assert top("--config", config, "--once", "--room", "a b") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "10.1.2.3" in shown
    assert operator.asked == "/ui/api/now?room=a+b"
    assert top("--config", config) == 0
    assert capsys.readouterr().out == shown


def test_json_is_what_the_port_tells(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert top("--config", configured(tmp_path, operator), "--json") == 0
    assert json.loads(capsys.readouterr().out) == NOW


def test_what_is_missing_is_named(
    operator: Operator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    off = configured(tmp_path, operator, "")
    assert top("--config", off, "--once") == 2
    assert "set page.token" in capsys.readouterr().err
    monkeypatch.setenv(TOKEN_VARIABLE, "wrong-wrong-wrong-wrong")
    assert top("--config", off, "--once") == 1
    assert "page.token" in capsys.readouterr().err
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert top("--config", off, "--once") == 0
    assert top("--config", off, "--url", "http://127.0.0.1:9/", "--once") == 1
    assert "no server answers at http://127.0.0.1:9/ui/api/now" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text("server: {admin_port: null}\n")
    assert top("--config", off, "--once") == 2
    assert "--admin-port" in capsys.readouterr().err


def test_on_a_terminal_it_is_drawn_anew_fits_what_it_becomes_and_ends_with_q(
    operator: Operator, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "gateway", "top", "--every", "0.5"]
    with terminal([*command, "--config", configured(tmp_path, operator)]) as shown:
        shown.until("req_5f3a9c01d2e4_17")
        operator.told = NOW | {"served": 4321}
        shown.until("served 4,321")
        last = frames(shown.raw)[-1]
        assert len(last) <= 24
        assert all(len(line) <= 80 for line in last)
        assert "\x1b[31;1m" in shown.raw
        mark = len(shown.raw)
        shown.resize(150, 40)
        shown.until("10.1.2.3", mark)
        shown.type("q")
        assert shown.end() == 0
        assert shown.raw.endswith("\x1b[?25h\x1b[?1049l")


def test_a_server_that_goes_away_is_waited_for_and_no_color_is_heard(
    operator: Operator, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "gateway", "top", "--every", "0.5"]
    environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "NO_COLOR": "1", "HOME": str(tmp_path)}
    nobody = [*command, "--url", "http://127.0.0.1:9", "--config", configured(tmp_path, operator)]
    with terminal(nobody, environment=environment, folder=Path(__file__).parents[2]) as shown:
        shown.until("no answer; trying again")
        assert "\x1b[2m" not in shown.raw
        shown.type("\x03")
        assert shown.end() == 130
        assert shown.raw.endswith("\x1b[?25h\x1b[?1049l")


def test_a_wrong_token_is_told_behind_the_screen(operator: Operator, tmp_path: Path) -> None:
    config = configured(tmp_path, operator, "page: {token: wrong-wrong-wrong}")
    with terminal([sys.executable, "-m", "gateway", "top", "--config", config]) as shown:
        assert shown.end() == 1
        behind = shown.raw.rpartition("\x1b[?1049l")[2]
        assert "not its page.token" in behind


def test_a_reader_that_has_enough_is_no_error(operator: Operator, tmp_path: Path) -> None:
    config = configured(tmp_path, operator)
    piped = subprocess.run(
        f"{sys.executable} -m gateway top --once --config {config} | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert piped.stdout.startswith("parley")
    assert piped.stderr == ""
