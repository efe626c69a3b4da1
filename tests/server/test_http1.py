"""HTTP/1.1 without a socket: what bytes say, within which bounds, and what an answer is written
as."""

from __future__ import annotations

import re

import pytest

from gateway.server.http1 import (
    END,
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    SLICE_BYTES,
    URL_BYTES_MAX,
    Answer,
    Event,
    Head,
    Refusal,
    RequestReader,
    Upgrade,
    last_answer,
)

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
HANDSHAKE = b"GET /stt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def request(*headers: bytes, url: bytes = b"/a") -> bytes:
    return b"GET " + url + b" HTTP/1.1\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n"


def read(reader: RequestReader, *parts: bytes) -> list[Event]:
    """What all of `parts` say; pieces of a body that stand together are one."""
    events: list[Event] = []
    for part in parts:
        while part:
            said, used = reader.read(part)
            assert used
            part = part[used:]
            for event in said:
                if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                    events[-1] += event
                else:
                    events.append(event)
    return events


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def head_of(data: bytes) -> Head:
    head = read(RequestReader(), data)[0]
    assert isinstance(head, Head)
    return head


def test_a_head_says_what_is_asked_and_how() -> None:
    sent = (
        b"POST http://x/a%20b?c=d#e HTTP/1.1\r\nHost: x\r\nX-Name:  Value \r\n"
        b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    )
    head = head_of(sent)
    assert (head.method, head.path, head.query) == ("POST", b"/a%20b", b"c=d")
    assert head.headers[:2] == [(b"host", b"x"), (b"x-name", b"Value")]
    assert head.expects_continue
    assert head.keep_alive


@pytest.mark.parametrize(("url", "path"), [(b"*", b"*"), (b"http://x", b"/"), (b"//x", b"//x")])
def test_every_form_of_a_url_has_a_path(url: bytes, path: bytes) -> None:
    assert head_of(request(url=url)).path == path


@pytest.mark.parametrize("size", [1, 7, 100, SLICE_BYTES, 1 << 20])
def test_requests_are_the_same_wherever_the_stream_is_cut(size: int) -> None:
    body = b"x" * 3000
    known = b"POST /b HTTP/1.1\r\nContent-Length: 3000\r\n\r\n" + body
    chunked = CHUNKED + b"bb8\r\n" + body + b"\r\n0\r\nTrailer: x\r\n\r\n"
    events = read(RequestReader(), *cut(GET + known + chunked, size))
    assert [event for event in events if not isinstance(event, Head)] == [
        END, body, END, body, END,
    ]  # fmt: skip
    assert [event.path for event in events if isinstance(event, Head)] == [b"/a", b"/b", b"/a"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(*[b"a: b"] * (HEADERS_MAX + 1)), 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * (2 * HEAD_BYTES_MAX), 431),
        (b"GET / HTTP/1.1\r\n" + b"a" * (2 * HEAD_BYTES_MAX), 431),
        (b"\r\n" * HEAD_BYTES_MAX, 431),
        (b"GET /" + b"a" * URL_BYTES_MAX, 414),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"CONNECT x:443 HTTP/1.1\r\n\r\n", 400),
        (request(url=b"/\xff"), 400),
        (request(url=b"/a?\xff"), 400),
        (CHUNKED + b"1;" + b"x" * (2 * HEAD_BYTES_MAX), 431),
        (CHUNKED + b"1\r\nx\r\n0\r\n" + b"T: x\r\n" * (HEADERS_MAX + 1), 431),
        (CHUNKED + b"1\r\nx\r\n0\r\nT: " + b"x" * (2 * HEAD_BYTES_MAX), 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1" + b"0" * 400 + b"\r\n\r\n", 400),
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"), 400),
    ],
)
@pytest.mark.parametrize("size", [1, 999, 1 << 20])
def test_what_is_no_request_or_has_no_end_is_refused_once(
    sent: bytes, status: int, size: int
) -> None:
    reader = RequestReader()
    events = read(reader, *cut(sent, size))
    refusals = [event for event in events if isinstance(event, Refusal)]
    assert [refusal.status for refusal in refusals] == [status]
    assert events[-1] is refusals[0]
    assert read(reader, GET) == []


