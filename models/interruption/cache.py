"""Where the published file is, and where everything large is kept: outside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

PUBLISHED = Path(__file__).with_name("interruption.onnx")


def cache_folder() -> Path:
    """`$PARLEY_CACHE/interruption`, by default below `~/.cache/parley`."""
    root = os.environ.get("PARLEY_CACHE") or "~/.cache/parley"
    folder = Path(root).expanduser() / "interruption"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
