"""What became of the calls, and what the server's processes hold. Linux alone: it reads /proc."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.benchmarks.tools import rss_mb

STORIES_MAX = 3
"""Of so many calls that lost words it is told how."""


@dataclass
class Kind:
    """The calls of one kind."""

    calls: int = 0
    served: int = 0
    failed: int = 0
    """Although something could have served them."""
    broken: int = 0
    """Their only provider broke off an answer that had begun: nothing can be done about that."""
    vanished: int = 0
    """Their client went away without a goodbye."""
    words: int = 0
    """Words of the calls that were served; of bargein and eot questions."""
    lost: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    stories: list[list[str]] = field(default_factory=list)
    """How calls lost words: lines of text."""

    def lose(self, count: int, what: str) -> None:
        self.lost += count
        self.losses[what[:400]] += count

    def tell(self, story: list[str]) -> None:
        if len(self.stories) < STORIES_MAX:
            self.stories.append(story)

    def fail(self, reason: str) -> None:
        self.failed += 1
        self.reasons[reason[:200]] += 1


POOL_THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
"""Of one process, at most: asyncio's default executor."""


@dataclass(frozen=True)
class Held:
    """What all processes of a server hold at a time."""

    rss_mb: float
    descriptors: int
    sockets: int
    threads: int
    children: int
    tasks: int
    """Of their event loops, as /metrics says."""
    sessions: int

    def leaked(self, before: Held) -> dict[str, int]:
        """What is held now and was not before, but for memory, and for threads of pools, which come
        when they are needed first and stay."""
        names = ("descriptors", "sockets", "threads", "children", "tasks", "sessions")
        more = {name: getattr(self, name) - getattr(before, name) for name in names}
        more["threads"] -= POOL_THREADS * (self.children + 1)
        return {name: count for name, count in more.items() if count > 0}


def family(pid: int) -> list[int]:
    """A process and all that come of it."""
    found = [pid]
    for one in found:
        try:
            tasks = list(Path(f"/proc/{one}/task").iterdir())
            for task in tasks:
                found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def memory_mb(pid: int) -> float:
    """Resident memory of a process and all that come of it."""
    total = 0.0
    for one in family(pid):
        try:
            total += rss_mb(one)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def held(pid: int, tasks: float, sessions: float) -> Held:
    """What a process and all that come of it hold."""
    pids = family(pid)
    links = [link for one in pids for link in _links(one)]
    threads = sum(len(list(Path(f"/proc/{one}/task").iterdir())) for one in pids)
    sockets = sum(link.startswith("socket:") for link in links)
    return Held(
        memory_mb(pid), len(links), sockets, threads, len(pids) - 1, int(tasks), int(sessions)
    )


def _links(pid: int) -> list[str]:
    links = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(entry.path))
        except FileNotFoundError:
            continue
    return links


def slope(times_s: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Growth an hour by least squares, and its standard error. nan where nothing can be said."""
    count = len(times_s)
    if count < 3:
        return float("nan"), float("nan")
    hours = [one / 3600 for one in times_s]
    mean_x, mean_y = sum(hours) / count, sum(values) / count
    spread = sum((x - mean_x) ** 2 for x in hours)
    grown = sum((x - mean_x) * (y - mean_y) for x, y in zip(hours, values, strict=True)) / spread
    rest = sum((y - mean_y - grown * (x - mean_x)) ** 2 for x, y in zip(hours, values, strict=True))
    return grown, (rest / (count - 2) / spread) ** 0.5
