"""`gateway usage`: what was used, by whom, as a table or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, Final

from gateway.telemetry.usage.store import DIMENSIONS, SUMS

_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")
_UNIT_S: Final = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration_s(text: str) -> float:
    """Seconds of "90m", "24h", "7d" or "2w". Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if match is None:
        raise ValueError(f"expected a time like 90m, 24h, 7d or 2w, not {text!r}")
    return float(match.group(1)) * _UNIT_S[match.group(2)]


def dimensions(text: str) -> list[str]:
    """The names in "key,model". Raises ValueError for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in DIMENSIONS:
            raise ValueError(f"expected some of {', '.join(DIMENSIONS)}, not {name!r}")
    return names


def header(by: Sequence[str]) -> list[str]:
    """Names of the columns."""
    return [*by, *SUMS]


def as_csv(by: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The rows as CSV, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header(by))
    writer.writerows([[_csv_cell(cell) for cell in row] for row in rows])
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe: callers choose names
    of models and rooms."""
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return "" if value is None else value


def as_table(by: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The rows as a table for people; columns in which there is nothing are left out."""
    names = header(by)
    shown = [i for i, _ in enumerate(names) if i < len(by) or any(row[i] for row in rows)]
    cells = [[names[i] for i in shown], *([_cell(row[i]) for i in shown] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(shown))]
    lines = [
        "  ".join(
            cell.ljust(width) if shown[column] < len(by) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value) or "-"
