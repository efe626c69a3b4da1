"""Who changed what is kept, bounded, and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings.usage import UsageConfig
from gateway.telemetry import changes
from gateway.telemetry.changes import ChangeLog, changes_file, read_changes


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
