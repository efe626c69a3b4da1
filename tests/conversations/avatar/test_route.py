"""Avatars over HTTP through the real server: repeated requests, limits, failures, bounds."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import jwt
import orjson
import pytest

from gateway.app import Gateway
from gateway.config import load
from gateway.conversations.avatar import route as route_module
from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fakes.lemonslice_avatar import KEY, FakeLemonSlice

BODY = {
    "provider": "lemonslice",
    "livekit_url": "wss://x.livekit.cloud",
    "room_name": "room-1",
    "room_sid": "RM_1",
    "avatar_identity": "avatar",
    "agent_identity": "agent-1",
    "avatar_id": "agent_abc",
}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeLemonSlice]:
    with FakeLemonSlice() as started:
        yield started


def config(fake: FakeLemonSlice, avatar: str = "", more: str = "") -> str:
    return (
        f"providers: {{lemonslice: {{api_key: {KEY}, base_url: '{fake.url}'}}}}\n"
        f"local_stand_in: false\navatar: {{{avatar}}}\n{more}"
    )


@pytest.fixture(scope="module")
def server(fake: FakeLemonSlice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    text = config(fake, "sessions_per_key: 3", "prices: {lemonslice/*: {audio_minute: 6}}\n")
    with running(tmp_path_factory.mktemp("avatars"), text) as started:
        yield started


@pytest.fixture(autouse=True)
def forget(fake: FakeLemonSlice) -> None:
    fake.forget()


def headers(server: Server, **more: str) -> dict[str, str]:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    return {"authorization": f"Bearer {token}", **more}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(
    http: aiohttp.ClientSession, server: Server, path: str, body: Any, **more: str
) -> tuple[int, Any]:
    url = f"{server.url}/v1/avatar/sessions{path}"
    async with http.post(url, json=body, headers=headers(server, **more)) as answer:
        return answer.status, await answer.json()


async def end(http: aiohttp.ClientSession, server: Server, told: Any) -> tuple[int, Any]:
    names = ("provider_session_id", "terminate_token")
    body = {"provider": "lemonslice"} | {name: told[name] for name in names}
    return await post(http, server, "/terminate", body)


async def test_an_avatar_comes_with_a_token_for_its_room_and_leaves(
    http: aiohttp.ClientSession, server: Server, fake: FakeLemonSlice
) -> None:
    more = {
        "prompt": "smile", "idle_prompt": "wait", "idle_timeout_s": 5000,
        "extra_kwargs": {"aspect_ratio": "1:1", "transport_type": "daily"},
    }  # fmt: skip
    status, told = await post(http, server, "", BODY | more)
    assert status == 200
    assert told["sample_rate"] == 16000
    sent = fake.running[told["provider_session_id"]]
    assert sent["agent_id"] == "agent_abc"
    assert sent["agent_prompt"] == "smile"
    assert sent["agent_idle_prompt"] == "wait"
    assert sent["idle_timeout"] == 600  # no longer than the operator allows
    assert sent["aspect_ratio"] == "1:1"
    assert sent["transport_type"] == "livekit"
    assert sent["properties"]["livekit_url"] == "wss://x.livekit.cloud"
    assert sent["properties"]["livekit_session_id"] == "RM_1"
    token = sent["properties"]["livekit_token"]
    claims = jwt.decode(token, server.api_secret, algorithms=["HS256"])
    assert claims["iss"] == server.api_key
    assert claims["video"]["room"] == "room-1"
    assert await end(http, server, told) == (200, {"terminated": True})
    assert told["provider_session_id"] not in fake.running
    assert await end(http, server, told) == (200, {"terminated": True})  # clients repeat it


async def test_a_repeated_request_is_one(
    http: aiohttp.ClientSession, server: Server, fake: FakeLemonSlice
) -> None:
    fake.script("slow")
    again = [post(http, server, "", BODY, **{"Idempotency-Key": "k1"}) for _ in range(3)]
    answers = await asyncio.gather(*again)
    answers.append(await post(http, server, "", BODY, **{"Idempotency-Key": "k1"}))
    assert len({told["provider_session_id"] for _, told in answers}) == 1
    assert len(fake.received) == 1
    status, told = await post(
        http, server, "", BODY | {"room_name": "other"}, **{"Idempotency-Key": "k1"}
    )
    assert status == 400
    assert told["error"]["param"] == "Idempotency-Key"
    await end(http, server, answers[0][1])


async def test_a_failure_is_not_remembered(
    http: aiohttp.ClientSession, server: Server, fake: FakeLemonSlice
) -> None:
    fake.script("status:400")
    status, _ = await post(http, server, "", BODY, **{"Idempotency-Key": "k2"})
    assert status == 400
    status, told = await post(http, server, "", BODY, **{"Idempotency-Key": "k2"})
    assert status == 200
    await end(http, server, told)


@pytest.mark.parametrize(
    ("scenario", "status"), [("status:402", 502), ("nonsense", 502), ("status:400", 400)]
)
async def test_what_a_provider_refuses_has_openais_form(
    http: aiohttp.ClientSession, tmp_path: Path, fake: FakeLemonSlice, scenario: str, status: int
) -> None:
    with running(tmp_path, config(fake)) as alone:
        fake.script(scenario)
        found, told = await post(http, alone, "", BODY)
    assert found == status
    assert told["error"]["message"]
    assert KEY not in str(told)


async def test_a_key_has_so_many_avatars(
    http: aiohttp.ClientSession, server: Server, fake: FakeLemonSlice
) -> None:
    begun = [await post(http, server, "", BODY) for _ in range(4)]
    assert [status for status, _ in begun] == [200, 200, 200, 429]
    for status, told in begun:
        if status == 200:
            await end(http, server, told)
    status, told = await post(http, server, "", BODY)
    assert status == 200
    await end(http, server, told)


async def test_nobody_ends_what_is_anothers(
    http: aiohttp.ClientSession, server: Server, fake: FakeLemonSlice
) -> None:
    _, told = await post(http, server, "", BODY)
    status, answer = await end(http, server, told | {"terminate_token": "x"})
    assert status == 403
    assert answer["error"]["param"] == "terminate_token"
    assert told["provider_session_id"] in fake.running
    fake.script("status:500")
    status, _ = await end(http, server, told)
    assert status >= 500  # and the client may try again
    assert (await end(http, server, told))[0] == 200


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"provider": "nobody"}, 404),
        ({"room_name": None}, 400),
        ({"avatar_id": None}, 400),
        ({"livekit_url": None}, 400),
    ],
)
async def test_what_cannot_be_is_refused(
    http: aiohttp.ClientSession, server: Server, changes: Any, status: int
) -> None:
    body = {name: value for name, value in (BODY | changes).items() if value is not None}
    found, told = await post(http, server, "", body)
    assert (found, told["error"]["type"]) == (status, "invalid_request_error")


async def test_an_avatar_that_nobody_ends_is_ended(
    http: aiohttp.ClientSession, tmp_path: Path, fake: FakeLemonSlice
) -> None:
    with running(tmp_path, config(fake, "session_s_max: 10")) as alone:
        _, told = await post(http, alone, "", BODY)
        assert fake.wait_until(lambda: told["provider_session_id"] not in fake.running)
        alone.logged("an avatar was not ended by its client")


async def test_the_operators_pair_lets_avatars_into_the_operators_rooms_alone(
    http: aiohttp.ClientSession, tmp_path: Path, fake: FakeLemonSlice
) -> None:
    pair = f"livekit_url: 'wss://own', livekit_key: APIlk, livekit_secret: {'l' * 32}"
    with running(tmp_path, config(fake, pair)) as alone:
        _, told = await post(http, alone, "", BODY)
        sent = fake.running[told["provider_session_id"]]["properties"]
        await end(http, alone, told)
    assert sent["livekit_url"] == "wss://own"
    claims = jwt.decode(sent["livekit_token"], "l" * 32, algorithms=["HS256"])
    assert claims["iss"] == "APIlk"


async def test_minutes_are_recorded_and_priced(http: aiohttp.ClientSession, server: Server) -> None:
    _, told = await post(http, server, "", BODY)
    await asyncio.sleep(0.3)  # what is counted is time
    await end(http, server, told)
    assert server.metric("parley_requests_total", route="avatar", outcome="ok") >= 2


async def test_a_repeated_request_is_one_whichever_worker_has_it(
    tmp_path: Path, fake: FakeLemonSlice
) -> None:
    text = config(fake, more="server: {workers: 2, drain_delay_s: 0}\n")
    with running(tmp_path, text) as alone:
        # one that begins later has not heard what others said before
        while orjson.loads(alone.get("/readyz")[1])["workers"]["ready"] < 2:
            await asyncio.sleep(0.05)

        async def ask() -> tuple[int, Any]:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True)
            ) as one:
                return await post(one, alone, "", BODY, **{"Idempotency-Key": "k"})

        fake.script("slow")
        first = asyncio.create_task(ask())
        await asyncio.to_thread(fake.wait_until, lambda: fake.received)
        answers = [await first, *await asyncio.gather(*[ask() for _ in range(12)])]
        assert {status for status, _ in answers} == {200}
        assert len({told["provider_session_id"] for _, told in answers}) == 1
        assert len(fake.received) == 1


async def test_what_other_workers_say_is_taken_as_ones_own(
    tmp_path: Path, fake: FakeLemonSlice
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"keys: {{a: {'s' * 32}}}\n" + config(fake))
    route = Gateway(load(file, {}, dev=True)).installation.avatars
    request: Any = SimpleNamespace(
        caller=SimpleNamespace(key="a"), scope={"headers": [(b"idempotency-key", b"k")]}
    )
    body = orjson.dumps(BODY)
    route.hear(["begun", "a", "k", hashlib.sha256(body).hexdigest()])
    asking = asyncio.create_task(route.answer(request, body))
    await asyncio.sleep(0)
    route.hear(["told", "a", "k", "{}"])
    assert await asking == b"{}"
    route.hear(["begun", "a", "k2", "x"])
    route.hear(["told", "a", "k2", None])
    assert ("a", "k2") not in route._asked
    route.hear(["ended", "lemonslice", "nobody"])
    route.hear(["nonsense"])
    await route.close()


async def test_two_workers_that_are_asked_at_once_each_go_by_their_own_answer(
    tmp_path: Path, fake: FakeLemonSlice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: a provider that fails, and then another one."""
    file = tmp_path / "c.yaml"
    file.write_text(f"keys: {{a: {'s' * 32}}}\n" + config(fake))
    route = Gateway(load(file, {}, dev=True)).installation.avatars
    monkeypatch.setattr(route_module, "PATIENCE_S", -route._config.timeout_s)
    come = asyncio.Event()

    async def create(*asked: Any) -> bytes:
        await come.wait()
        return b'"mine"'

    monkeypatch.setattr(route, "_create", create)
    request: Any = SimpleNamespace(
        caller=SimpleNamespace(key="a"), scope={"headers": [(b"idempotency-key", b"k")]}
    )
    asking = asyncio.create_task(route.answer(request, orjson.dumps(BODY)))
    await asyncio.sleep(0)
    route.hear(["told", "a", "k", None])
    route.hear(["told", "a", "k", '"theirs"'])
    await asyncio.sleep(0)
    come.set()
    assert await asking == b'"mine"'
    monkeypatch.undo()
    await route.close()
