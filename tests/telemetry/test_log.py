"""Lines of the log: JSON for machines, readable ones for people. Nobody forges them, no secret is
in them, and nobody who does not read stops us."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
from collections.abc import Iterator

import pytest

from gateway.telemetry.log import BackgroundHandler, ConsoleFormatter, JsonFormatter, configure
from gateway.upstreams.secrets import SECRETS

KEY = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    SECRETS.learn([KEY])
    yield
    SECRETS.forget()


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("gateway.x", logging.WARNING, "x.py", 1, message, args, None)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    made.__dict__.update(extra)
    return made


def test_a_line_of_json_has_time_level_message_and_the_extra_fields() -> None:
    line = json.loads(JsonFormatter().format(record("took %d ms", 5, route="chat", empty=None)))
    assert line == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "gateway.x",
        "message": "took 5 ms",
        "route": "chat",
    }


def test_what_json_does_not_know_is_written_as_text() -> None:
    line = json.loads(JsonFormatter().format(record("x", kind=ValueError, n=1.5)))
    assert line["kind"] == "<class 'ValueError'>"
    assert line["n"] == 1.5


def test_a_line_for_people_ends_with_the_extra_fields() -> None:
    line = ConsoleFormatter().format(record("serving", address="http://a", keys=2))
    assert line.endswith(".250 warning serving address=http://a keys=2")


def test_the_line_of_a_call_begins_with_what_a_person_asks() -> None:
    line = ConsoleFormatter().format(
        record(
            "chat",
            route="chat",
            request_id="req_1",
            key="APIx",
            outcome="upstream_error",
            duration_s=1.2346,
            user_agent="LiveKit Agents/1.8 (python 3.11)",
            model="fast",
            provider="openai",
            failures="openai:upstream_error@1.2",
            error="the provider failed",
        )
    )
    assert line.endswith(
        '.250 warning chat upstream_error 1.23s error="the provider failed" '
        "failures=openai:upstream_error@1.2 provider=openai model=fast key=APIx request_id=req_1 "
        'user_agent="LiveKit Agents/1.8 (python 3.11)"'
    )


@pytest.mark.parametrize("formatter", [JsonFormatter(), ConsoleFormatter()])
def test_an_exception_is_in_the_line_it_belongs_to(formatter: logging.Formatter) -> None:
    made = record("failed")
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("reason")
    made.exc_info = (caught.type, caught.value, caught.tb)
    assert "RuntimeError: reason" in formatter.format(made)


@pytest.fixture
def untouched() -> Iterator[None]:
    """Loggers as they were before."""
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    before = [(one.handlers, one.level, one.propagate) for one in loggers]
    yield
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        one.handlers, one.level, one.propagate = handlers, level, propagate


@pytest.mark.usefixtures("untouched")
def test_everything_goes_to_standard_error_at_the_wanted_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("warning", "json")
    logging.getLogger("gateway.x").info("not this")
    logging.getLogger("gateway.x").warning("this", extra={"route": "stt"})
    logging.getLogger().handlers[0].flush()
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert json.loads(line)["route"] == "stt"


@pytest.mark.usefixtures("untouched")
def test_uvicorn_is_heard_only_when_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "console")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger().handlers[0].flush()
    assert capsys.readouterr().err == ""
    logging.getLogger("uvicorn.error").error("bind failed")
    logging.getLogger().handlers[0].flush()
    assert "bind failed" in capsys.readouterr().err


@pytest.mark.parametrize("formatter", [JsonFormatter(), ConsoleFormatter()])
def test_a_secret_is_in_no_line(formatter: logging.Formatter) -> None:
    assert KEY not in formatter.format(record("x", said=f"key {KEY}"))


def test_a_name_cannot_forge_a_line_for_people() -> None:
    line = ConsoleFormatter().format(record("chat", model="m\n12:00:00 error \x1b[31m forged"))
    assert "\n" not in line
    assert "\x1b" not in line


def test_what_cannot_be_written_as_json_is_a_line_all_the_same() -> None:
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]
    assert "chat" in JsonFormatter().format(record("chat", deep=deep))


def test_lines_come_out_in_order() -> None:
    stream = io.StringIO()
    handler = BackgroundHandler(stream)
    for number in range(100):
        handler.emit(record(str(number)))
    handler.flush()
    assert stream.getvalue().split() == [str(number) for number in range(100)]


def test_a_reader_that_does_not_read_stops_nobody() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as nobody, os.fdopen(writing, "w") as stream:
        handler = BackgroundHandler(stream, lines_max=10)
        for _ in range(1000):
            handler.emit(record("x" * 1000))
        assert handler.dropped > 500
        while len(nobody.read1(1 << 20)) == 1 << 16:
            pass


def test_a_signal_that_is_logged_while_a_line_is_logged_stops_nobody() -> None:
    log, stream = logging.Logger("gateway.signals"), io.StringIO()
    handler = BackgroundHandler(stream)
    log.addHandler(handler)
    signals = 0

    def heard(*_: object) -> None:
        nonlocal signals
        signals += 1
        log.warning("signal")

    before = signal.signal(signal.SIGALRM, heard)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    try:
        while signals < 300:
            log.warning("line")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    handler.flush()
    assert stream.getvalue().splitlines().count("signal") + handler.dropped >= 300
