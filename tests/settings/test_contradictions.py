"""Bounds that take the effect from one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config import load_with_warnings
from gateway.settings.chat import ChatConfig
from gateway.settings.contradictions import _PAIRS, contradictions
from gateway.settings.section import Section
from gateway.settings.server import LimitsConfig, ServerConfig
from gateway.settings.stt import SttConfig
from gateway.settings.tts import TtsConfig

KINDS: dict[str, type[Section]] = {
    "server": ServerConfig, "limits": LimitsConfig, "chat": ChatConfig, "stt": SttConfig,
    "tts": TtsConfig,
}  # fmt: skip


def told(**given: dict[str, Any]) -> list[str]:
    sections = {name: kind(**given.get(name, {})) for name, kind in KINDS.items()}
    found = list(contradictions(sections))
    assert not any(one.fatal for one in found)
    return [one.told() for one in found]


def test_the_defaults_do_not_contradict() -> None:
    assert told() == []


@pytest.mark.parametrize("pair", _PAIRS, ids=lambda pair: pair.shorter)
def test_each_pair_is_told_with_both_values_and_what_comes_of_it(pair: Any) -> None:
    (section, option), (other, longer) = pair.shorter.split("."), pair.longer.split(".")
    given: dict[str, dict[str, Any]] = {section: {}, other: {}}
    given[section][option] = 120
    given[other][longer] = 60

    (line,) = (one for one in told(**given) if one.startswith(f"{pair.shorter}:"))

    assert line == f"{pair.shorter}: 120 is more than {pair.longer} (60): {pair.hence}"


def test_a_grace_that_is_shorter_than_the_usual_delay_is_told() -> None:
    (line,) = told(server={"shutdown_grace_s": 3})
    assert line.startswith("server.drain_delay_s: 5 is more than server.shutdown_grace_s (3)")


def test_a_bound_that_nobody_set_is_not_told_where_it_does_no_harm() -> None:
    assert told(limits={"sessions": 100, "session_s_max": 600}) == []


def test_it_is_told_with_the_line_of_the_file_and_the_server_starts(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"keys: {{APIkey: {'s' * 40}}}\nlimits:\n  sessions: 10\n  sessions_per_key: 20\n"
    )

    loaded = load_with_warnings(file, {})

    assert loaded.warnings == (
        "limits.sessions_per_key: 20 is more than limits.sessions (10): one key may take all "
        "places (line 4)",
    )
