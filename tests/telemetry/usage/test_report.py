"""What `gateway usage` prints."""

import pytest

from gateway.telemetry.usage.report import as_csv, as_table, dimensions, duration_s

ROW = ("k", "openai/gpt-4o", 1234, 2, 1300, 5_000_000, 0, 100, 0, None, 0, None, 0.4, 0, 0.25, 1.5)


def test_times_are_read() -> None:
    assert [duration_s(t) for t in ("90m", "24h", "7d", "2w")] == [5400, 86400, 604800, 1209600]
    for wrong in ("", "24", "h", "-1h", "1y"):
        with pytest.raises(ValueError, match="expected a time"):
            duration_s(wrong)


def test_unknown_groups_hear_which_there_are() -> None:
    assert dimensions("key, model") == ["key", "model"]
    with pytest.raises(ValueError, match="'colour'"):
        dimensions("key,colour")


def test_a_table_shows_what_there_is() -> None:
    lines = as_table(["key", "model"], [ROW]).splitlines()
    assert "reasoning" not in lines[0]
    assert "1,234" in lines[1]
    assert "5,000,000" in lines[1]
    assert as_table(["key"], []) == "key\n"


def test_csv_has_every_column_and_plain_numbers() -> None:
    head, line = as_csv(["key", "model"], [ROW]).splitlines()
    assert head.startswith("key,model,requests,failed,")
    assert line.startswith("k,openai/gpt-4o,1234,2,")


def test_a_name_that_a_spreadsheet_would_run_is_text() -> None:
    _, line = as_csv(["model"], [("=HYPERLINK(1)", 1, -2.5)]).splitlines()
    assert line == "'=HYPERLINK(1),1,-2.5"
