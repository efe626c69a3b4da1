"""A cache of clips by key, in memory and on disk."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.runtime.clip_cache import ClipCache
from gateway.settings.tts import TtsCacheConfig
from gateway.upstreams.tts import Clip, Timed

HELLO = Clip(b"\n\0" * 100, (Timed("Hello.", 0.0, 0.4),))


def cache(**settings: Any) -> ClipCache:
    return ClipCache(TtsCacheConfig(enabled=True, **settings))


async def look_up(clips: ClipCache, key: str) -> Clip | None:
    answer: asyncio.Future[Clip | None] = asyncio.get_running_loop().create_future()
    clips.look_up(key, answer.set_result)
    return await asyncio.wait_for(answer, 60)


def at_once(clips: ClipCache, key: str) -> list[Clip | None]:
    answers: list[Clip | None] = []
    clips.look_up(key, answers.append)
    return answers


def test_what_is_in_memory_or_nowhere_is_answered_at_once() -> None:
    clips = cache()
    clips.put("hello", HELLO)
    assert at_once(clips, "hello") == [HELLO]
    assert at_once(clips, "other") == [None]


def test_an_empty_clip_is_not_kept() -> None:
    clips = cache()
    clips.put("hello", Clip(b""))
    assert at_once(clips, "hello") == [None]


def test_memory_is_bounded_and_what_was_unused_for_longest_goes() -> None:
    clips = cache(memory_mb=1)
    for name in "abc":
        clips.put(name, Clip(bytes(400_000)))
        at_once(clips, "a")
    assert at_once(clips, "a") != [None]
    assert at_once(clips, "b") == [None]
    assert at_once(clips, "c") != [None]


async def test_clips_on_disk_outlive_the_process_and_are_bounded(tmp_path: Path) -> None:
    first = cache(directory=tmp_path)
    first.put("hello", HELLO)
    first.close()
    again = cache(directory=tmp_path)
    assert at_once(again, "hello") == [], "it is read by another thread"
    assert await look_up(again, "hello") == HELLO
    assert at_once(again, "hello") == [HELLO], "and kept in memory then"
    again.close()
    small = cache(directory=tmp_path, disk_mb=1)
    for name in "abc":
        small.put(name, Clip(bytes(400_000)))
    small.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1 << 20


async def test_a_slow_disk_keeps_nobody_waiting(tmp_path: Path) -> None:
    slow = tmp_path / "slow.clip"
    os.mkfifo(slow)  # whoever reads it waits for a writer
    clips = cache(directory=tmp_path)
    answer: asyncio.Future[Clip | None] = asyncio.get_running_loop().create_future()
    clips.look_up("slow", answer.set_result)
    assert at_once(clips, "other") == [None]
    await asyncio.to_thread(slow.write_bytes, b"[]\n12")
    assert await asyncio.wait_for(answer, 60) == Clip(b"12")
    clips.close()


async def test_a_spoilt_file_is_as_good_as_none(tmp_path: Path) -> None:
    first = cache(directory=tmp_path)
    first.put("hello", HELLO)
    first.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"nonsense")
    clips = cache(directory=tmp_path)
    assert await look_up(clips, "hello") is None
    assert at_once(clips, "hello") == [None]
    clips.close()


async def test_a_clip_that_finds_the_disk_full_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    clips = cache(directory=tmp_path)
    monkeypatch.setattr(Path, "replace", full)
    clips.put("hello", HELLO)
    clips.close()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_used_leaves_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    clips = cache(directory=tmp_path / "file")
    clips.put("hello", HELLO)
    assert at_once(clips, "hello") == [HELLO]
    clips.close()


async def test_a_file_that_another_process_removes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cache(directory=tmp_path)
    first.put("hello", HELLO)
    first.close()
    glob = Path.glob

    def also_one_that_is_gone(folder: Path, pattern: str) -> list[Path]:
        return [*glob(folder, pattern), folder / "gone.clip"]

    monkeypatch.setattr(Path, "glob", also_one_that_is_gone)
    clips = cache(directory=tmp_path)
    assert await look_up(clips, "hello") == HELLO
    clips.close()
