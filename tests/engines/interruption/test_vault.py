from __future__ import annotations

import errno
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.engines.interruption.disputed import Label
from gateway.engines.interruption.vault import Kept, Vault, VaultError

KEY = bytes(range(32))
KEPT = Kept(
    1_790_000_000.25, "RM_one", "AJ_one", "APIone", "0.11.1", 0.5, 0.6, True, 1.0,
    b"\1\2" * 1600, Label.NOISE, 0.8,
)  # fmt: skip


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "learn", KEY)


def test_a_window_is_read_as_it_was_kept_and_nobody_else_may_read_it(vault: Vault) -> None:
    path = vault.add(KEPT)

    assert vault.read(path) == KEPT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    data = path.read_bytes() + path.name.encode()
    for secret in (b"RM_one", b"AJ_one", b"APIone", b"noise", KEPT.window[:64]):
        assert secret not in data


def test_another_key_and_a_changed_file_are_refused(vault: Vault, tmp_path: Path) -> None:
    path = vault.add(KEPT)

    with pytest.raises(VaultError, match=r"not written with this bargein\.learn\.secret"):
        Vault(tmp_path / "learn", bytes(32)).read(path)
    moved = path.with_name(path.name.replace("-", "-", 1)[:-15] + "00000000.window")
    path.rename(moved)  # the name is part of what is sealed
    with pytest.raises(VaultError):
        vault.read(moved)
    moved.write_bytes(b"PLW1")
    with pytest.raises(VaultError):
        vault.read(moved)
    with pytest.raises(VaultError, match="no such file"):
        vault.read(path)


def test_a_window_that_does_not_fit_on_the_disk_leaves_nothing_behind(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(VaultError, match="no space left"):
        vault.add(KEPT)
    assert list(vault.folder.iterdir()) == []


def test_a_folder_that_cannot_be_listed_is_told(vault: Vault) -> None:
    vault.folder.parent.mkdir()
    vault.folder.write_text("no folder")

    for do in (vault.files, lambda: vault.forget(None), lambda: vault.bound(1, 1, 0.0)):
        with pytest.raises(VaultError, match="cannot be listed: not a directory"):
            do()


def test_a_room_is_forgotten_by_its_name_or_its_jobs(vault: Vault) -> None:
    vault.add(KEPT)
    vault.add(replace(KEPT, room="RM_two"))
    vault.add(replace(KEPT, room="RM_two", job="AJ_two"))
    (vault.folder / "notes.txt").write_text("not ours")

    assert vault.forget("RM_none") == 0
    assert vault.forget("RM_one") == 1
    assert vault.forget("AJ_two") == 1
    assert [vault.read(path).room for path in vault.files()] == ["RM_two"]
    assert vault.forget(None) == 1
    assert [one.name for one in vault.folder.iterdir()] == ["notes.txt"]


def test_a_persons_label_takes_the_place_of_what_followed(vault: Vault) -> None:
    path = vault.add(KEPT)

    vault.relabel(path, Label.FLOOR, 0.98)

    expected = replace(KEPT, label=Label.FLOOR, confidence=0.98, by="person")
    assert vault.read(path) == expected
    assert vault.files() == [path]


def test_the_oldest_go_by_count_by_bytes_and_by_age(vault: Vault) -> None:
    paths = [vault.add(replace(KEPT, at=KEPT.at + number)) for number in range(6)]
    size = paths[0].stat().st_size

    assert vault.bound(100, 1 << 30, KEPT.at + 0.5) == 1
    assert vault.files() == paths[1:]
    assert vault.bound(4, 1 << 30, 0) == 1
    assert vault.files() == paths[2:]
    assert vault.bound(100, 3 * size, 0) == 1
    assert vault.files() == paths[3:]


def test_a_folder_that_is_not_there_holds_nothing(vault: Vault) -> None:
    assert vault.files() == []
    assert vault.forget(None) == 0
    assert vault.bound(1, 1, 0) == 0


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "learn").write_text("a file")

    with pytest.raises(VaultError, match="cannot be written"):
        Vault(tmp_path / "learn", KEY).add(KEPT)
