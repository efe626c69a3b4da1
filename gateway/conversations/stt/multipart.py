"""A form with a file, as HTTP clients send it (RFC 7578). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.conversations.messages import bad_request
from gateway.upstreams.errors import Failure

PARTS_MAX: Final = 64
"""Fields of one form; clients send about ten."""

PART_HEAD_BYTES_MAX: Final = 4096

FIELD_BYTES_MAX: Final = 16 << 10
"""Longest value that is no file; a prompt is the longest."""

_BOUNDARY: Final = re.compile(
    r'^multipart/form-data\s*;.*?\bboundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE
)
_NAME: Final = re.compile(rb'form-data\s*;.*?\bname="([^"\r\n]{1,64})"', re.IGNORECASE | re.DOTALL)
_FILE: Final = re.compile(rb"\bfilename\*?=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Form:
    """`fields`: values by name, of one that stands several times all of them. `files`: likewise,
    one each."""

    fields: Mapping[str, tuple[str, ...]]
    files: Mapping[str, bytes]


def read_form(content_type: str, body: bytes) -> Form | Failure:
    """The form in `body`, or what is wrong with it."""
    found = _BOUNDARY.match(content_type)
    if found is None:
        return bad_request("expected multipart/form-data with a file", "file")
    mark = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    fields: dict[str, tuple[str, ...]] = {}
    files: dict[str, bytes] = {}
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    for _ in range(PARTS_MAX):
        if not body.startswith(mark, at):
            break
        at += len(mark)
        if body.startswith(b"--", at):
            return Form(fields, files)
        begin = body.find(b"\r\n", at) + 2
        head_end = body.find(b"\r\n\r\n", at, at + PART_HEAD_BYTES_MAX)
        end = body.find(b"\r\n" + mark, max(head_end, 0))
        if begin < 2 or head_end < 0 or end < 0:
            return bad_request("the form is cut off, or a part's head is too long", None)
        name = _NAME.search(body, begin, head_end)
        if name is None:
            return bad_request("a part of the form has no name", None)
        key = name[1].decode("utf-8", "replace")
        if _FILE.search(body, begin, head_end):
            files[key] = body[head_end + 4 : end]
        elif end - head_end - 4 > FIELD_BYTES_MAX:
            return bad_request(f"{key}: longer than {FIELD_BYTES_MAX} bytes", key)
        else:
            value = body[head_end + 4 : end].decode("utf-8", "replace")
            fields[key] = (*fields.get(key, ()), value)
        at = end + 2
    else:
        return bad_request(f"the form has more than {PARTS_MAX} parts", None)
    return bad_request("the form is no multipart/form-data", None)
