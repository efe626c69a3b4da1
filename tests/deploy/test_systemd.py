"""deploy/systemd/parley.service: systemd accepts it, it is closed, and it lets calls end."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from gateway.cli.main import EXIT_USAGE
from gateway.serve import CLOSE_S
from gateway.settings.server import SHUTDOWN_GRACE_S_MAX
from tests.services import needed

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/parley.service"
EXPOSURE_MAX = 20
"""Tenths, as `systemd-analyze security` counts: 0 is closed, 100 open. A service with a network
and a writable folder cannot come much below 10."""


def setting(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_systemd_accepts_it(tmp_path: Path) -> None:
    program = tmp_path / "gateway"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/parley/bin/gateway", str(program)))

    done = subprocess.run(
        [needed("systemd-analyze"), "verify", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_can_do_no_more_than_it_must() -> None:
    done = subprocess.run(
        [
            *(needed("systemd-analyze"), "security", "--offline=true"),
            *(f"--threshold={EXPOSURE_MAX}", "--no-pager", str(UNIT)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_a_wrong_configuration_is_not_tried_again() -> None:
    assert setting("RestartPreventExitStatus") == [str(EXIT_USAGE)]


def test_a_reload_reads_what_the_start_has_read() -> None:
    (start,), (reload,) = setting("ExecStart"), setting("ExecReload")
    assert reload == start.replace(" serve ", " reload ")


def test_the_longest_grace_fits_before_the_kill() -> None:
    (stop_s,) = setting("TimeoutStopSec")

    assert float(stop_s) > SHUTDOWN_GRACE_S_MAX + CLOSE_S
    # the engines' processes are the server's to end
    assert setting("KillMode") == ["mixed"]


def test_memory_is_bounded_above_the_alert() -> None:
    (most,) = setting("MemoryMax")
    groups = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"]
    (rule,) = (r for g in groups for r in g["rules"] if r["alert"] == "ParleyMemory")

    assert most == "2G"
    assert "> 1.5 * 2^30" in rule["expr"]
