"""Where PyTorch is missing, the tests of `models` run in an environment of their own."""

from __future__ import annotations

import importlib.util

from tests.models.environment import DRIVER

HERE_TOO = importlib.util.find_spec("torch") is not None
collect_ignore = [DRIVER] if HERE_TOO else ["interruption", "turn"]
