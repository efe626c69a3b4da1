"""What `gateway usage` prints."""

import asyncio
import csv
import io
import json
import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.settings.usage import UsageConfig
from gateway.telemetry.usage.record import Record
from gateway.telemetry.usage.report import (
    COLUMNS,
    PERIODS,
    Row,
    Span,
    as_csv,
    as_json,
    as_table,
    conditions,
    day_span,
    dimensions,
    duration_s,
    in_store,
    merged,
    moment,
    money,
    month_span,
    total,
)
from gateway.telemetry.usage.store import DIMENSIONS, SUMS, open_store

BERLIN, HERE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


def sums(**given: Any) -> dict[str, Any]:
    return dict.fromkeys(SUMS, 0) | given


ROW = Row(
    ("k", "openai/gpt-4o"),
    sums(
        requests=1234, failed=2, prompt=5_000_000, first_tokens=4, first_tokens_s=1.0, cost_nano=7
    ),
)


def test_times_are_read() -> None:
    assert [duration_s(t) for t in ("90m", "24h", "7d", "2w")] == [5400, 86400, 604800, 1209600]
    for wrong in ("", "24", "h", "-1h", "1y"):
        with pytest.raises(ValueError, match="expected a time"):
            duration_s(wrong)


def test_a_moment_is_a_date_a_time_or_so_long_ago() -> None:
    assert moment("2h", HERE, NOW) == NOW - 7200
    assert moment("2026-11-30", BERLIN, NOW) == NOW - 13 * 3600
    assert moment("2026-11-30T13:00", BERLIN, NOW) == NOW
    assert moment("2026-11-30T12:00+00:00", BERLIN, NOW) == NOW
    for wrong in ("yesterday", "30.11.2026", "2026-13-01", "1y"):
        with pytest.raises(ValueError, match="expected a time"):
            moment(wrong, HERE, NOW)


def test_days_and_months_begin_where_the_operator_lives() -> None:
    assert day_span("today", BERLIN, NOW) == Span(NOW - 13 * 3600, NOW + 11 * 3600)
    assert day_span("2026-11-29", HERE, NOW) == day_span("yesterday", HERE, NOW)
    assert (
        day_span("2026-10-25", BERLIN, NOW).until - day_span("2026-10-25", BERLIN, NOW).since
        == 25 * 3600
    )  # the end of summer time
    assert month_span("2026-11", HERE, NOW) == month_span("this", HERE, NOW)
    assert month_span("last", HERE, NOW).until == month_span("this", HERE, NOW).since
    assert month_span("2026-12", HERE, NOW).until == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    for wrong in ("", "2026", "2026-13", "2026-11-30"):
        with pytest.raises(ValueError, match="expected a month"):
            month_span(wrong, HERE, NOW)
    with pytest.raises(ValueError, match="expected a day"):
        day_span("2026-11", HERE, NOW)


def test_unknown_groups_and_conditions_hear_which_there_are() -> None:
    assert dimensions("day, key,model,day") == ["day", "key", "model"]
    assert in_store(["day", "key"]) == (["key"], True)
    with pytest.raises(ValueError, match="'colour'"):
        dimensions("key,colour")
    assert conditions(["key=a", "room=x=y"]) == {"key": "a", "room": "x=y"}
    for wrong in ("key", "colour=red"):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            conditions([wrong])


def test_quarters_of_hours_become_days_of_any_time_zone() -> None:
    quarter = int(datetime(2026, 11, 30, 22, 45, tzinfo=UTC).timestamp()) // 900
    rows = [
        ("k", quarter + i, *sums(requests=1, cost_nano=Decimal(10) ** i).values()) for i in range(3)
    ]
    by_day = merged(["day", "key"], rows, BERLIN)
    assert [(row.names, row.sums["cost_nano"]) for row in by_day] == [
        (("2026-11-30", "k"), 1),
        (("2026-12-01", "k"), 110),
    ]
    (month,) = merged(["month"], [row[1:] for row in rows], HERE)
    assert month.names == ("2026-11",)
    assert month.sums["requests"] == 3
    assert type(month.sums["cost_nano"]) is int


def test_the_dearest_come_first_and_nothing_is_a_row_of_zeros() -> None:
    rows = [("a", *sums(cost_nano=1).values()), ("b", *sums(cost_nano=5).values())]
    assert [row.names for row in merged(["key"], rows, HERE)] == [("b",), ("a",)]
    (nothing,) = merged([], [(None,) * len(SUMS)], HERE)
    assert set(nothing.sums.values()) == {0}


def test_money_is_written_to_its_last_digit() -> None:
    written = [money(nano) for nano in (0, 1, 54_400_000, 2_000_000_000, -1_500_000_000)]
    assert written == ["0", "0.000000001", "0.0544", "2", "-1.5"]


