"""Where the published file is, and what is kept outside the checkout: what is made, recordings."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

PUBLISHED = Path(__file__).with_name("interruption.onnx")


def cache_folder() -> Path:
    """`$PARLEY_CACHE/interruption`, by default below `~/.cache/parley`."""
    folder = _root() / "interruption"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def audio_folder() -> str:
    """Where recordings are looked for: `$PARLEY_AUDIO`, by default `audio` beside all else."""
    return os.environ.get("PARLEY_AUDIO") or str(_root() / "audio")


def add_audio(parser: argparse.ArgumentParser) -> None:
    """The option `--audio`: the folder of recordings, which must be there."""
    parser.add_argument(
        "--audio",
        type=existing,
        default=audio_folder(),
        help="folder of recordings with train/manifest.csv, as DATA.md describes it "
        "(default: $PARLEY_AUDIO, or audio in $PARLEY_CACHE)",
    )


def existing(folder: str) -> Path:
    """The folder, if it holds recordings. Raises argparse.ArgumentTypeError."""
    path = Path(folder).expanduser()
    if not (path / "train" / "manifest.csv").is_file():
        raise argparse.ArgumentTypeError(
            f"{path} has no train/manifest.csv: name the folder of recordings that "
            "models/interruption/DATA.md describes by --audio or PARLEY_AUDIO"
        )
    return path


def _root() -> Path:
    return Path(os.environ.get("PARLEY_CACHE") or "~/.cache/parley").expanduser()
