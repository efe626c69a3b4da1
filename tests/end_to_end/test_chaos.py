"""What the server stands on fails, each thing once: what works, what is refused, what is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.chaos.cases import CASES, LONG, NEEDS_A_RESOLVER, may_have_a_resolver

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: prlimit, mount")


@pytest.mark.parametrize("case", [case for case in CASES if case not in LONG])
async def test_what_was_said_of_it_holds(case: str, tmp_path: Path) -> None:
    if case in NEEDS_A_RESOLVER and not may_have_a_resolver():
        pytest.skip("nobody may mount here: names cannot be looked up by a server of the test")
    row = await CASES[case](tmp_path)

    assert row.wrong == [], row
