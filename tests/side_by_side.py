"""Runs the tests in several processes at once: most of them wait for clients in real time.

`pytest` alone, or with folders, is run so. A test or a file that is named is run in this process,
as with `-n0`; so is everything with `--pdb` or `-s`. Where pytest-xdist is missing nothing of this
happens.

A module's tests stay together in one process, for they share fixtures; those of SPLIT do not. What
has to keep up with real time (CALM) is run by a process or two of its own, one test after the
other, with precedence over the rest: a busy machine slows the rest down, and does not fail those.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

PROCESSES_MIN, PROCESSES_MAX = 8, 16
LESS_URGENT = 5  # what is added to the niceness of all but the calm process
NICENESS = os.nice(0)
SHARE_CALM = 4  # one in so many processes is for the calm tests at first

CALM = (
    "end_to_end/test_bargein.py",
    "end_to_end/test_session.py",
    "end_to_end/test_eot.py",
    "end_to_end/test_stt_local.py",
    "end_to_end/test_tts_local.py",
    "end_to_end/test_load.py",
    "end_to_end/test_money.py",
)
"""Here a client gives a request up after a second or less, whatever the server was told, or the
server does so with a provider or with what counts for all its workers, or engines on this machine
work for callers who speak in real time."""

FIRST_PARAMETER = r"\[(livekit-agents-[\d.]+|node-agents-[\d.]+|[^\]-]+)"
SPLIT = {
    "end_to_end/test_bargein.py": FIRST_PARAMETER,
    "end_to_end/test_chat.py": FIRST_PARAMETER,
    "end_to_end/test_eot.py": FIRST_PARAMETER,
    "end_to_end/test_stt.py": FIRST_PARAMETER,
    "end_to_end/test_stt_providers.py": FIRST_PARAMETER,
    "end_to_end/test_tts.py": FIRST_PARAMETER,
    "end_to_end/test_tts_clients.py": FIRST_PARAMETER,
    "end_to_end/test_tts_providers.py": FIRST_PARAMETER,
    "fakes/test_voices_official.py": "(.+)\\[",
}
"""Modules whose tests are spread over processes: what in a test's name says which stay together."""

FIRST = (
    "end_to_end/",
    "deploy/test_bundle.py",
    "deploy/test_dashboard_live.py",
    "deploy/test_dockerfile.py",
    "deploy/test_first_hour.py",
    "fakes/test_v",
)
"""What takes long and waits for the most part is begun first."""


def processes() -> int:
    return min(PROCESSES_MAX, max(PROCESSES_MIN, 2 * (os.cpu_count() or 1)))


def unit(nodeid: str) -> str:
    """The tests of one unit are run by one process."""
    path, _, name = nodeid.partition("::")
    pattern = next((SPLIT[module] for module in SPLIT if path.endswith(module)), None)
    found = pattern and re.search(pattern, name)
    return f"{path}::{found[1]}" if found else path


def is_calm(nodeid: str) -> bool:
    return nodeid.partition("::")[0].endswith(CALM)


def comes_first(unit: str) -> bool:
    return any(f"tests/{start}" in unit for start in FIRST)


def wants_one_process(config: pytest.Config) -> bool:
    option = config.option
    named = any(".py" in argument for argument in config.args)
    debugged = option.usepdb or getattr(option, "trace", False) or option.capture == "no"
    return named or debugged or option.collectonly


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    asked = getattr(config.option, "numprocesses", 0)  # 0 where there is no xdist
    here = os.environ.get("PYTEST_XDIST_WORKER")
    if here is None and asked is None and not config.option.tx and not wants_one_process(config):
        config.option.numprocesses = processes()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return processes()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "load":  # somebody wants it otherwise
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):  # type: ignore[misc]  # untyped package
        """Hands out units; the calm ones to the first processes alone."""

        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

        def _next_for(self, node: WorkerController) -> str | None:
            calm_one = node in self.nodes[: max(1, self.numnodes // SHARE_CALM)]
            for_it = [one for one in self.workqueue if calm_one or not is_calm(one)]
            return min(
                for_it, key=lambda one: (not is_calm(one), not comes_first(one)), default=None
            )

        def _assign_work_unit(self, node: WorkerController) -> None:
            chosen = self._next_for(node)
            if chosen is None:
                node.shutdown()
                return
            self.workqueue.move_to_end(chosen, last=False)
            super()._assign_work_unit(node)

    return Units(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ and not is_calm(item.nodeid):
        os.nice(max(0, NICENESS + LESS_URGENT - os.nice(0)))
