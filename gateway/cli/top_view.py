"""What `gateway top` draws: one frame of text from what /ui/api/now tells. Pure."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PLAIN, TITLE, GOOD, BAD, QUIET = "", "1", "32", "31;1", "2"
"""Styles of a line, as numbers of ANSI's SGR."""

GAP: Final = 2
"""Blanks between two columns."""

NARROWEST: Final = 14
"""No column that is cut becomes narrower than this; then whole columns are left out."""

ROWS_MIN: Final = 1
"""Lines that each section has before one that has more to show gets more."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the frame, and how it looks."""

    text: str
    style: str = PLAIN


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `rank`: those with the highest are left out first where there is no
    room; `right`: a number. `whole`: it is never cut, since half of it says nothing. `least`: it is
    left out rather than cut to less."""

    title: str
    of: Callable[[Mapping[str, Any]], str]
    rank: int = 0
    right: bool = False
    whole: bool = False
    least: int = NARROWEST


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    nothing: str
    style: str = PLAIN


def frame(
    now: Mapping[str, Any], columns: int | None, rows: int | None = None, note: str = ""
) -> list[Line]:
    """The frame for a terminal of this size; None: as wide, or as long, as it takes. `note` stands
    in its first line."""
    if not now:
        return [Line(f"parley  {note}", QUIET)]
    head = _head(now, note)
    sections = _sections(now)
    shown = [len(section.rows) for section in sections]
    if rows is not None:
        # each section takes a blank line, a title and, where it has rows, names of columns
        fixed = len(head) + sum(3 if section.rows else 2 for section in sections)
        shown = _shares(shown, rows - fixed)
    lines = head
    for section, count in zip(sections, shown, strict=True):
        lines += _drawn(section, count, columns)
    if columns is not None:
        lines = [Line(cut(line.text, columns), line.style) for line in lines]
    return lines if rows is None else lines[:rows]


def painted(line: Line) -> str:
    """With the escape sequences of its style."""
    return f"\x1b[{line.style}m{line.text}\x1b[0m" if line.style else line.text


def _head(now: Mapping[str, Any], note: str) -> list[Line]:
    readiness = now.get("readiness") or {}
    ready = bool(readiness.get("ready"))
    state = "shutting down" if readiness.get("draining") else "ready" if ready else "not ready"
    workers = readiness.get("workers")
    if isinstance(workers, Mapping):
        state += f", {workers.get('ready')} of {workers.get('configured')} workers"
    at = time.strftime("%H:%M:%S", time.localtime(now.get("at") or 0))
    first = f"parley  {at}  {state}  served {_count(now.get('served'))}"
    opened = now.get("open") or {}
    calls = "  ".join(f"{route} {_count(number)}" for route, number in opened.items() if number)
    return [
        Line(f"{first}  {note}".rstrip(), GOOD if ready and not note else BAD),
        Line(f"open  {_count(sum(opened.values()))}  {calls}".rstrip()),
        _costs(now.get("costs") or {}),
    ]


def _costs(costs: Mapping[str, Any]) -> Line:
    if error := costs.get("error"):
        return Line(f"cost  {plain(str(error))}", BAD)
    currency = costs.get("currency", "")
    today, month = (costs.get(name) or {} for name in ("today", "month"))
    return Line(
        f"cost  today {_money(today)} {currency}".rstrip()
        + f"  this month {_money(month)} {currency}".rstrip()
        + f"  requests {_count(today.get('requests'))} and {_count(month.get('requests'))}"
    )


def _sections(now: Mapping[str, Any]) -> list[_Section]:
    at = float(now.get("at") or 0.0)

    def text(name: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda row: plain(str(row.get(name) or ""))

    def took(name: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda row: seconds(row.get(name))

    def since(name: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda row: duration(at - float(row.get(name) or at))

    return [
        _Section(
            "Resting",
            [
                Column("provider", text("provider")),
                Column("model", lambda row: _part(row.get("model"))),
                Column("why", lambda row: plain(row.get("why") or "told by another process")),
                Column("for", took("seconds"), right=True, whole=True),
            ],
            now.get("resting") or (),
            "nothing: every provider is asked",
            BAD,
        ),
        _Section(
            "Failed lately",
            [
                Column("ago", since("at"), right=True, whole=True),
                Column("route", text("route"), whole=True),
                Column("outcome", lambda row: _outcome(row.get("outcome")), least=18),
                Column("id", text("request_id"), rank=1, whole=True),
                Column("who failed", text("tries"), rank=2, least=26),
                Column("reason", text("message"), rank=3, least=26),
                Column("key", text("key"), rank=4),
                Column("room", text("room"), rank=5),
            ],
            now.get("failures") or (),
            "nothing",
        ),
        _Section(
            "Latency",
            [
                Column("route", text("route"), whole=True),
                Column("provider", text("provider")),
                Column("model", text("model"), rank=1),
                Column("what", text("what")),
                Column("p50", took("p50"), right=True, whole=True),
                Column("p95", took("p95"), right=True, whole=True),
                Column("p99", took("p99"), right=True, whole=True),
                Column("of", lambda row: _count(row.get("count")), 2, right=True, whole=True),
            ],
            now.get("latencies") or (),
            "nothing was measured yet",
        ),
        _Section(
            "Calling now",
            [
                Column("for", since("began"), right=True, whole=True),
                Column("route", text("route"), whole=True),
                Column("model", text("model")),
                Column("room", text("room"), rank=1),
                Column("id", text("request_id"), rank=2, whole=True),
                Column("key", text("key"), rank=3),
                Column("identity", text("identity"), rank=4),
                Column("address", text("address"), rank=5),
            ],
            now.get("calls") or (),
            "nobody",
        ),
    ]


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """How many rows each section shows of what it wants: what one leaves over the others take."""
    shown = [min(ROWS_MIN, one) for one in wanted]
    left = room - sum(shown)
    while left > 0 and shown != list(wanted):
        for i, one in enumerate(wanted):
            if left > 0 and shown[i] < one:
                shown[i] += 1
                left -= 1
    return shown


def _drawn(section: _Section, count: int, width: int | None) -> list[Line]:
    total = len(section.rows)
    more = f" ({count} of {total})" if count < total else f" ({total})" if total else ""
    title = [Line(""), Line(f"{section.title}{more}", TITLE)]
    if not total:
        return [Line(""), Line(f"{section.title}: {section.nothing}", QUIET)]
    shown = table(section.columns, section.rows[:count], width)
    return [*title, Line(shown[0], QUIET), *(Line(text, section.style) for text in shown[1:])]


def table(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], width: int | None
) -> list[str]:
    """Names of columns and rows, no wider than `width` cells of a terminal."""
    cells = [[column.of(row) for column in columns] for row in rows]
    kept = [i for i, _ in enumerate(columns) if any(line[i] for line in cells)]
    wide = {
        i: max(cells_of(columns[i].title), *(cells_of(line[i]) for line in cells)) for i in kept
    }
    if width is not None:
        room = width - GAP * (len(kept) - 1)
        while len(kept) > 1 and room < sum(_least(columns[i], wide[i]) for i in kept):
            kept.remove(max(kept, key=lambda i: (columns[i].rank, i)))
            room = width - GAP * (len(kept) - 1)
        while sum(wide[i] for i in kept) > room:
            cuttable = [i for i in kept if wide[i] > _least(columns[i], wide[i])]
            if not cuttable:
                break
            wide[max(cuttable, key=lambda i: wide[i])] -= 1
    lines = [[column.title for column in columns], *cells]
    return [
        (" " * GAP).join(_cell(line[i], wide[i], right=columns[i].right) for i in kept).rstrip()
        for line in lines
    ]


def _least(column: Column, wide: int) -> int:
    return wide if column.whole else min(wide, column.least)


def _cell(text: str, wide: int, *, right: bool) -> str:
    text = cut(text, wide)
    blanks = " " * (wide - cells_of(text))
    return blanks + text if right else text + blanks


def cut(text: str, wide: int) -> str:
    """`text` in so many cells, with a sign where something is missing."""
    if cells_of(text) <= wide:
        return text
    taken, used = [], 0
    for one in text:
        used += cells_of(one)
        if used >= wide:
            break
        taken.append(one)
    return "".join(taken) + "…" if wide > 0 else ""


def cells_of(text: str) -> int:
    """How many cells of a terminal a text takes: some characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def plain(text: str) -> str:
    """Names are the callers': none of them moves the cursor of a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _part(model: Any) -> str:
    return "all of it" if model == "*" else plain(str(model or ""))


def _outcome(outcome: Any) -> str:
    return "served by another" if outcome == "ok" else plain(str(outcome or ""))


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "0"


def _money(sums: Mapping[str, Any]) -> str:
    return f"{float(sums.get('cost') or 0.0):,.4f}"


def seconds(value: Any) -> str:
    """A short time: "0.84 s", "12 s"."""
    if not isinstance(value, int | float):
        return ""
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def duration(s: float) -> str:
    """A longer one, of a call: "12 s", "4 min", "2.5 h"."""
    s = max(0.0, s)
    if s < 90:
        return f"{s:.0f} s"
    return f"{s / 60:.0f} min" if s < 5400 else f"{s / 3600:.1f} h"
