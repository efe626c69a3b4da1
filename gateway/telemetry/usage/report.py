"""`gateway usage`: what was used, by whom, as a table, CSV or JSON. Sums are of whole numbers and
shown to the last digit: what is printed adds up."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from gateway.telemetry.outcome import NANO
from gateway.telemetry.usage.store import DIMENSIONS, QUARTER_S, SUMS

PERIODS: Final = {"month": "%Y-%m", "day": "%Y-%m-%d", "hour": "%Y-%m-%d %H:00"}
"""What usage can be grouped by in time, and how it is written."""

COLUMNS: Final = (
    "requests",
    "failed",
    "attempts",
    "prompt",
    "cached",
    "completion",
    "reasoning",
    "audio_s",
    "characters",
    "first_token_s",
    "first_word_s",
    "final_s",
    "standby_s",
    "cost",
)
"""What is shown of each group."""

_MEANS: Final = {
    "first_token_s": ("first_tokens", "first_tokens_s"),
    "first_word_s": ("first_words", "first_words_s"),
    "final_s": ("finals", "finals_s"),
}
"""Columns that are a mean: of how many, and their sum."""

_SECONDS: Final = ("first_tokens_s", "first_words_s", "finals_s", "standby_s")
"""Sums that are no whole numbers."""

_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")
_UNIT_S: Final = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` on and before `until`, Unix time."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Row:
    """One group: the values of what it was grouped by, and its sums by the names in SUMS."""

    names: tuple[str, ...]
    sums: Mapping[str, Any]

    def shown(self, column: str) -> Any:
        """What stands in one of COLUMNS: numbers as they are, money as a decimal number in text."""
        sums = self.sums
        if column == "cost":
            return money(sums["cost_nano"])
        if column == "audio_s":
            return sums["audio_ms"] / 1000
        if column in _MEANS:
            count, total_s = (sums[name] for name in _MEANS[column])
            return round(total_s / count, 4) if count else None
        if column == "standby_s":
            return round(sums[column], 2)  # as each record has it: what floats add is no time
        return sums[column]


def duration_s(text: str) -> float:
    """Seconds of "90m", "24h", "7d" or "2w". Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if match is None:
        raise ValueError(f"expected a time like 90m, 24h, 7d or 2w, not {text!r}")
    return float(match.group(1)) * _UNIT_S[match.group(2)]


def moment(text: str, zone: ZoneInfo, now: float) -> float:
    """Unix time of "24h" (ago), "2026-11-30" (its begin) or "2026-11-30T18:00", in `zone`. Raises
    ValueError."""
    if re.fullmatch(r"[\d.]+[mhdw]", text):
        return now - duration_s(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"expected a time like 24h or 7d (ago), 2026-11-30 or 2026-11-30T18:00, not {text!r}"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()


def day_span(text: str, zone: ZoneInfo, now: float) -> Span:
    """The day "2026-11-30", "today" or "yesterday". Raises ValueError."""
    today = datetime.fromtimestamp(now, zone).date()
    named = {"today": today, "yesterday": today - timedelta(days=1)}
    try:
        begin = named.get(text) or date.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"expected a day like 2026-11-30, today or yesterday, not {text!r}"
        ) from None
    return Span(_begin(begin, zone), _begin(begin + timedelta(days=1), zone))


def month_span(text: str, zone: ZoneInfo, now: float) -> Span:
    """The month "2026-11", "this" or "last". Raises ValueError."""
    this = datetime.fromtimestamp(now, zone).date().replace(day=1)
    named = {"this": this, "last": (this - timedelta(days=1)).replace(day=1)}
    try:
        begin = named.get(text) or date.fromisoformat(f"{text}-01")
    except ValueError:
        raise ValueError(f"expected a month like 2026-11, this or last, not {text!r}") from None
    return Span(_begin(begin, zone), _begin((begin + timedelta(days=32)).replace(day=1), zone))


