"""Money cannot be walked around: the real server, its limits, its bills, and its death."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.end_to_end.stt_caller import converse
from tests.end_to_end.test_drain import PAIR
from tests.end_to_end.tts_wire import opened
from tests.fakes import frame_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.speech import KEY as SPEECH_KEY

KEY = PAIR[0]
SILENCE_S = 400.0
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = frame_model.write(tmp_path_factory.mktemp("model") / "m.onnx")
    with ExitStack() as stack:
        llm = stack.enter_context(FakeOpenAI())
        endless = stack.enter_context(FakeOpenAI(default="endless"))
        voice = stack.enter_context(FakeCartesia())
        ear = stack.enter_context(FakeDeepgram())
        yield f"""
bargein: {{model: {model}}}
providers:
  openai: {{base_url: "{llm.base_url}", api_key: k}}
  endless: {{type: openai, base_url: "{endless.base_url}", api_key: k}}
  cartesia: {{base_url: "{voice.url}", api_key: k}}
  deepgram: {{base_url: "{ear.url}", api_key: {SPEECH_KEY}}}
prices:
  "openai:mini": {{input: 0.13, cached_input: 0.07, output: 0.61}}
  "endless:long": {{input: 0.13, output: 0.61}}
  "cartesia:*": {{characters: 37.7}}
  "deepgram:*": {{audio_minute: 0.0077}}
models:
  mini: [{{provider: openai, model: mini}}]
  long: [{{provider: endless, model: long}}]
  voice: [{{provider: cartesia, model: sonic-3, options: {{voice: v}}}}]
  ear: [{{provider: deepgram, model: nova-3}}]
"""


def config(providers: str, folder: Path, quota: str, usage: str = "") -> str:
    store = f"sqlite:{folder}/usage.db"
    return f"{providers}\nquota: {quota}\nusage: {{url: '{store}', flush_s: 0.1{usage}}}\n"


def caller(server: Server) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {mint(*PAIR, identity='agent-7', ttl_s=600)}"}
    return aiohttp.ClientSession(server.url, headers=headers)


async def chat(http: aiohttp.ClientSession, **more: Any) -> tuple[int, Any]:
    body: dict[str, Any] = {"model": "mini", "messages": [{"role": "user", "content": "hello"}]}
    async with http.post("/v1/chat/completions", json=body | more) as response:
        return response.status, await response.json()


async def leave_early(http: aiohttp.ClientSession) -> int:
    """Read some tokens of a stream without an end, and go."""
    body = {"model": "long", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    async with http.post("/v1/chat/completions", json=body) as response:
        if response.status == 200:
            read = 0
            async for line in response.content:
                read += line.startswith(b"data:")
                if read >= 55:
                    break
            response.close()
        return response.status


def usage(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "gateway", "usage", "--config", str(folder / "gateway.yaml")]
    return subprocess.run(
        [*command, *arguments], check=True, capture_output=True, text=True, timeout=120
    ).stdout


async def until_stored(folder: Path, question: str) -> Any:
    """The first answer of the usage store that is not nothing."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            connection = sqlite3.connect(folder / "usage.db")
            try:
                found = connection.execute(question).fetchone()
            except sqlite3.OperationalError:
                found = None  # there is no table yet
            finally:
                connection.close()
            if found and found[0]:
                return found[0]
            await asyncio.sleep(0.1)


