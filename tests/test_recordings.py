"""The recordings in the repository: each has a source and a licence, and they are few."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
import soundfile

from models.interruption.data.splits import Side, side
from tests.collection import RECORDINGS, collection, listed
from tests.end_to_end import make_recordings, make_turns

BYTES_MAX = 5_000_000


def test_every_recording_is_listed_with_its_source_and_licence() -> None:
    rows = listed()
    files = {path.relative_to(RECORDINGS).as_posix() for path in RECORDINGS.rglob("*.*")}

    assert sorted(row["path"] for row in rows) == sorted(files - {"README.md", "manifest.csv"})
    readme = (RECORDINGS / "README.md").read_text("utf-8")
    for row in rows:
        assert row["source"] in readme
        assert row["licence"] in readme
        assert row["published_in"]


def test_they_are_small() -> None:
    sizes = [path.stat().st_size for path in RECORDINGS.rglob("*") if path.is_file()]
    assert sum(sizes) < BYTES_MAX


def test_every_recording_is_as_long_as_its_row_says() -> None:
    for row in listed():
        about = soundfile.info(RECORDINGS / row["path"])
        assert (about.samplerate, about.channels) == (16_000, 1)
        assert about.duration == pytest.approx(float(row["seconds"]), abs=0.001)


def test_whom_the_interruption_model_is_judged_by_it_never_heard() -> None:
    judged_by = {cut.path for cut in make_recordings.CUTS}
    judged_by |= {row["path"] for row in listed() if row["label"] == "cough"}
    rows = {row["path"]: row for row in listed()}

    for path in judged_by:
        name = PurePosixPath(path)
        whole = name.with_stem(name.stem.partition("-")[0]) if "ami" in path else name
        assert side({**rows[path], "path": str(whole)}) is Side.EVAL


def test_what_scenes_are_cut_from_is_listed_under_the_same_source_and_licence() -> None:
    rows = {row["path"]: row for row in listed()}
    for cut in (*make_recordings.CUTS, *make_turns.CUTS):
        assert (rows[cut.path]["source"], rows[cut.path]["licence"]) == (cut.source, cut.licence)


def test_benchmarks_hear_these_unless_a_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PARLEY_AUDIO", raising=False)
    assert collection() == RECORDINGS
    monkeypatch.setenv("PARLEY_AUDIO", str(tmp_path))
    assert collection() == tmp_path
    with pytest.raises(SystemExit, match=r"no manifest\.csv"):
        listed(collection())
