"""The newest audio, and when it was recorded."""

from __future__ import annotations

from gateway.conversations.eot.recent import BLOCK_BYTES, MARK_BYTES, RecentAudio


def test_audio_is_kept_up_to_its_bound() -> None:
    recent = RecentAudio(8)
    recent.append(b"abcdef", 1)
    recent.append(b"ghij", 2)

    assert recent.samples() == b"cdefghij"
    assert len(recent) == 8


def test_one_piece_may_be_longer_than_all_that_is_kept() -> None:
    recent = RecentAudio(4)
    recent.append(b"abcdefgh", 7)

    assert recent.samples() == b"efgh"
    assert (recent.earliest_ns, recent.latest_ns) == (7, 7)


def test_a_time_is_kept_for_the_oldest_and_the_newest_audio() -> None:
    recent = RecentAudio(2 * MARK_BYTES)
    for i in range(5):
        recent.append(bytes(MARK_BYTES), 100 + i)

    assert (recent.earliest_ns, recent.latest_ns) == (103, 104)


def test_many_small_pieces_cost_no_time_mark_each() -> None:
    recent = RecentAudio(10 * MARK_BYTES)
    for i in range(MARK_BYTES):
        recent.append(b"ab", i)

    assert len(recent._marks) == 2


def test_nothing_is_left_after_a_clear() -> None:
    recent = RecentAudio(8)
    recent.append(b"abcd", 5)
    recent.clear()
    recent.append(b"", 6)

    assert (recent.samples(), recent.earliest_ns, recent.latest_ns) == (b"", 0, 0)
    recent.append(b"ef", 9)
    assert recent.earliest_ns == 9


def test_what_is_kept_is_the_newest_however_the_pieces_fall() -> None:
    bound = 3 * BLOCK_BYTES + 10
    recent, whole = RecentAudio(bound), b""
    for i, length in enumerate([2, BLOCK_BYTES - 2, 7000, 2 * BLOCK_BYTES, 30, bound + 8, 900] * 5):
        piece = bytes([i]) * length
        recent.append(piece, i)
        whole += piece
        assert recent.samples() == whole[-bound:]
        assert len(recent) == len(recent.samples())


def test_what_is_forgotten_is_not_kept_in_memory() -> None:
    recent = RecentAudio(4 * BLOCK_BYTES)
    for i in range(1000):
        recent.append(bytes(1600), i)

    assert recent._held <= 4 * BLOCK_BYTES + BLOCK_BYTES + 1600
    assert sum(map(len, recent._blocks)) == recent._held
