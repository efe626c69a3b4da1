"""What a client may ask."""

import pytest

from gateway.conversations.chat.protocol import read_request
from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.errors import Failure


def test_a_request_keeps_what_is_not_known():
    request = read_request(b'{"model": "m", "messages": [{}], "stream": true, "new_thing": 1}')
    assert isinstance(request, ChatRequest)
    assert request.stream
    assert request.body["new_thing"] == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", "model"),
        (b'{"model": 4}', "model"),
        (b'{"model": ""}', "model"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": "hello"}', "messages"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": [{}], "stream": "yes"}', "stream"),
    ],
)
def test_a_bad_request_hears_which_field_and_what_was_expected(body: bytes, named: str):
    failure = read_request(body)
    assert isinstance(failure, Failure)
    assert failure.status == 400
    assert named in failure.message