def _begin(day: date, zone: ZoneInfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def dimensions(text: str) -> list[str]:
    """The names in "day,key,model". Raises ValueError for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in DIMENSIONS and name not in PERIODS:
            known = ", ".join((*PERIODS, *DIMENSIONS))
            raise ValueError(f"expected some of {known}, not {name!r}")
    return list(dict.fromkeys(names))


def conditions(texts: Iterable[str]) -> dict[str, str]:
    """What "key=APIx" and the like say. Raises ValueError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in DIMENSIONS:
            raise ValueError(
                f"expected NAME=VALUE with one of {', '.join(DIMENSIONS)}, not {text!r}"
            )
        found[name] = value
    return found


def in_store(by: Sequence[str]) -> tuple[list[str], bool]:
    """What to ask a store for: the dimensions that it knows, and whether quarters of hours are
    needed besides."""
    return [name for name in by if name in DIMENSIONS], any(name in PERIODS for name in by)


def merged(by: Sequence[str], rows: Iterable[Sequence[Any]], zone: ZoneInfo) -> list[Row]:
    """A store's rows by what is asked: periods in their order, in each the dearest first."""
    plain, quarters = in_store(by)
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        values = dict(zip(plain, row, strict=False))
        sums = dict(zip(SUMS, row[len(plain) + quarters :], strict=True))
        if quarters:
            at = datetime.fromtimestamp(row[len(plain)] * QUARTER_S, zone)
            values |= {name: at.strftime(written) for name, written in PERIODS.items()}
        group = groups.setdefault(tuple(values[name] for name in by), dict.fromkeys(SUMS, 0))
        for name, value in sums.items():
            group[name] += _number(name, value)
    found = [Row(names, sums) for names, sums in groups.items()]
    periods = [i for i, name in enumerate(by) if name in PERIODS]
    found.sort(
        key=lambda row: (
            [row.names[i] for i in periods],
            -row.sums["cost_nano"],
            -row.sums["requests"],
            row.names,
        )
    )
    return found


def total(rows: Iterable[Row]) -> Row:
    """All of them together."""
    sums: dict[str, Any] = dict.fromkeys(SUMS, 0)
    for row in rows:
        for name in SUMS:
            sums[name] += row.sums[name]
    return Row((), sums)


def _number(name: str, value: Any) -> Any:
    """PostgreSQL's sums are decimals, and that of nothing is null."""
    if name in _SECONDS:
        return float(value or 0.0)
    return int(value or 0)


def money(nano: int) -> str:
    """Billionths as a decimal number, exactly: "0.0544"."""
    whole, rest = divmod(abs(nano), NANO)
    text = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text


def header(by: Sequence[str]) -> list[str]:
    """Names of the columns."""
    return [*by, *COLUMNS]


def as_csv(by: Sequence[str], rows: Sequence[Row], currency: str) -> str:
    """The rows as CSV, with a header. Without a total: whoever adds a column up gets it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header(by)[:-1], "currency", COLUMNS[-1]])
    for row in rows:
        cells = [*row.names, *(row.shown(column) for column in COLUMNS)]
        cells.insert(-1, currency)
        writer.writerow([_csv_cell(cell) for cell in cells])
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe: callers choose names
    of models and rooms."""
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return "" if value is None else value


def as_json(by: Sequence[str], rows: Sequence[Row], span: Span, zone: str, currency: str) -> str:
    """All of it, with the range and the total. `cost` is a decimal number in a string: a number of
    JSON would be rounded by who reads it."""
    told = {
        "since": _iso(span.since, zone),
        "until": _iso(span.until, zone),
        "time_zone": zone,
        "currency": currency,
        "by": list(by),
        "rows": [dict(zip(by, row.names, strict=True)) | _values(row) for row in rows],
        "total": _values(total(rows)),
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _values(row: Row) -> dict[str, Any]:
    return {column: row.shown(column) for column in COLUMNS}


def _iso(at: float, zone: str) -> str:
    return datetime.fromtimestamp(at, ZoneInfo(zone)).isoformat(timespec="seconds")


def as_table(by: Sequence[str], rows: Sequence[Row], currency: str) -> str:
    """The rows as a table for people, with a total; columns in which there is nothing are left
    out."""
    if not rows:
        return "nothing was used in that time\n"
    shown = [
        column
        for column in COLUMNS
        if any(row.shown(column) not in (0, 0.0, None, "0") for row in rows)
    ]
    named = [f"cost {currency}" if column == "cost" else column for column in shown]
    lines = [[*by, *named]]
    lines += [[*(name or "-" for name in row.names), *_cells(row, shown)] for row in rows]
    if len(rows) > 1 and by:
        lines.append(["total", *[""] * (len(by) - 1), *_cells(total(rows), shown)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    written = [
        "  ".join(
            cell.ljust(width) if i < len(by) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join(_printable(line) for line in written) + "\n"


def _printable(line: str) -> str:
    """Names are the callers': none of them moves the cursor of a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line)


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    return [_cell(row.shown(column)) for column in columns]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)
