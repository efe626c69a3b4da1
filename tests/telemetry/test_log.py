"""Log lines: nobody forges them, no secret is in them, and nobody who does not read stops us."""

import io
import json
import logging
import os
from collections.abc import Iterator

import pytest

from gateway.telemetry.log import BackgroundHandler, ConsoleFormatter, JsonFormatter
from gateway.upstreams.secrets import SECRETS

KEY = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    SECRETS.learn([KEY])
    yield
    SECRETS.forget()


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("gateway", logging.WARNING, "f.py", 1, message, None, None)
    made.__dict__.update(fields)
    return made


@pytest.mark.parametrize("formatter", [JsonFormatter(), ConsoleFormatter()])
def test_a_secret_is_in_no_line(formatter: logging.Formatter) -> None:
    assert KEY not in formatter.format(record("x", said=f"key {KEY}"))


def test_a_name_cannot_forge_a_line_for_people() -> None:
    line = ConsoleFormatter().format(record("chat", model="m\n12:00:00 error \x1b[31m forged"))
    assert "\n" not in line
    assert "\x1b" not in line


def test_fields_stand_in_the_json() -> None:
    line = json.loads(JsonFormatter().format(record("chat", outcome="ok", nothing=None)))
    assert (line["message"], line["outcome"], line["level"]) == ("chat", "ok", "warning")
    assert "nothing" not in line


def test_what_cannot_be_written_as_json_is_a_line_all_the_same() -> None:
    deep: list = []
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
