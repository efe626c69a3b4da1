"""`gateway check` looks at all that the configuration names."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.check import look
from gateway.cli.main import main
from gateway.config import Config
from tests import services
from tests.fakes import frame_model
from tests.fakes.openai_chat import FakeOpenAI
from tests.ports import Port

SECRET = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t"


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GATEWAY_CONFIG", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command with a configuration that is ready but for what is given."""
    model = frame_model.write(tmp_path / "m.onnx")

    def check(text: str = "", *options: str, command: str = "check") -> tuple[int, str]:
        path = tmp_path / "gateway.yaml"
        path.write_text(f"keys: {{APIx: {SECRET}}}\nbargein: {{model: {model}}}\n{text}")
        with pytest.raises(SystemExit) as ended:
            main([command, "--config", str(path), *options])
        shown = capsys.readouterr()
        assert SECRET not in shown.out + shown.err
        return int(str(ended.value.code)), shown.out + shown.err

    return check


def test_what_is_ready_exits_with_nothing(checked: Any) -> None:
    code, shown = checked()
    assert code == 0
    assert shown.endswith("ready to serve\n")


def test_another_version_of_the_interruption_model_has_to_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(f"keys: {{APIx: {SECRET}}}\nbargein: {{models: {{/no/such.onnx: 0.1}}}}\n")
    with pytest.raises(SystemExit, match="1"):
        main(["check", "--config", str(path)])
    assert "bargein.models FAILED: /no/such.onnx: there is no such file" in capsys.readouterr().out


def test_the_folder_to_learn_from_has_to_take_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    learn = f"{{keys: [APIx], secret: {'A' * 43}=, folder: {tmp_path}/file}}"
    path = tmp_path / "gateway.yaml"
    path.write_text(f"keys: {{APIx: {SECRET}}}\nbargein: {{learn: {learn}}}\n")
    with pytest.raises(SystemExit, match="1"):
        main(["check", "--config", str(path)])
    assert "bargein.learn.folder FAILED: nothing can be written in" in capsys.readouterr().out


def test_warnings_do_not_make_it_unready(checked: Any) -> None:
    code, shown = checked("stt: {fallback: [deepgram/nova-3]}")
    assert code == 0
    assert "warning     stt.fallback.0: nothing serves 'deepgram/nova-3'" in shown
    assert "(line 3)" in shown


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("deepgram/nova-3", "kept alive by a message every 4 s"),
        ("cartesia/ink-whisper", "kept alive by silence every 60 s, which is audio"),
        ("assemblyai/universal-streaming", "nothing keeps its line alive"),
        ("speechmatics/enhanced", "none is kept: nothing serves speechmatics/enhanced"),
    ],
)
def test_a_standby_is_told_with_what_keeps_it_alive(checked: Any, model: str, kept: str) -> None:
    providers = "".join(
        f"  {name}: {{api_key: key-of-{name}}}\n" for name in ("deepgram", "cartesia", "assemblyai")
    )
    code, shown = checked(
        f"providers:\n{providers}stt: {{standby: {{model: {model}, keys: [APIx]}}}}\n"
    )
    assert code == 0
    (line,) = [line for line in shown.splitlines() if line.startswith("stt.standby")]
    assert kept in line


def test_wrong_configurations_exit_with_two_also_as_json(checked: Any) -> None:
    code, shown = checked("servr: {}")
    assert code == 2
    assert "gateway.yaml):" in shown
    code, shown = checked("servr: {}", "--json")
    assert code == 2
    assert json.loads(shown) == {
        "ready": False,
        "mistakes": ["servr: unknown key; did you mean 'server'? (line 3)"],
    }


def test_a_usage_store_that_cannot_be_written_is_told(checked: Any) -> None:
    code, shown = checked("usage: {url: 'sqlite:/proc/x/usage.db'}")
    assert code == 1
    assert re.search(r"usage\s+FAILED: nothing can be written in /proc/x", shown)


