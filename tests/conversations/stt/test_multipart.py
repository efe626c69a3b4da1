"""Forms with a file."""

from __future__ import annotations

import pytest

from gateway.conversations.stt.multipart import FIELD_BYTES_MAX, PARTS_MAX, Form, read_form
from gateway.upstreams.errors import Failure

KIND = "multipart/form-data; boundary=XX"


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def read(body: bytes, kind: str = KIND) -> Form:
    form = read_form(kind, body)
    assert isinstance(form, Form), form
    return form


def refused(body: bytes, kind: str = KIND) -> str:
    failure = read_form(kind, body)
    assert isinstance(failure, Failure)
    assert failure.status == 400
    return failure.message


def test_a_form_has_fields_and_a_file_whatever_bytes_it_holds() -> None:
    sound = bytes(range(256)) + b"\r\n--X\r\n\r\n--XY"[:9]
    form = read(
        part("model", b"local/whisper")
        + part("file", sound, '; filename="a \\"b\\".wav"\r\nContent-Type: audio/wav')
        + part("timestamp_granularities[]", b"word")
        + part("timestamp_granularities[]", "wörter".encode())
        + b"--XX--\r\n"
    )
    assert form.files == {"file": sound}
    assert form.fields["model"] == ("local/whisper",)
    assert form.fields["timestamp_granularities[]"] == ("word", "wörter")


def test_the_boundary_may_be_quoted_and_something_may_stand_before_it() -> None:
    body = b"preamble\r\n" + part("a", b"1") + b"--XX--"
    assert read(body, 'multipart/form-data; charset=utf-8; boundary="XX"').fields == {"a": ("1",)}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no multipart"),
        (b"a=b&c=d", "no multipart"),
        (part("a", b"1"), "cut off"),
        (b"--XX\r\nContent-Disposition: form-data\r\n\r\n1\r\n--XX--", "no name"),
        (part("a", b"1" * (FIELD_BYTES_MAX + 1)) + b"--XX--", "a: longer"),
        (b"--XX\r\n" + b"x" * 5000 + b"\r\n\r\n1\r\n--XX--", "head is too long"),
        (part("a", b"1") * (PARTS_MAX + 1) + b"--XX--", "more than"),
    ],
)
def test_what_is_no_form_is_refused_with_words(body: bytes, words: str) -> None:
    assert words in refused(body)


def test_another_content_type_is_told_what_is_expected() -> None:
    for kind in ("application/json", "", "multipart/form-data"):
        assert "expected multipart/form-data" in refused(b"{}", kind)
