"""Language models beside this server: which there are, and how they are reached."""

from __future__ import annotations

from pathlib import Path

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