def test_a_table_shows_what_there_is_and_the_total() -> None:
    other = Row(("k", "\x1b[2Jx\n"), sums(requests=1, cost_nano=3))
    lines = as_table(["key", "model"], [ROW, other], "EUR").splitlines()
    assert "reasoning" not in lines[0]
    assert lines[0].endswith("cost EUR")
    assert "1,234" in lines[1]
    assert "5,000,000" in lines[1]
    assert "\x1b" not in lines[2]
    assert lines[-1].split() == ["total", "1,235", "2", "5,000,000", "0.25", "0.00000001"]
    assert len(lines) == 4
    assert as_table(["key"], [], "EUR") == "nothing was used in that time\n"


def test_csv_has_every_column_and_adds_up() -> None:
    rows = [Row((f"k{i}",), sums(cost_nano=333_333_333, audio_ms=333)) for i in range(3)]
    read = list(csv.DictReader(io.StringIO(as_csv(["key"], rows, "USD"))))
    assert list(read[0]) == ["key", *COLUMNS[:-1], "currency", "cost"]
    assert money(total(rows).sums["cost_nano"]) == str(sum(Decimal(one["cost"]) for one in read))
    assert sum(Decimal(one["audio_s"]) for one in read) == Decimal("0.999")


def test_a_name_that_a_spreadsheet_would_run_is_text() -> None:
    _, line = as_csv(["model"], [Row(("=HYPERLINK(1)",), sums())], "USD").splitlines()
    assert line.startswith("'=HYPERLINK(1),0,")


def test_json_has_the_range_the_currency_and_the_total() -> None:
    rows = [ROW, Row(("k", "other"), sums(requests=1, cost_nano=2))]
    span = day_span("today", BERLIN, NOW)
    told = json.loads(as_json(["key", "model"], rows, span, "Europe/Berlin", "EUR"))
    assert told["since"] == "2026-11-30T00:00:00+01:00"
    assert told["until"] == "2026-12-01T00:00:00+01:00"
    assert (told["currency"], told["by"]) == ("EUR", ["key", "model"])
    assert told["rows"][0]["model"] == "openai/gpt-4o"
    assert told["rows"][0]["cost"] == "0.000000007"
    assert told["rows"][0]["first_token_s"] == 0.25
    assert told["rows"][1]["first_token_s"] is None
    assert told["total"]["cost"] == "0.000000009"
    assert told["total"]["requests"] == 1235


NAMES = st.sampled_from(["a", "b", "=c", "", 'd,"e"'])
PART = st.fixed_dictionaries(
    {
        "key": NAMES,
        "model": NAMES,
        "room_id": NAMES,
        "identity": NAMES,
        "tenant": NAMES,
        "part": st.integers(0, 2),
        "at": st.floats(NOW - 40 * 86400, NOW - 1),
        "prompt_tokens": st.integers(0, 10**12),
        "completion_tokens": st.integers(0, 10**12),
        "characters": st.integers(0, 10**9),
        "audio_ms": st.integers(0, 10**10),
        "cost_nano": st.integers(0, 10**15),
        "standby_s": st.integers(0, 10**5).map(lambda hundredths: hundredths / 100),
        "outcome": st.sampled_from(["ok", "running", "upstream_timeout"]),
    }
)
BY = st.lists(st.sampled_from([*DIMENSIONS, *PERIODS]), max_size=3, unique=True)


@given(st.lists(PART, max_size=25), BY)
@settings(max_examples=40, deadline=None)
def test_whatever_is_used_and_asked_records_rows_csv_and_json_are_one_sum(
    parts: list[dict[str, Any]], by: list[str]
) -> None:
    records = [
        Record(
            route="chat",
            request_id="r",
            duration_s=1.0,
            cost=part["cost_nano"] / 10**9,
            audio_s=part["audio_ms"] / 1000,
            **part,
        )
        for part in parts
    ]
    plain, quarters = in_store(by)

    async def summed() -> list[tuple[Any, ...]]:
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(UsageConfig(url=SecretStr(f"sqlite:{folder}/u.db")))
            try:
                await store.write(records)
                return await store.summary(plain, NOW - 41 * 86400, NOW, quarters=quarters)
            finally:
                await store.close()

    rows = merged(by, asyncio.run(summed()), BERLIN)
    told = json.loads(as_json(by, rows, Span(0.0, NOW), "Europe/Berlin", "EUR"))
    sheet = list(csv.DictReader(io.StringIO(as_csv(by, rows, "EUR"))))
    exact = {
        "cost": Decimal(sum(one.cost_nano for one in records)) / 10**9,
        "audio_s": Decimal(sum(one.audio_ms for one in records)) / 1000,
        "standby_s": sum((Decimal(str(one.standby_s)) for one in records), Decimal()),
        "prompt": Decimal(sum(one.prompt_tokens for one in records)),
        "characters": Decimal(sum(one.characters for one in records)),
        "requests": Decimal(sum(one.part == 0 for one in records)),
        "failed": Decimal(sum(one.outcome == "upstream_timeout" for one in records)),
    }
    for column, whole in exact.items():
        assert Decimal(str(told["total"][column])) == whole, column
        assert sum((Decimal(str(row[column])) for row in told["rows"]), Decimal()) == whole, column
        assert sum((Decimal(row[column]) for row in sheet), Decimal()) == whole, column