def test_a_slice_is_read_at_a_time_but_a_body_of_known_length_at_once() -> None:
    reader = RequestReader()
    _, used = reader.read(GET * 3000)
    assert used == SLICE_BYTES
    reader = RequestReader()
    read(reader, b"POST /a HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
    body = bytes(1_000_000)
    assert reader.read(body) == ([body, END], 1_000_000)


def test_what_stands_behind_a_body_says_nothing_about_the_request() -> None:
    events = read(RequestReader(), CHUNKED + b"0\r\nAuthorization: x\r\n\r\n")
    assert isinstance(events[0], Head)
    assert [name for name, _ in events[0].headers] == [b"transfer-encoding"]


def test_a_reader_knows_whether_something_of_a_request_has_come() -> None:
    reader = RequestReader()
    assert reader.between
    read(reader, b"\r\n")
    assert (reader.between, reader.begun) == (False, False)
    read(reader, GET[:10])
    assert (reader.between, reader.begun) == (False, True)
    read(reader, GET[10:])
    assert reader.between


@pytest.mark.parametrize(
    "first", [request(b"Connection: close"), b"GET /a HTTP/1.0\r\n\r\n"], ids=["close", "1.0"]
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_nothing_is_read_behind_the_last_request(first: bytes, size: int) -> None:
    events = read(RequestReader(), *cut(first + GET, size))
    assert [type(event) for event in events] == [Head, type(END)]
    assert isinstance(events[0], Head)
    assert not events[0].keep_alive


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_handshake_ends_http(size: int) -> None:
    reader = RequestReader()
    data = HANDSHAKE + b"\x81\x00"
    events = read(reader, *cut(data, size))
    assert len(events) == 1
    assert isinstance(events[0], Upgrade)
    assert events[0].head.to_bytes().lower() == HANDSHAKE.lower()
    assert RequestReader().read(data)[1] == len(HANDSHAKE)


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_wish_for_another_protocol_is_ignored_and_the_body_read(size: int) -> None:
    sent = (
        b"POST /a HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"Content-Length: 3\r\n\r\nabc"
    )
    events = read(RequestReader(), *cut(sent + GET, size))
    assert [type(event) for event in events] == [Head, bytes, type(END), Head, type(END)]
    assert events[1] == b"abc"


def test_where_no_websocket_is_served_a_handshake_is_a_request() -> None:
    events = read(RequestReader(upgrades=False), HANDSHAKE)
    assert [type(event) for event in events] == [Head, type(END)]


# -- answers

HTTP_1_0 = b"GET /a HTTP/1.0\r\n\r\n"
HEAD = b"HEAD /a HTTP/1.1\r\n\r\n"


def written(sent: bytes, status: int, length: int | None, *parts: bytes) -> tuple[Answer, bytes]:
    """The answer to a request, of a status, a Content-Length and parts of a body."""
    answer = Answer(head_of(sent))
    headers = [] if length is None else [(b"Content-Length", str(length).encode())]
    output = answer.begin(status, headers)
    for index, part in enumerate(parts):
        output += answer.body(part, index + 1 < len(parts))
    return answer, output


@pytest.mark.parametrize(
    ("sent", "status", "length", "parts", "expected", "keep_alive"),
    [
        (GET, 200, 2, (b"a", b"b"), b"200 OK\r\nContent-Length: 2\r\n\r\nab", True),
        (
            GET, 200, None, (b"a", b"", b"b"),
            b"200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n", True,
        ),
        (HTTP_1_0, 200, None, (b"a", b"b"), b"200 OK\r\nconnection: close\r\n\r\nab", False),
        (HTTP_1_0, 200, 1, (b"a",), b"200 OK\r\nContent-Length: 1\r\nconnection: close\r\n\r\na",
         False),
        (HEAD, 200, 2, (b"ab",), b"200 OK\r\nContent-Length: 2\r\n\r\n", True),
        (HEAD, 200, None, (b"ab",), b"200 OK\r\n\r\n", True),
        (GET, 204, None, (b"",), b"204 No Content\r\n\r\n", True),
        (GET, 304, None, (b"",), b"304 Not Modified\r\n\r\n", True),
        (GET, 299, 0, (b"",), b"299 \r\nContent-Length: 0\r\n\r\n", True),
    ],
)  # fmt: skip
def test_an_answer_says_where_it_ends(
    sent: bytes,
    status: int,
    length: int | None,
    parts: tuple[bytes, ...],
    expected: bytes,
    keep_alive: bool,
) -> None:
    answer, output = written(sent, status, length, *parts)
    assert output == b"HTTP/1.1 " + expected
    assert answer.complete
    assert answer.keep_alive == keep_alive


def test_the_application_may_end_the_connection_and_may_not_name_the_framing_twice() -> None:
    answer = Answer(head_of(GET))
    output = answer.begin(200, [(b"connection", b"close"), (b"transfer-encoding", b"chunked")])
    assert not answer.keep_alive
    assert output.count(b"connection: close") == 1
    assert output.count(b"transfer-encoding: chunked") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"a b", b"c"), (b"", b"c"), (b"a:", b"c"), (b"a", b"b\r\nc: d"), (b"a", b"\0")],
)
def test_a_header_cannot_forge_another(name: bytes, value: bytes) -> None:
    answer = Answer(head_of(GET))
    with pytest.raises(RuntimeError, match="no header"):
        answer.begin(200, [(name, value)])
    assert not answer.began


@pytest.mark.parametrize("parts", [(b"abc",), (b"a",), (b"ab", b"c", b"")])
def test_a_body_is_as_long_as_its_headers_say(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(RuntimeError, match="than its Content-Length"):
        written(GET, 200, 2, *parts)


def test_an_answer_has_one_beginning_and_one_end() -> None:
    answer = Answer(head_of(GET))
    with pytest.raises(RuntimeError, match="not begun"):
        answer.body(b"", False)
    answer.begin(200, [])
    with pytest.raises(RuntimeError, match="has begun"):
        answer.begin(200, [])
    answer.body(b"", False)
    with pytest.raises(RuntimeError, match="complete"):
        answer.body(b"", False)


def test_the_last_answer_of_a_connection_says_so() -> None:
    output = last_answer(429, [(b"retry-after", b"1")], b"{}")
    head, _, body = output.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 429 Too Many Requests\r\n", head)
    assert b"connection: close" in head
    assert b"content-length: 2" in head
    assert body == b"{}"