async def test_a_day_is_the_sum_of_its_calls_to_the_last_digit_also_after_a_kill(
    providers: str, tmp_path: Path
) -> None:
    quota = f"{{keys: {{{KEY}: {{credits: 1000}}}}, tenants: {{acme: {{keys: [{KEY}]}}}}}}"
    text = config(providers, tmp_path, quota, ", running_s: 1")
    with running(tmp_path, text, pair=PAIR) as server:
        async with caller(server) as http:
            for _ in range(7):
                assert (await chat(http))[0] == 200
            assert await leave_early(http) == 200
        async with opened(server, "voice") as client:
            assert (await client.say("One two three. ")).types[-1] == "done"
        talking = asyncio.create_task(
            converse(server, bytes(int(2 * 16_000 * SILENCE_S)), model="ear")
        )
        heard_ms = await until_stored(
            tmp_path,
            "SELECT sum(audio_ms) FROM parley_usage WHERE route = 'stt' HAVING count(*) >= 3",
        )
        await until_stored(tmp_path, "SELECT count(*) FROM parley_usage WHERE route = 'tts'")
        os.kill(server.process.pid, signal.SIGKILL)
        await asyncio.gather(talking, return_exceptions=True)
        server.process.wait()

    told = json.loads(usage(tmp_path, "--day", "today", "--by", "day,model", "--format", "json"))
    rows = {row["model"]: row for row in told["rows"]}
    assert sum(Decimal(row["cost"]) for row in told["rows"]) == Decimal(told["total"]["cost"])
    assert told["currency"] == "USD"
    # 9 tokens, of these 4 cached, and 6 more; to the last digit
    assert Decimal(rows["mini"]["cost"]) == 7 * Decimal("0.00000459")
    assert Decimal(rows["voice"]["cost"]) == Decimal("37.7") * 15 / 1_000_000
    assert (rows["voice"]["characters"], rows["voice"]["requests"]) == (15, 1)
    assert rows["long"]["completion"] >= 55
    assert Decimal(rows["long"]["cost"]) > 0
    assert rows["ear"]["requests"] == 1
    assert rows["ear"]["failed"] == 0
    assert rows["ear"]["audio_s"] * 1000 >= heard_ms
    connection = sqlite3.connect(tmp_path / "usage.db")
    costs = [one for (one,) in connection.execute("SELECT cost_nano FROM parley_usage")]
    ((balance,),) = connection.execute(
        "SELECT used FROM parley_counts WHERE name = ?", (f"key/{KEY}/cost/balance",)
    )
    connection.close()
    assert Decimal(told["total"]["cost"]) == Decimal(sum(costs)) / 10**9
    assert balance == sum(costs)
    sheet = csv.DictReader(io.StringIO(usage(tmp_path, "--by", "session", "--format", "csv")))
    assert sum(Decimal(row["cost"]) for row in sheet) == Decimal(told["total"]["cost"])
    one = json.loads(
        usage(tmp_path, "--by", "tenant,identity", "--where", f"key={KEY}", "--format", "json")
    )
    assert {(row["tenant"], row["identity"]) for row in one["rows"]} == {
        ("acme", "agent-7"),
        ("acme", "agent"),
        ("acme", "test"),
    }

    # what is used up stays so, over a restart and on every route
    less = config(providers, tmp_path, quota.replace("1000", str(balance / 10**9)))
    with running(tmp_path, less, pair=PAIR) as server:
        async with caller(server) as http:
            status, answer = await chat(http)
            assert status == 429
            assert answer["error"]["quota_type"] == "credits"
            speech = {"model": "voice", "input": "One."}
            async with http.post("/v1/audio/speech", json=speech) as response:
                assert response.status == 429
            for route in ("stt", "tts"):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await http.ws_connect(f"/v1/{route}?model=auto")
                assert refused.value.status == 429


async def test_streams_that_are_left_count(providers: str, tmp_path: Path) -> None:
    quota = f"{{keys: {{{KEY}: {{tokens_per_minute: 60}}}}}}"
    with running(tmp_path, config(providers, tmp_path, quota), pair=PAIR) as server:
        async with caller(server) as http:
            statuses = [await leave_early(http) for _ in range(4)]
        # what the first one left is counted once its end is noticed
        assert statuses[0] == 200
        assert statuses[-1] == 429


async def test_a_session_of_stt_ends_between_utterances_with_a_code(
    providers: str, tmp_path: Path
) -> None:
    quota = f"{{keys: {{{KEY}: {{day: {{audio_seconds: 20}}}}}}}}"
    with running(tmp_path, config(providers, tmp_path, quota), pair=PAIR) as server:
        told = await converse(server, bytes(2 * 16_000 * 90), model="ear", speed=8.0)
        (error,) = [one for one in told if one["type"] == "error"]
        assert error["code"] == 429
        assert "20 seconds of audio a day" in error["message"]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await converse(server, bytes(3200), model="ear")
        assert refused.value.status == 429
        assert "retry-after" in (refused.value.headers or {})


