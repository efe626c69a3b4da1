"""Parley: the inference layer of voice agents, self-hosted."""

import os

__version__ = "0.2.0"

# Before anything imports ONNX Runtime: on Linux it reports its use to its makers unless told not to
# (since 1.32; it looks at this variable when it is loaded).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