def test_a_file_that_is_no_database_is_told(checked: Any, tmp_path: Path) -> None:
    (tmp_path / "usage.db").write_text("hello" * 1000)
    code, shown = checked(f"usage: {{url: 'sqlite:{tmp_path}/usage.db'}}")
    assert code == 1
    assert "cannot be written: DatabaseError" in shown


def test_a_database_is_not_made_by_looking(checked: Any, tmp_path: Path) -> None:
    code, shown = checked(f"usage: {{url: 'sqlite:{tmp_path}/new/usage.db'}}")
    assert code == 0
    assert "will be made" in shown
    assert not (tmp_path / "new").exists()


def test_a_database_that_is_there_is_written(checked: Any, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "usage.db").close()
    (tmp_path / "usage.db").touch()
    code, shown = checked(f"usage: {{url: 'sqlite:{tmp_path}/usage.db'}}")
    assert code == 0
    assert re.search(r"usage\s+sqlite:\S+ can be written", shown)


@contextmanager
def mute() -> Iterator[int]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    kept.append(server.accept()[0])
            except OSError:
                pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in kept:
            one.close()


@pytest.mark.parametrize(
    "store",
    [
        "usage: {{url: 'postgresql://u:{secret}@127.0.0.1:{port}/db'}}",
        "quota: {{redis_url: 'redis://:{secret}@127.0.0.1:{port}/0'}}",
    ],
)
def test_a_store_that_is_not_there_is_told_without_its_password(checked: Any, store: str) -> None:
    with Port() as nobodys:
        code, shown = checked(store.format(secret=SECRET, port=nobodys.number))
    assert code == 1
    assert re.search(r"(usage|quota)\s+FAILED: \w+://\*\*\*@127\.0\.0\.1:\d+/\w+ cannot be", shown)


def test_a_store_that_does_not_answer_is_not_waited_for_long() -> None:
    with mute() as port:
        url = f"redis://127.0.0.1:{port}/0"
        config = Config.model_validate({"quota": {"redis_url": url}, "usage": {"enabled": False}})
        outcome = look(config, live=False, store_s=0.2)
    (quota,) = [one for one in outcome.findings if one.name == "quota"]
    assert (quota.state, quota.detail) == ("failed", f"{url} does not answer within 0.2 s")


def test_stores_that_are_there_are_written(checked: Any, tmp_path: Path) -> None:
    with services.redis(tmp_path) as redis:
        code, shown = checked(f"quota: {{redis_url: '{redis.url}'}}")
    assert code == 0
    assert re.search(r"quota\s+redis://\S+ can be written", shown)
    with services.postgres() as postgres:
        code, shown = checked(f"usage: {{url: '{postgres.url}'}}")
    assert code == 0
    assert re.search(r"usage\s+postgresql://\S+ can be written", shown)


def test_a_cache_folder_that_cannot_be_written_is_told(checked: Any) -> None:
    code, shown = checked("tts: {cache: {enabled: true, directory: /proc/x}}")
    assert code == 1
    assert "tts.cache.directory FAILED: nothing can be written in /proc/x" in shown


@pytest.mark.parametrize("host", ["nosuch.invalid", "192.0.2.1"])
def test_a_host_that_cannot_be_listened_on_is_told(checked: Any, host: str) -> None:
    code, shown = checked(f"server: {{host: {host}}}")
    assert code == 1
    assert f"server.host FAILED: cannot listen on {host!r}" in shown


def test_what_the_start_would_refuse_is_told(checked: Any, tmp_path: Path) -> None:
    code, shown = checked(
        "server: {admin_host: nosuch.invalid, "
        f"tls: {{certificate: {tmp_path}/no.pem, key: {tmp_path}/no.key}}}}"
    )
    assert code == 1
    assert "server.admin_host FAILED: cannot listen on 'nosuch.invalid'" in shown
    assert f"server.tls.certificate: {tmp_path}/no.pem: No such file or directory" in shown


