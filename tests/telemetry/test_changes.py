"""Who changed what is kept, bounded, and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings.usage import UsageConfig
from gateway.telemetry import changes
from gateway.telemetry.changes import ChangeLog, changes_file, difference, read_changes


def test_what_was_kept_is_read_from_a_time_on(tmp_path: Path) -> None:
    times = iter([10.0, 20.0])
    path = tmp_path / "deep" / changes.NAME
    log = ChangeLog(path, lambda: next(times))
    log.note("start", "root", {})
    log.note("applied", "gateway reload, ann", {"keys_removed": "APIone"})
    assert [one["what"] for one in read_changes(path)] == ["start", "applied"]
    (told,) = read_changes(path, 15.0)
    assert (told["by"], told["keys_removed"]) == ("gateway reload, ann", "APIone")


def test_a_line_that_was_written_half_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / changes.NAME
    path.write_bytes(b'{"at": 1, "wha\n[1]\n')
    ChangeLog(path).note("start", "x", {})
    assert [one["what"] for one in read_changes(path)] == ["start"]


def test_the_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "BYTES_MAX", 500)
    path = tmp_path / changes.NAME
    log = ChangeLog(path)
    for i in range(100):
        log.note("start", str(i), {})
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1500
    assert [one["by"] for one in read_changes(path)][-1] == "99"


def test_a_disk_that_takes_none_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    ChangeLog(tmp_path / "file" / "x").note("start", "x", {})
    assert caplog.records[0].message == "a change is not kept"


def test_they_are_kept_beside_the_spill_file(tmp_path: Path) -> None:
    assert changes_file(UsageConfig(spill=f"{tmp_path}/s")) == tmp_path / changes.NAME


OPTIONS = {
    "keys.APIone": '"secret-one"',
    "quota.keys.APIone.day.cost": "10.0",
    "page.token": '"a-token-of-the-page"',
}


def test_a_start_says_what_was_changed_while_no_server_ran_and_keeps_no_value(
    tmp_path: Path,
) -> None:
    log = ChangeLog(tmp_path / changes.NAME)
    log.started("ann", OPTIONS)
    log.started("ann", OPTIONS)
    log.started(
        "bob",
        {
            "keys.APItwo": '"secret-two"',
            "quota.keys.APIone.day.cost": "99.0",
            "limits.sessions": "3",
        },
    )
    first, same, changed = (
        {name: value for name, value in one.items() if name not in ("at", "version", "what")}
        for one in read_changes(tmp_path / changes.NAME)
    )
    assert first == {"by": "ann", "keys": "APIone"}
    assert same == {"by": "ann"}
    assert changed == {
        "by": "bob",
        "keys_added": "APItwo",
        "keys_removed": "APIone",
        "options": "limits.sessions; page.token; quota.keys.APIone.day.cost",
    }
    for file in tmp_path.iterdir():
        for value in ("secret", "99.0", "a-token"):
            assert value not in file.read_text()
    assert (tmp_path / changes.STATE_NAME).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{}", '{"key": "zz", "options": {}}', "[1]"])
def test_a_state_that_cannot_be_read_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / changes.STATE_NAME).write_text(text)
    log = ChangeLog(tmp_path / changes.NAME)
    log.started("ann", OPTIONS)
    log.started("ann", OPTIONS)
    assert [one.get("keys") for one in read_changes(tmp_path / changes.NAME)] == ["APIone", None]


def test_long_lists_are_cut() -> None:
    told = difference({}, {f"prices.{i:0100}": "1" for i in range(100)})
    assert len(told["options"]) <= 2000 + len("...")
