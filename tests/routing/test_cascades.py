from __future__ import annotations

from typing import Any

import pytest

from gateway.routing import cascades
from gateway.settings.cascades import CascadeConfig
from gateway.upstreams.provider import Account, find

SUPPORT = CascadeConfig(stt="deepgram/nova-3", chat="openai/gpt-4.1", tts="cartesia/sonic-3:v")


def local(monkeypatch: pytest.MonkeyPatch, **found: str) -> Account:
    """The provider of this machine's engines, with these."""
    vendor = find("local")
    stand_ins = {modality: (name, "m") for modality, name in found.items()}
    monkeypatch.setattr(
        "gateway.routing.stand_in.find",
        lambda name: _With(vendor, stand_ins) if name == "local" else find(name),
    )
    return vendor.account("local", vendor.settings(type="local"))


class _With:
    def __init__(self, vendor: Any, found: Any) -> None:
        self._vendor, self._found = vendor, found

    def stand_ins(self, settings: object) -> Any:
        return self._found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vendor, name)


def test_a_configured_cascade_is_asked_for_by_its_name_behind_a_slash() -> None:
    assert cascades.served({"support": SUPPORT}, ()) == {"cascade/support": SUPPORT}


def test_this_machine_is_a_cascade_if_it_has_an_engine_of_each_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = local(monkeypatch, stt="local/whisper", chat="local/llm", tts="local/kokoro")
    assert cascades.served({}, (account,)) == {
        "local/cascade": CascadeConfig(stt="local/whisper", chat="local/llm", tts="local/kokoro")
    }


def test_two_engines_are_no_cascade(monkeypatch: pytest.MonkeyPatch) -> None:
    account = local(monkeypatch, stt="local/whisper", tts="local/kokoro")
    assert cascades.served({}, (account,)) == {}
