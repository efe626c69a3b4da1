"""Recordings that tests and benchmarks hear: the few in tests/recordings, or a folder with more."""

from __future__ import annotations

import csv
import os
from pathlib import Path

RECORDINGS = Path(__file__).with_name("recordings")
"""Those that are in the repository. All that tests hear is here."""


def collection() -> Path:
    """Where benchmarks look: the folder that PARLEY_AUDIO names, by default RECORDINGS."""
    return Path(os.environ.get("PARLEY_AUDIO") or RECORDINGS)


def listed(folder: Path = RECORDINGS) -> list[dict[str, str]]:
    """The rows of the folder's `manifest.csv` or `train/manifest.csv`.

    `path` is relative to the folder; the folder right above a recording says where it is from.
    """
    for manifest in (folder / "manifest.csv", folder / "train" / "manifest.csv"):
        if manifest.is_file():
            with manifest.open(newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file))
    raise SystemExit(f"{folder}: no manifest.csv; PARLEY_AUDIO has to name a folder that has one")
