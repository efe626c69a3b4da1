"""The processes of `gateway bench`."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import pytest

from gateway.cli.bench_server import BenchError, server
from gateway.config import Config
from tests.fakes import frame_model

SECRET = "s" * 40


def configured(tmp_path: Path, model: Path) -> Config:
    return Config.model_validate(
        {
            "keys": {"APIx": SECRET},
            "bargein": {"model": str(model)},
            "usage": {"enabled": False, "spill": str(tmp_path / "spill")},
            "server": {"drain_delay_s": 0, "shutdown_grace_s": 1},
        }
    )


def test_a_server_serves_on_a_port_of_its_own_and_ends(tmp_path: Path) -> None:
    config = configured(tmp_path, frame_model.write(tmp_path / "m.onnx"))
    with server(config, tmp_path, "bench") as running:
        request = urllib.request.Request(
            f"{running.url}/v1/models", headers={"authorization": f"Bearer {running.token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
        used = running.cpu_s()
        assert used is None or used > 0
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)
    assert running.cpu_s() is None


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    config = configured(tmp_path, tmp_path / "nothing.onnx")
    with (
        pytest.raises(BenchError, match=r"did not start(.|\n)*nothing\.onnx"),
        server(config, tmp_path, "bench"),
    ):
        pass
