"""What `pytest` runs of the tests of `models` where PyTorch is missing: all of them, as one test.

One of them alone: `python -m tests.models tests/models/turn -k recall`.
"""

from __future__ import annotations

import re

from tests.models import environment

LIMIT_S = 1200.0
"""Enough for a machine that is ten times slower than the one on which they take 15 s."""


def test_the_tests_of_models_pass_where_pytorch_is_installed() -> None:
    done = environment.run(["-p", "no:cacheprovider", "tests/models"], timeout_s=LIMIT_S)

    assert done.returncode == 0, done.stdout[-20_000:]
    summary = done.stdout.splitlines()[-1]
    assert re.search(r"\d{2,} passed", summary)
    assert not re.search("skipped|deselected|xfailed|failed|error", summary), summary
