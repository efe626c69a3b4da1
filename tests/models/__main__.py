"""`python -m tests.models [ARGUMENTS OF PYTEST]`: the tests of `models` in their environment."""

from __future__ import annotations

import os
import sys

from tests.models.environment import ROOT, command, variables

if __name__ == "__main__":
    words = command(sys.argv[1:] or ["tests/models"])
    os.chdir(ROOT)
    os.execve(words[0], words, variables())