async def test_a_voice_is_refused_before_an_utterance_and_models_by_name(
    providers: str, tmp_path: Path
) -> None:
    quota = f"{{keys: {{{KEY}: {{day: {{characters: 25}}, allowed_models: [voice, mini]}}}}}}"
    with running(tmp_path, config(providers, tmp_path, quota), pair=PAIR) as server:
        async with opened(server, "voice") as client:
            assert (await client.say("One two three four. ")).types[-1] == "done"
            assert (await client.say("Five six. ")).types[-1] == "done"
            refused = (await client.say("Seven. ")).messages[-1]
            assert (refused["type"], refused["code"]) == ("error", 429)
        with pytest.raises(websockets.InvalidStatus) as early:
            async with opened(server, "voice"):
                pass
        assert early.value.response.status_code == 429
        async with caller(server) as http:
            status, answer = await chat(http, model="long")
            assert (status, answer["error"]["code"]) == (403, "forbidden")
            status, _ = await chat(http, model="mini", fallback=["long"])
            assert status == 200
            async with http.get("/v1/models") as listed:
                assert [one["id"] for one in (await listed.json())["data"]] == ["mini"]
            async with http.get("/v1/models/long") as refused_model:
                assert refused_model.status == 403
            told = [
                one for one in await converse(server, bytes(3200), model="ear") if "code" in one
            ]
            assert told[0]["code"] == 403


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere connections are not spread evenly")
async def test_a_balance_holds_over_all_workers_and_their_restart(
    providers: str, tmp_path: Path
) -> None:
    requests = 12
    credits = f"{requests * 4590 / 10**9:.9f}"  # what a request costs, in billionths
    quota = f"{{keys: {{{KEY}: {{credits: {credits}}}}}}}"
    text = config(providers, tmp_path, quota) + "server: {workers: 2, drain_delay_s: 0}\n"
    for at_most in (requests + 1, 0):  # one may enter before the last is counted
        with running(tmp_path, text, pair=PAIR) as server:
            connector = aiohttp.TCPConnector(force_close=True)
            headers = {"Authorization": f"Bearer {mint(*PAIR, identity='agent', ttl_s=600)}"}
            async with aiohttp.ClientSession(
                server.url, headers=headers, connector=connector
            ) as http:
                statuses = [(await chat(http))[0] for _ in range(2 * requests)]
        served = statuses.count(200)
        assert min(requests, at_most) <= served <= at_most
        assert statuses == [200] * served + [429] * (2 * requests - served)


async def test_a_budget_that_is_nearly_used_up_is_told_in_the_answer_the_log_and_a_metric(
    providers: str, tmp_path: Path
) -> None:
    quota = f"{{keys: {{{KEY}: {{day: {{requests: 5}}}}}}}}"
    with running(tmp_path, config(providers, tmp_path, quota), pair=PAIR) as server:
        warned = []
        async with caller(server) as http:
            for _ in range(6):
                body = {"model": "mini", "messages": [{"role": "user", "content": "hello"}]}
                async with http.post("/v1/chat/completions", json=body) as reply:
                    told = reply.headers.get("X-Parley-Budget-Warning")
                    warned.append((reply.status, told is not None))
        assert warned == [(200, False)] * 3 + [(200, True)] * 2 + [(429, True)]
        assert '"of":"5"' in server.logged("a budget is used up")
        for state in ("soft", "hard"):
            reached = server.metric("parley_budgets_reached_total", window="day", state=state)
            assert reached == 1, state


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere connections are not spread evenly")
async def test_budgets_and_bills_outlive_the_kill_of_a_worker_and_of_all(
    providers: str, tmp_path: Path
) -> None:
    requests, before = 12, 5
    day = f"{requests * 4590 / 10**9:.9f}"  # what so many requests cost
    quota = f"{{tenants: {{acme: {{keys: [{KEY}], day: {{cost: {day}}}}}}}}}"
    text = config(providers, tmp_path, quota) + "server: {workers: 2, drain_delay_s: 0}\n"
    counted = "SELECT 1 FROM parley_counts WHERE name LIKE 'tenant/acme/cost/day/%' AND used = {}"
    with running(tmp_path, text, pair=PAIR) as server:
        async with fresh_connections(server) as http:
            assert [(await chat(http))[0] for _ in range(before)] == [200] * before
            await until_stored(tmp_path, counted.format(before * 4590))
            for worker in workers_of(server):
                os.kill(worker, signal.SIGKILL)
            server.logged("a worker ended and is replaced")
            await until_served(http)
            statuses = [(await chat(http))[0] for _ in range(2 * requests)]
            served = before + 1 + statuses.count(200)
            assert requests <= served <= requests + 1
            status, answer = await chat(http)
            assert (status, answer["error"]["quota_type"]) == (429, "cost_per_day")
        await until_stored(tmp_path, counted.format(served * 4590))
        doomed = workers_of(server)
        os.kill(server.process.pid, signal.SIGKILL)
        for worker in doomed:
            os.kill(worker, signal.SIGKILL)
        server.process.wait()

    told = json.loads(usage(tmp_path, "--day", "today", "--by", "tenant", "--format", "json"))
    assert [row["tenant"] for row in told["rows"]] == ["acme"]
    assert Decimal(told["total"]["cost"]) == served * Decimal("0.00000459")
    with running(tmp_path, text, pair=PAIR) as server:
        async with fresh_connections(server) as http:
            assert {(await chat(http))[0] for _ in range(4)} == {429}


def fresh_connections(server: Server) -> aiohttp.ClientSession:
    """A caller whose every request may reach another worker."""
    headers = {"Authorization": f"Bearer {mint(*PAIR, identity='agent', ttl_s=600)}"}
    connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(server.url, headers=headers, connector=connector)


async def until_served(http: aiohttp.ClientSession) -> None:
    """One request that is served, once somebody serves again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if (await chat(http))[0] == 200:
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


def workers_of(server: Server) -> list[int]:
    """Process ids of its workers."""
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
