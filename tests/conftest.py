"""What all tests share: the real server as a process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server import Server, running
from tests.fakes import frame_model

pytest_plugins = ["tests.side_by_side", "tests.skips"]

with contextlib.suppress(ImportError):  # the environment of `models` has none
    from hypothesis import settings

    # no test asks how long something takes: the machine may be busy
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")


@pytest.fixture(scope="session")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The gateway with a tiny interruption model and one upstream that nobody serves."""
    folder = tmp_path_factory.mktemp("bare")
    model: Path = frame_model.write(folder / "m.onnx")
    config = f"""
bargein: {{model: {model}}}
log: {{format: json, level: info}}
limits: {{sessions_per_key: 40, chat_body_bytes: 1000000}}
server: {{shutdown_grace_s: 5}}
providers:
  nobody: {{type: openai-compatible, base_url: "http://127.0.0.1:9/v1"}}
"""
    with running(folder, config) as server:
        yield server
