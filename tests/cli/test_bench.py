"""`gateway bench`: a real server, measured for a moment."""

from __future__ import annotations

import json
import math
from pathlib import Path

import aiohttp
import pytest

from gateway.cli.bench import (
    ROUTES,
    Added,
    Carries,
    Model,
    Results,
    as_json,
    as_text,
    percentile,
    table,
    told_apart,
)
from gateway.cli.bench_server import BenchError
from gateway.cli.main import main
from tests.fakes import frame_model, turn_model


def test_percentiles_are_samples() -> None:
    assert percentile([3.0], 0.99) == 3.0
    assert percentile(range(1, 101), 0.5) == 50
    assert percentile(range(1, 101), 0.99) == 99


def test_the_tables_say_how_they_were_made() -> None:
    results = Results(
        [Added("chat", "first token", 100, 0.001, 0.002, 0.0025, 0.006)],
        [Carries("chat", "a reply", 20, 3.0, 0.004), Carries("tts", "a voice", 20, 3.0, None)],
        Model("interruption", "7", 0.0005, 0.001, 0.004),
        2.5,
    )
    shown = as_text(results)
    for part in ("1.50", "4.00", "250", "20 open at once", "plan for half", "0.50 ms for 100 ms"):
        assert part in shown, part
    told = as_json(results)
    assert told["added"][0]["added_p50_s"] == pytest.approx(0.0015)
    assert [one["a_core"] for one in told["carries"]] == [250, None]


def test_numbers_stand_to_the_right() -> None:
    assert table(("route", "n"), [("chat", "7"), ("stt", "1,234")]) == [
        "route      n",
        "chat       7",
        "stt    1,234",
    ]


def test_what_goes_wrong_is_told_and_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(BenchError, match="refused"), told_apart():
        raise ExceptionGroup("", [ExceptionGroup("", [aiohttp.ClientError("refused")])])
    with pytest.raises(ExceptionGroup), told_apart():
        raise ExceptionGroup("", [KeyError("ours")])


def test_every_route_is_measured_against_its_floor_and_nothing_of_the_operators_is_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # some seconds: a server starts, and each route is measured in real time
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    model = frame_model.write(tmp_path / "m.onnx")
    config = tmp_path / "c.yaml"
    config.write_text(
        f"bargein: {{model: {model}}}\nserver: {{port: 8080, workers: 4}}\n"
        f"eot: {{model: {turn_model.write(tmp_path / 't.onnx')}}}\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--config", str(config), "--seconds", "4", "--json"])
    assert not ended.value.code
    told = json.loads(capsys.readouterr().out)
    assert [one["route"] for one in told["added"]] == [*ROUTES, "eot"]
    assert all(one["answers"] > 0 and one["through_p50_s"] > 0 for one in told["added"])
    assert [one["route"] for one in told["carries"]] == list(ROUTES)
    for one in told["carries"]:
        assert one["cpu_s"] is None or (one["a_core"] > 0 and not math.isnan(one["cpu_s"]))
    assert told["model"]["step_p50_s"] > 0
    assert not (tmp_path / "state").exists()
