"""What the page shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from gateway.page.overview import COSTS, COSTS_SHOWN_MAX, MODELS, TOLD, Overview, WorkersOverview
from gateway.routing.breaker import Breaker
from gateway.telemetry.usage.store import StoreError
from gateway.telemetry.watch import Call, Wanted, Watch
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt


def overview(rows: dict[tuple[str, ...], list[tuple[Any, ...]]] | StoreError) -> Overview:
    async def summary(by: Sequence[str], since: float) -> list[tuple[Any, ...]]:
        if isinstance(rows, StoreError):
            raise rows
        return rows[tuple(by)]

    breaker = Breaker()
    return Overview(
        Watch(),
        lambda: breaker,
        summary,
        ("requests", "cost_nano"),
        lambda: {"ready": True},
        dict,
    )


def now(made: Overview, wanted: Wanted | None = None) -> dict[str, Any]:
    return asyncio.run(made.now(wanted or Wanted()))


def test_costs_are_those_of_today_and_of_this_month() -> None:
    made = overview(
        {
            (): [(7, 1_500_000_000)],
            ("key", "model"): [("k", "m", 7, 1_500_000_000)],
        }
    )
    costs = now(made)["costs"]
    assert (costs["today"]["requests"], costs["today"]["cost"]) == (7, 1.5)
    (row,) = costs["rows"]
    assert (row["key"], row["model"], row["requests"], row["cost"]) == ("k", "m", 7, 1.5)


def test_of_many_costs_the_dearest_are_shown() -> None:
    many = [(f"k{number:03}", "m", 1, number) for number in range(COSTS_SHOWN_MAX + 5)]
    made = overview({(): [(1, 1)], ("key", "model"): many})

    rows = now(made)["costs"]["rows"]

    assert [row["key"] for row in rows] == [one[0] for one in reversed(many[5:])]


def test_days_begin_where_those_of_usage_do() -> None:
    since: list[float] = []

    async def summary(by: Sequence[str], begin: float) -> list[tuple[Any, ...]]:
        since.append(begin)
        return []

    made = overview({})
    made.summary, made.time_zone, made.currency = summary, "Asia/Kolkata", "INR"
    assert now(made)["costs"]["currency"] == "INR"
    begins = [datetime.fromtimestamp(one, ZoneInfo("Asia/Kolkata")) for one in since]
    assert {(one.hour, one.minute) for one in begins} == {(0, 0)}


def test_a_store_that_cannot_be_read_takes_nothing_else_away() -> None:
    shown = now(overview(StoreError("disk full")))
    assert "disk full" in shown["costs"]["error"]
    assert shown["readiness"] == {"ready": True}


def test_what_rests_says_why_and_for_how_long() -> None:
    made = overview({(): [], ("key", "model"): []})
    failure = Failure(Kind.UPSTREAM_AUTH, "wrong key")
    made.breaker().failed(Attempt("openai", "gpt"), failure, time.monotonic())
    (rest,) = now(made)["resting"]
    assert (rest["provider"], rest["model"], rest["why"]) == ("openai", "*", "upstream_auth")
    assert rest["seconds"] > 0
    assert now(made, Wanted(provider="groq"))["resting"] == []


def test_all_workers_are_shown_as_one() -> None:
    one, other = (overview({(): [(3, 0)], ("key", "model"): []}) for _ in range(2))
    failure = Failure(Kind.UPSTREAM_AUTH, "wrong key")
    one.breaker().failed(Attempt("openai", "gpt"), failure, time.monotonic())
    other.breaker().hear("openai", "*", 600.0, time.monotonic())
    for worker in (one, other):
        worker.watch.began(1, Call("stt", "k", "", "req", "", "room", "", "", 100.0))
    asked: list[str] = []

    async def every(path: str) -> list[bytes]:
        asked.append(path)
        return [orjson.dumps(worker.told(Wanted())) for worker in (one, other)]

    async def some(path: str) -> list[bytes]:
        told = await (one.costs() if path == COSTS else one.models())
        return [orjson.dumps(told)]

    shown = asyncio.run(WorkersOverview(every, some, 3).now(Wanted(room="a b&c")))
    assert asked == [f"{TOLD}?key=&room=a+b%26c&provider="]
    assert shown["readiness"]["workers"] == {"configured": 3, "ready": 2}
    assert shown["open"] == {"stt": 2}
    assert [(rest["provider"], rest["why"]) for rest in shown["resting"]] == [
        ("openai", "upstream_auth")
    ]
    assert shown["costs"]["today"]["requests"] == 3


def test_without_a_worker_there_is_nothing_and_no_error() -> None:
    async def nobody(path: str) -> list[bytes]:
        assert path.partition("?")[0] in (TOLD, COSTS, MODELS)
        return []

    made = WorkersOverview(nobody, nobody, 2)
    shown = asyncio.run(made.now(Wanted()))
    assert (shown["readiness"]["ready"], shown["calls"], shown["costs"]) == (False, [], {})
    assert asyncio.run(made.models()) == {}
