"""In CI (`CI=true`) a test is skipped only for a reason that allowed_skips.toml lists.

Elsewhere a machine may lack what a test needs; there it must be said when nothing was tried.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

ALLOWED = Path(__file__).with_name("allowed_skips.toml")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("true", "1")


def allowed() -> list[re.Pattern[str]]:
    """Patterns that a reason has to match as a whole."""
    return [re.compile(one["reason"]) for one in tomllib.loads(ALLOWED.read_text())["skip"]]


def reason(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Why nothing was tried; None if something was."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return said.removeprefix("Skipped: ")


class Watch:
    """Looks at all reports: those of other processes too."""

    def __init__(self) -> None:
        self.allowed = allowed()
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look_at(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look_at(report)

    def _look_at(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        why = reason(report)
        if why is not None and not any(one.fullmatch(why) for one in self.allowed):
            self.found[report.nodeid] = why

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.found and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            terminalreporter.section("skipped in CI, and not in allowed_skips.toml", red=True)
            for nodeid, why in self.found.items():
                terminalreporter.line(f"{nodeid}: {why}")


def pytest_configure(config: pytest.Config) -> None:
    if in_ci() and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Watch())
