"""What happens now, for the operator's page: who is calling, what failed lately, how long things
took. In memory, bounded, and only where the page is on. What several processes of one server tell
is put together by `together`."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.telemetry.outcome import BargeinCounts, Ended, SttCounts, TtsCounts

CALLS_SHOWN_MAX: Final = 500
"""Open requests in one answer; `limits.sessions` bounds how many there are."""

FAILURES_MAX: Final = 200
"""Failed requests that are remembered, the newest."""

SAMPLES_MAX: Final = 256
"""Durations that are remembered of one kind, the newest."""

KINDS_MAX: Final = 128
"""Kinds of durations: a route, a provider, a model (a label, bounded) and what was measured."""

PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Call:
    """A request or session that is open. `began`: Unix time."""

    route: str
    key: str
    identity: str
    request_id: str
    address: str
    room: str
    job: str
    model: str
    began: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that failed, or was served only after others had failed. `at`: Unix time."""

    at: float
    route: str
    key: str
    request_id: str
    address: str
    room: str
    job: str
    model: str
    provider: str
    outcome: str
    message: str
    tries: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the page shows: empty shows all."""

    key: str = ""
    room: str = ""
    provider: str = ""


class Watch:
    """One for each process."""

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}
        self._failures: deque[Failed] = deque(maxlen=FAILURES_MAX)
        self._took: OrderedDict[tuple[str, str, str, str], deque[float]] = OrderedDict()
        self.served = 0

    def began(self, number: int, call: Call) -> None:
        """A request was admitted; `number` is its own among those that are open."""
        self._calls[number] = call

    def ended(self, number: int, ended: Ended) -> None:
        """It is over."""
        call = self._calls.pop(number, None)
        self.served += 1
        outcome = ended.outcome
        self._measure(ended)
        failed = [one for one in outcome.tries if one.failure is not None]
        if outcome.failure is None and not failed:
            return
        self._failures.append(
            Failed(
                ended.at,
                ended.route,
                ended.key,
                ended.request_id,
                call.address if call is not None else "",
                ended.ids.room_id,
                ended.ids.job_id,
                outcome.model or "",
                outcome.provider or "",
                outcome.word,
                outcome.failure.message if outcome.failure is not None else "",
                ", ".join(
                    f"{one.provider} {one.model}: {one.failure.kind.value}"
                    for one in failed[-8:]
                    if one.failure is not None
                ),
                round(ended.duration_s, 3),
            )
        )

    def _measure(self, ended: Ended) -> None:
        outcome = ended.outcome
        for latency in outcome.latencies:
            what = latency.kind.replace("_", " ")
            self._add((ended.route, latency.provider, latency.model, what), latency.seconds)
        if outcome.first_s is not None:
            match outcome.counts:
                case TtsCounts():
                    what = "first audio"
                case SttCounts() | BargeinCounts():
                    return
                case _:
                    what = "answer" if ended.route == "embeddings" else "first token"
            self._add((ended.route, outcome.provider or "", outcome.label, what), outcome.first_s)

    def _add(self, kind: tuple[str, str, str, str], seconds: float) -> None:
        samples = self._took.get(kind)
        if samples is None:
            if len(self._took) >= KINDS_MAX:
                self._took.popitem(last=False)
            samples = self._took[kind] = deque(maxlen=SAMPLES_MAX)
        samples.append(seconds)

    def told(self, wanted: Wanted) -> dict[str, Any]:
        """What this process knows: how many calls are open, by route, those that are wanted, the
        oldest first, what failed, the newest first, and all that was measured."""
        by_route: dict[str, int] = {}
        for call in self._calls.values():
            by_route[call.route] = by_route.get(call.route, 0) + 1
        shown = [
            asdict(call)
            for call in self._calls.values()
            if wanted.key in call.key and wanted.room in call.room
        ]
        failed = [
            asdict(one)
            for one in reversed(self._failures)
            if wanted.key in one.key
            and wanted.room in one.room
            and (wanted.provider in one.provider or wanted.provider in one.tries)
        ]
        took = [
            [*kind, list(samples)]
            for kind, samples in self._took.items()
            if wanted.provider in kind[1]
        ]
        return {
            "open": by_route,
            "calls": shown[:CALLS_SHOWN_MAX],
            "failures": failed,
            "took": took,
            "served": self.served,
        }


def together(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several processes have told, as one: percentiles are those of all samples."""
    by_route: dict[str, int] = {}
    samples: dict[tuple[str, ...], list[float]] = {}
    for one in told:
        for route, count in one["open"].items():
            by_route[route] = by_route.get(route, 0) + count
        for *kind, seconds in one["took"]:
            samples.setdefault(tuple(kind), []).extend(seconds)
    calls = sorted((call for one in told for call in one["calls"]), key=lambda call: call["began"])
    failures = sorted((f for one in told for f in one["failures"]), key=lambda f: -f["at"])
    return {
        "open": by_route,
        "calls": calls[:CALLS_SHOWN_MAX],
        "failures": failures[:FAILURES_MAX],
        "latencies": [
            {
                "route": route,
                "provider": provider,
                "model": model,
                "what": what,
                "count": len(seconds),
                **percentiles(seconds),
            }
            for (route, provider, model, what), seconds in sorted(samples.items())
        ],
        "served": sum(one["served"] for one in told),
    }


def percentiles(samples: Sequence[float] | deque[float]) -> dict[str, float]:
    """PERCENTILES of at least one sample, each the smallest that so many are not above."""
    ordered = sorted(samples)
    return {
        f"p{percent}": ordered[math.ceil(len(ordered) * percent / 100) - 1]
        for percent in PERCENTILES
    }
