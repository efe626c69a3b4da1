"""What Deepgram means by the text of a close. Pure."""

from __future__ import annotations

import re
from typing import Final

_CODE: Final = re.compile(r"(NET|DATA|BIG|MESSAGE)-?(\d{4})", re.IGNORECASE)


def code_of(reason: str) -> str:
    """`NET-0001` of a close's text, which is mostly "... See https://dpgr.am/net0001"; empty if it
    has none."""
    found = _CODE.search(reason)
    return f"{found[1].upper()}-{found[2]}" if found else ""
