"""The command line, as a newcomer meets it."""

import contextlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.cli.main import _print_dev, main
from gateway.config import Config
from gateway.server.auth import Authenticator, Principal
from gateway.settings.server import ServerConfig
from gateway.upstreams.errors import Failure
from tests.fakes import frame_model

SECRET = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t"


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATEWAY_CONFIG", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _logs_stay_as_they_are() -> Iterator[None]:
    """`serve` sets up the logs of its process, which here is that of all tests."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(args)
    code = ended.value.code
    return code if isinstance(code, int) else 0 if code is None else 1


def a_config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return str(path)


def test_help_names_every_command_and_where_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for command in ("serve", "token", "keys", "check", "models", "bargein"):
        assert command in shown
    assert "gateway serve --dev" in shown


def test_without_a_key_the_server_refuses_to_start_and_says_how_to_make_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("serve") == 2
    assert "gateway keys new" in capsys.readouterr().err


def test_a_new_pair_is_long_enough_and_never_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "new") == 0
    assert run("keys", "new") == 0
    secrets = re.findall(r"LIVEKIT_API_SECRET=(\S+)", capsys.readouterr().out)
    assert len(set(secrets)) == 2
    assert all(len(secret) >= 32 for secret in secrets)


def test_a_minted_token_opens_the_door(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "APIx")
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    assert run("token", "--identity", "me") == 0
    token = capsys.readouterr().out.strip()
    caller = Authenticator({"APIx": SECRET}).authenticate(f"Bearer {token}")
    assert caller == Principal("APIx", "me")


def test_a_token_for_an_unknown_key_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = a_config(tmp_path, f"keys: {{APIx: {SECRET}}}")
    assert run("token", "--config", config, "--key", "APIy") == 2
    assert "'APIy' is not configured" in capsys.readouterr().err


def test_trying_out_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    _print_dev(Config(keys={"APIx": SecretStr(SECRET)}), 8080)
    shown = capsys.readouterr().out
    assert "export LIVEKIT_INFERENCE_URL=http://127.0.0.1:8080/v1\n" in shown
    assert f"export LIVEKIT_API_SECRET={SECRET}\n" in shown
    [pasted] = [line for line in shown.splitlines() if "curl" in line and "Bearer" in line]
    token = pasted.rpartition("Bearer ")[2].strip('"')
    assert not isinstance(Authenticator({"APIx": SECRET}).authenticate(f"Bearer {token}"), Failure)
    assert "OPENAI_API_KEY" in shown
    assert "README.md" in shown


def test_with_a_chat_model_the_request_by_hand_is_a_chat(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rack = {"type": "openai-compatible", "base_url": "http://rack/v1", "models": ["m"]}
    config = Config.model_validate({"keys": {"APIx": SECRET}, "providers": {"rack": rack}})
    _print_dev(config, 8080)
    shown = capsys.readouterr().out
    assert "/chat/completions" in shown
    assert '"model": "rack/m"' in shown


def test_trying_out_listens_on_this_machine_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--dev", "--host", "0.0.0.0") == 2
    assert "this machine alone" in capsys.readouterr().err


def test_all_mistakes_of_a_configuration_are_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = a_config(tmp_path, "servr: {}\nlog: {level: loud}\n")
    assert run("check", "--config", config) == 2
    shown = capsys.readouterr().err
    assert "did you mean 'server'?" in shown
    assert "log.level" in shown
    assert "Traceback" not in shown


def test_check_shows_what_is_served_by_whom_and_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = frame_model.write(tmp_path / "m.onnx")
    config = a_config(
        tmp_path,
        f"""
        keys: {{APIx: {SECRET}}}
        bargein: {{model: {model}}}
        providers:
          rack: {{type: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: {SECRET}}}
        models: {{openai/gpt-4.1-mini: [{{provider: rack, model: llama}}]}}
        """,
    )
    assert run("check", "--config", config) == 0
    shown = capsys.readouterr().out
    assert re.search(r"openai/gpt-4\.1-mini\s+rack \(llama\)", shown)
    assert "running-mean" in shown
    assert "ready to serve" in shown
    assert SECRET not in shown


def test_check_live_says_who_cannot_be_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = frame_model.write(tmp_path / "m.onnx")
    config = a_config(
        tmp_path,
        f"""
        keys: {{APIx: {SECRET}}}
        bargein: {{model: {model}}}
        providers: {{rack: {{type: openai-compatible, base_url: "http://127.0.0.1:9/v1"}}}}
        """,
    )
    assert run("check", "--config", config, "--live") == 1
    assert re.search(r"rack\s+chat\s+cannot be reached", capsys.readouterr().out)


def test_check_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = a_config(tmp_path, f"bargein: {{model: {tmp_path}/nowhere.onnx}}")
    assert run("check", "--config", config) == 1
    shown = capsys.readouterr().out
    assert "there is no such file" in shown
    assert "gateway keys new" in shown


def test_a_model_that_cannot_be_loaded_ends_the_start_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    config = a_config(tmp_path, f"keys: {{A: {SECRET}}}\nbargein: {{model: {tmp_path}/m.onnx}}")
    assert run("serve", "--config", config, "--port", "0", "--host", "127.0.0.1") == 2
    assert "m.onnx: not a model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("serve", "--port", "99999"), "expected a port from 0 to 65535, not '99999'"),
        (("serve", "--port", "-1"), "expected a port from 0 to 65535, not '-1'"),
        (("serve", "--port", "http"), "expected a port from 0 to 65535, not 'http'"),
        (("serve", "--port", ""), "expected a port from 0 to 65535, not ''"),
        (("serve", "--port", "9" * 9999), "expected a port from 0 to 65535"),
        (("serve", "--host", ""), "expected an address or a host name, such as 0.0.0.0 or"),
        (("serve", "--host", "a" * 300), "expected an address or a host name"),
        (("serve", "--host", "\u2603" * 80), "expected an address or a host name"),
        (("serve", "--host", ".."), "expected an address or a host name"),
        (("serve", "--host", "a\0b"), "expected an address or a host name"),
        (("token", "--ttl", "-5"), "expected seconds from 1 to 999999999, not '-5'"),
        (("token", "--ttl", "9" * 99), "expected seconds from 1 to 999999999"),
        (("check", "--config", "/dev/zero"), "/dev/zero: larger than"),
        (("check", "--config", "/tmp"), "/tmp: cannot be read: is a directory"),
        (("check", "--config", ""), "cannot be read: is a directory"),
        (("check", "--config", "a\0b"), "cannot be read"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr().err
    assert expected in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("host", ["nosuch.invalid", "192.0.2.1"])
def test_a_host_that_cannot_be_listened_on_ends_the_start_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    config = a_config(tmp_path, f"keys: {{A: {SECRET}}}")
    assert run("serve", "--config", config, "--host", host, "--port", "0") == 2
    assert "cannot listen on" in capsys.readouterr().err


def test_an_empty_key_pair_is_told_apart_from_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "")
    assert run("serve") == 2
    assert "LIVEKIT_API_KEY, LIVEKIT_API_SECRET: set, but empty" in capsys.readouterr().err


def test_a_taken_port_of_the_operators_that_nobody_named_keeps_no_server_from_its_callers(
    tmp_path: Path,
) -> None:
    with contextlib.ExitStack() as stack:
        taken = stack.enter_context(socket.socket())
        with contextlib.suppress(OSError):  # somebody else has it: just as well
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", ServerConfig().admin_port or 0))
            taken.listen()
        environment = {
            "PATH": os.environ["PATH"],
            "PARLEY_CACHE": str(tmp_path),
            "LIVEKIT_API_KEY": "APIx",
            "LIVEKIT_API_SECRET": "s" * 40,
        }
        server = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--host", "127.0.0.1", "--port", "0"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.enter_context(server)
        stack.callback(server.kill)
        assert server.stderr is not None
        told: dict[str, dict[str, str]] = {}
        for line in server.stderr:
            told[json.loads(line)["message"]] = json.loads(line)
            if "serving" in told:
                break
    assert any("taking any that is free" in message for message in told)
    assert not told["serving"]["admin_address"].endswith(f":{ServerConfig().admin_port}")
