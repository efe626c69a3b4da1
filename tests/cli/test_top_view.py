"""The frames of `gateway top`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.top_view import BAD, Line, cells_of, cut, duration, frame, painted, seconds

NOW: dict[str, Any] = {
    "at": 1000.0,
    "readiness": {"ready": True, "workers": {"configured": 2, "ready": 2}},
    "served": 1234,
    "open": {"chat": 1, "stt": 2, "tts": 0},
    "calls": [
        {
            "route": "stt",
            "key": "APIab12cd34ef56",
            "identity": "agent-7",
            "request_id": "req_5f3a9c01d2e4_17",
            "address": "10.1.2.3",
            "room": "room-with-a-long-name",
            "job": "AJ_1",
            "model": "deepgram/nova-3",
            "began": 700.0,
        }
    ],
    "resting": [{"provider": "openai", "model": "*", "seconds": 4.2, "why": "upstream_auth"}],
    "latencies": [
        {
            "route": "chat",
            "provider": "openai",
            "model": "gpt-4.1-mini",
            "what": "first token",
            "count": 12,
            "p50": 0.032,
            "p95": 0.61,
            "p99": 12.4,
        }
    ],
    "failures": [
        {
            "at": 940.0,
            "route": "chat",
            "key": "APIab12cd34ef56",
            "request_id": "req_5f3a9c01d2e4_9",
            "room": "r",
            "model": "fast",
            "provider": "azure",
            "outcome": "ok",
            "message": "",
            "tries": "openai gpt-4.1-mini: upstream_auth",
        }
    ],
    "costs": {"today": {"cost": 1.5, "requests": 7}, "month": {"cost": 22.75, "requests": 90}},
}


def text(lines: list[Line]) -> str:
    return "\n".join(line.text for line in lines)


def test_a_frame_says_who_calls_what_rests_and_why_what_failed_how_long_it_takes_and_costs() -> (
    None
):
    shown = text(frame(NOW, None))
    for part in (
        "ready, 2 of 2 workers",
        "served 1,234",
        "open  3  chat 1  stt 2",
        "today 1.5000",
        "this month 22.7500",
        "openai",
        "all of it",
        "upstream_auth",
        "served by another",
        "req_5f3a9c01d2e4_9",
        "32 ms",
        "0.61 s",
        "12 s",
        "deepgram/nova-3",
        "room-with-a-long-name",
        "5 min",
    ):
        assert part in shown, part


def test_in_80_columns_what_says_most_is_kept_and_no_id_is_cut() -> None:
    lines = frame(NOW, 80, 24)
    assert len(lines) <= 24
    assert all(cells_of(line.text) <= 80 for line in lines)
    shown = text(lines)
    assert "req_5f3a9c01d2e4_9" in shown
    assert "req_5f3a9c01d2e4_17" in shown
    assert "upstream_auth" in shown
    assert "10.1.2.3" not in shown


def test_a_section_with_little_to_show_leaves_its_room_to_the_others() -> None:
    calls = [NOW["calls"][0] | {"request_id": f"req_{i}"} for i in range(40)]
    lines = frame(NOW | {"calls": calls}, 80, 40)
    assert len(lines) == 40
    assert "Calling now (" in text(lines)
    assert " of 40)" in text(lines)
    assert "req_20" in text(lines)


def test_nothing_is_told_as_nothing() -> None:
    shown = text(frame({"at": 1.0, "readiness": {"draining": True}}, 80, 24))
    assert "shutting down" in shown
    assert "Resting: nothing: every provider is asked" in shown
    assert "Calling now: nobody" in shown
    assert text(frame({}, 80, 24, "asking ...")) == "parley  asking ..."


def test_what_cannot_be_known_is_said_in_the_first_lines() -> None:
    lines = frame(NOW | {"costs": {"error": "the usage store cannot be read"}}, 80, 24, "no answer")
    assert lines[0].text.endswith("no answer")
    assert lines[0].style == BAD
    assert "the usage store cannot be read" in lines[2].text


def test_a_callers_name_moves_no_cursor() -> None:
    call = NOW["calls"][0] | {"room": "\x1b[2Jgone\r\n", "model": "\u202edaer"}
    shown = text(frame(NOW | {"calls": [call]}, None))
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "\u202e" not in shown


def test_only_what_has_a_style_is_painted() -> None:
    assert painted(Line("x")) == "x"
    assert painted(Line("x", BAD)) == "\x1b[31;1mx\x1b[0m"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0004, "0 ms"), (0.25, "0.25 s"), (75, "75 s"), (None, ""), ("x", "")]
)
def test_times_are_short(value: object, shown: str) -> None:
    assert seconds(value) == shown


def test_longer_times_have_larger_units() -> None:
    assert [duration(s) for s in (-1, 12, 600, 9000)] == ["0 s", "12 s", "10 min", "2.5 h"]


def test_wide_characters_take_two_cells() -> None:
    assert cells_of("日本") == 4
    assert cut("日本語", 5) == "日本…"
    assert cut("日本語", 4) == "日…"
    assert cut("abc", 0) == ""


@given(st.integers(1, 200), st.integers(1, 60), st.text(max_size=40), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_no_frame_is_larger_than_its_terminal(
    columns: int, rows: int, name: str, count: int
) -> None:
    now = NOW | {
        "calls": [NOW["calls"][0] | {"room": name, "model": name[::-1]}] * count,
        "failures": [NOW["failures"][0] | {"tries": name * 3}] * count,
    }
    lines = frame(now, columns, rows)
    assert len(lines) <= rows
    assert all(cells_of(line.text) <= columns for line in lines)
