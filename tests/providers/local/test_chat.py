"""Language models beside this server: which there are, and how they are reached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.providers.local.chat import SMOLLM2, LocalChat, models_of, packaged_model
from gateway.providers.local.settings import LocalSettings
from gateway.upstreams.provider import Account


def test_the_operators_models_come_to_the_packaged_one_and_may_replace_it() -> None:
    mine = Path("/models/mine.gguf")
    found = models_of(LocalSettings(llm={"mine": mine}))
    assert found["mine"] == mine
    assert (SMOLLM2 in found) is (packaged_model() is not None)
    assert models_of(LocalSettings(llm={SMOLLM2: mine}))[SMOLLM2] == mine


def test_there_is_no_connection_to_warm_on_this_machine() -> None:
    chat = LocalChat(Account("local", "local", "local://", settings=LocalSettings()))
    assert chat.warm() is None


def test_a_model_takes_half_of_the_cores_unless_it_is_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(cores: int, **settings: int) -> dict[str, object]:
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
        made = LocalSettings.model_validate({"llm": {"mine": "/m.gguf"}, **settings})
        chat = LocalChat(Account("local", "local", "local://", settings=made))
        found: dict[str, object] = json.loads(chat.companions["mine"].told)
        return found

    assert [told(cores)["threads"] for cores in (1, 2, 8)] == [1, 1, 4]
    assert told(8, llm_threads=6)["threads"] == 6
    assert told(2)["on_gpu"] is False
