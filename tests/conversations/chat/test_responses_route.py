"""/responses behind the real application: what is kept, and for whom."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from gateway.app import Gateway
from gateway.config import load
from gateway.conversations.chat.responses_route import KeptRoute, ResponsesRoute, _Form
from gateway.conversations.chat.route import LARGE_BODY_BYTES
from gateway.conversations.chat.session import AwaitModel, Begin, ChatSession
from gateway.providers._openai.dialect import OpenAIChat
from gateway.settings.chat import ChatConfig
from gateway.upstreams.chat import HasProcesses, ManagedProcess
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, ProviderSettings


def route(tmp_path: Path, chat: str = "") -> ResponsesRoute:
    file = tmp_path / "c.yaml"
    file.write_text(
        "providers: {openai: {api_key: x}}\nlocal_stand_in: false\n"
        f"usage: {{enabled: false}}\nchat: {{{chat}}}\n"
    )
    return Gateway(load(file, {}, dev=True)).installation.responses


def request(path: str, key: str = "a") -> Any:
    return SimpleNamespace(scope={"path": path}, caller=SimpleNamespace(key=key))


def keep(made: ResponsesRoute) -> None:
    response = {"id": "resp_1", "output": [{"role": "assistant", "content": "Yes."}]}
    made.store.put("a", response, [{"role": "user", "content": "hi", "id": "i"}], None, 1e12)


async def asked(made: ResponsesRoute, what: str, path: str, key: str = "a") -> Any:
    told = await KeptRoute(made, what).answer(request(path, key), b"")
    return told if isinstance(told, Failure) else orjson.loads(told)


async def test_what_is_kept_is_told_to_its_own_key(tmp_path: Path) -> None:
    made = route(tmp_path)
    keep(made)
    assert (await asked(made, "get", "/responses/resp_1"))["id"] == "resp_1"
    items = await asked(made, "input_items", "/responses/resp_1/input_items")
    assert [one["content"] for one in items["data"]] == ["hi"]
    assert items["first_id"] == "i"
    for what in ("get", "delete", "input_items"):
        other = await asked(made, what, "/responses/resp_1", key="b")
        assert isinstance(other, Failure)
        assert other.status == 404
    assert (await asked(made, "delete", "/responses/resp_1"))["deleted"] is True
    assert isinstance(await asked(made, "get", "/responses/resp_1"), Failure)


def test_a_new_configuration_goes_on_with_what_is_kept(tmp_path: Path) -> None:
    made = route(tmp_path)
    keep(made)
    again = ResponsesRoute(made._chat, made)
    assert len(again.store) == 1
    assert again.origins is made.origins


@pytest.mark.parametrize(("chat", "kept"), [("", 1), ("responses: {per_key: 0}", 0)])
def test_bounds_are_the_operators(tmp_path: Path, chat: str, kept: int) -> None:
    made = route(tmp_path, chat)
    keep(made)
    assert len(made.store) == kept


async def test_a_previous_response_of_another_key_is_not_found(tmp_path: Path) -> None:
    made = route(tmp_path)
    keep(made)
    body = orjson.dumps({"model": "m", "input": "x", "previous_response_id": "resp_1"})
    assert isinstance(await made._read(("b",), body), Failure)
    found = await made._read(("a",), body)
    assert not isinstance(found, Failure)
    assert [one["content"] for one in found[0].items] == ["hi", "Yes.", "x"]
    # a connection finds what was kept for it alone, and what its key has
    assert not isinstance(await made._read(("b", "a"), body), Failure)


def test_what_one_worker_keeps_another_goes_on_with(tmp_path: Path) -> None:
    one, other = route(tmp_path), route(tmp_path)
    one._tell = other.hear
    said = [{"role": "assistant", "content": "Yes."}]
    user = [{"role": "user", "content": "hi"}]
    one.keep("a", {"id": "r1", "output": said}, user, None)
    before = one.store.get("a", "r1", 0.0)
    one.keep("a", {"id": "r2", "output": said, "previous_response_id": "r1"}, user, before)
    found = other.store.get("a", "r2", 0.0)
    assert found is not None
    assert found.conversation == [*user, *said, *user, *said]
    # without what came before it would be another conversation
    other.hear(("a", {"id": "r4", "output": [], "previous_response_id": "r3"}, user))
    assert other.store.get("a", "r4", 0.0) is None


@pytest.mark.parametrize("kept", [100, LARGE_BODY_BYTES])
async def test_a_short_request_about_much_is_read_by_a_thread(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = route(tmp_path)
    made.keep("a", {"id": "r1", "output": []}, [{"role": "user", "content": "x" * kept}], None)
    threads: list[Any] = []

    async def counted(do: Any) -> Any:
        threads.append(do)
        return do()

    monkeypatch.setattr(asyncio, "to_thread", counted)
    body = orjson.dumps({"model": "m", "input": "x", "previous_response_id": "r1"})
    assert not isinstance(await made._read(("a",), body), Failure)
    assert len(threads) == (kept >= LARGE_BODY_BYTES)


async def test_what_one_worker_deletes_another_has_no_more(tmp_path: Path) -> None:
    one, other = route(tmp_path), route(tmp_path)
    one._tell = other.hear
    one.keep("a", {"id": "r1", "output": []}, [{"role": "user", "content": "hi"}], None)
    assert other.store.get("a", "r1", 0.0) is not None
    assert (await asked(one, "delete", "/responses/r1"))["deleted"] is True
    assert other.store.get("a", "r1", 0.0) is None
    other.hear(("a", "r1"))  # it may be gone already


class LocalModel(OpenAIChat, HasProcesses):
    """A model in a process of its own, which is not ready."""

    def __init__(self) -> None:
        super().__init__(Account("here", "openai-compatible", "", settings=ProviderSettings()))
        self.companions = {"small": ManagedProcess("small", ("run",), "{}")}


async def test_a_local_model_that_is_being_loaded_is_waited_for(tmp_path: Path) -> None:
    made, local = route(tmp_path), LocalModel()
    read = await made._read(("a",), orjson.dumps({"model": "m", "input": "hi", "stream": True}))
    assert not isinstance(read, Failure)
    asked, before, chat = read
    form = _Form(made, asked, before, ("a",), chat)
    plan = (Attempt("here", "small"),)
    upstreams = form.upstreams(plan, {"here": local})
    session = ChatSession(chat, plan, upstreams, ChatConfig(), now=0.0)
    assert session.handle(Begin(), 0.0) == [AwaitModel(1, local.companions["small"])]