def test_engines_without_their_files_are_told(checked: Any, tmp_path: Path) -> None:
    text = f"""
providers:
  local: {{whisper: {{big: {tmp_path}/no}}, llm: {{tiny: {tmp_path}/no.gguf}}}}
"""
    code, shown = checked(text)
    assert code == 1
    assert f"providers.local.whisper.big FAILED: there is no model.bin in {tmp_path}/no" in shown
    assert f"providers.local.llm.tiny FAILED: there is no file {tmp_path}/no.gguf" in shown


RACK = """
providers:
  local: {enabled: false}
  rack:
    type: openai-compatible
    base_url: http://me:pass@127.0.0.1:9/v1
    models: [qwen3, whisper-1]
models:
  openai/gpt-4.1-mini: [{provider: rack, model: llama}]
  house/*: [{provider: rack, model: "*"}]
"""


def test_a_name_is_listed_for_what_it_is_and_a_pattern_with_an_example(checked: Any) -> None:
    code, shown = checked(RACK, command="models")
    assert code == 0
    assert re.findall(r"^  (\w+) +(\S+) ", shown, re.MULTILINE) == [
        ("chat", "openai/gpt-4.1-mini"),
        ("chat", "rack/qwen3"),
        ("chat", "house/*"),
        ("stt", "rack/whisper-1"),
        ("stt", "house/*"),
    ]
    assert "rack (*), for example house/qwen3" in shown
    assert "rack (*), for example house/whisper-1" in shown


def test_a_cascade_is_listed_with_its_parts(checked: Any) -> None:
    code, shown = checked(
        "providers: {openai: {api_key: k}, cartesia: {api_key: k}, deepgram: {api_key: k}}\n"
        "cascades: {support: {stt: auto, chat: openai/gpt-4.1-mini, tts: 'cartesia/sonic-3:v'}}",
        command="models",
    )
    assert code == 0
    (line,) = [line for line in shown.splitlines() if "cascade/support" in line]
    assert line.split("  ")[1].strip() == "realtime"
    assert line.endswith("auto, openai/gpt-4.1-mini, cartesia/sonic-3:v")


def test_models_as_json(checked: Any) -> None:
    _, shown = checked(RACK, "--json", command="models")
    assert {
        "modality": "chat",
        "name": "house/*",
        "deployments": [{"provider": "rack", "model": "*"}],
        "example": "house/qwen3",
    } in json.loads(shown)


def test_a_user_and_password_in_an_address_are_not_shown(checked: Any) -> None:
    _, shown = checked(RACK)
    assert "http://***@127.0.0.1:9/v1" in shown
    assert "me:pass" not in shown


def test_everything_as_json(checked: Any) -> None:
    with FakeOpenAI(models=["qwen3"]) as fake:
        text = RACK.replace("http://me:pass@127.0.0.1:9/v1", fake.base_url)
        code, shown = checked(text, "--json", "--live")
    found = json.loads(shown)
    assert code == 0
    assert found["ready"] is True
    shown = {"type": "openai-compatible", "base_url": fake.base_url, "region": ""}
    assert {"name": "rack", **shown} in (found["providers"])
    (chat,) = [
        one
        for one in found["credentials"]
        if one["provider"] == "rack" and one["modality"] == "chat"
    ]
    assert chat["state"] == "ok"
    assert chat["unlisted"] == ["llama", "whisper-1"]
    assert {check["state"] for check in found["checks"]} <= {"ok", "note"}


def test_a_refused_key_makes_it_unready(checked: Any) -> None:
    with FakeOpenAI() as fake:
        text = f"providers: {{openai: {{api_key: wrong-key, base_url: '{fake.base_url}'}}}}"
        fake.refuse()
        code, shown = checked(text, "--live")
    assert code == 1
    assert re.search(r"openai +chat +cannot be reached", shown)
    assert re.search(r"openai +tts +not tried: every request is billed", shown)
    assert "wrong-key" not in shown
