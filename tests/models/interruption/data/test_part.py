from pathlib import Path

import pytest

from models.interruption.data.part import part


def test_every_second_shard_is_numbered_anew_and_a_second_call_changes_nothing(
    tmp_path: Path,
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "half"
    whole.mkdir()
    for number in range(5):
        (whole / f"train-{number:03d}.npz").write_text(str(number))
    for _ in range(2):
        assert part(whole, 2, out) == 3
        assert [path.read_text() for path in sorted(out.iterdir())] == ["0", "2", "4"]


def test_a_set_without_shards_has_no_part(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no shards"):
        part(tmp_path, 2, tmp_path / "half")
