"""Where windows to learn from lie: one encrypted file each, in a folder that nobody else may read.

    <folder>/windows/<unix ms>-<tag of the room>-<tag of the job>-<random>.window

A file is MAGIC, 12 bytes of nonce, and header and samples by AES-256-GCM with the operator's key;
its name is authenticated too. A tag is a keyed hash, so that a room's files are found by who knows
its name and the key, and by nobody else. Needs the extra `learn`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import orjson

from gateway.engines.interruption.disputed import Label

MAGIC: Final = b"PLW1"
NONCE_BYTES: Final = 12
FILE_BYTES_MAX: Final = 200_000
"""Of one window: 3 s of samples are 96 kB."""

SWEEP_WINDOWS: Final = 16
"""So many may be written over a bound by each process until the oldest are deleted."""

_NAME = re.compile(r"(\d{13})-([0-9a-f]{16})-([0-9a-f]{16})-[0-9a-f]{8}\.window")


class VaultError(Exception):
    """A window cannot be read or written; the message says why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A window and what is known of it. `at`: Unix seconds; `window`: mono s16le at 16 kHz;
    `claim`: the probability that a detection rests on, or would; `weight`: how many windows it
    stands for. `label` is None where nobody knows; `by` is "followed" or "person"."""

    at: float
    room: str
    job: str
    key: str
    version: str
    threshold: float
    claim: float
    detected: bool
    weight: float
    window: bytes
    label: Label | None = None
    confidence: float = 0.0
    by: str = "followed"


class Vault:
    """The files below `folder`, with a key of 32 bytes."""

    def __init__(self, folder: Path, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)
        self._tag_key = hmac.digest(key, b"parley: names of rooms", "sha256")
        self.folder = folder / "windows"

    def tag(self, name: str) -> str:
        """What a room's or job's files are found by."""
        return hmac.new(self._tag_key, name.encode(), hashlib.sha256).hexdigest()[:16]

    def add(self, kept: Kept) -> Path:
        """Write it. Raises VaultError."""
        name = (
            f"{round(kept.at * 1000):013d}-{self.tag(kept.room)}-{self.tag(kept.job)}-"
            f"{secrets.token_hex(4)}.window"
        )
        path = self.folder / name
        self._write(path, kept)
        return path

    def _write(self, path: Path, kept: Kept) -> None:
        header = asdict(kept)
        window = header.pop("window")
        told = orjson.dumps(header)
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher.encrypt(
            nonce, len(told).to_bytes(4, "big") + told + window, path.name.encode()
        )
        part = path.with_suffix(".part")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(MAGIC + nonce + sealed)
            part.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):  # nobody would count or delete it
                part.unlink(missing_ok=True)
            why = (error.strerror or type(error).__name__).lower()
            raise VaultError(f"{self.folder}: cannot be written: {why}") from None

    def read(self, path: Path) -> Kept:
        """Raises VaultError: it is gone, broken, or of another key."""
        from cryptography.exceptions import InvalidTag

        try:
            with path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX)
            start = len(MAGIC) + NONCE_BYTES
            opened = self._cipher.decrypt(
                data[len(MAGIC) : start], data[start:], path.name.encode()
            )
            length = int.from_bytes(opened[:4], "big")
            header = orjson.loads(opened[4 : 4 + length])
            label = header.pop("label")
            return Kept(
                **header,
                label=None if label is None else Label(label),
                window=opened[4 + length :],
            )
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise VaultError(f"{path.name}: {why}") from None
        except InvalidTag:
            raise VaultError(f"{path.name}: not written with this bargein.learn.secret") from None
        except (ValueError, TypeError, KeyError):
            raise VaultError(f"{path.name}: not a window of this version") from None

    def relabel(self, path: Path, label: Label, confidence: float) -> None:
        """A person's label, in place of what followed. Raises VaultError."""
        kept = replace(self.read(path), label=label, confidence=confidence, by="person")
        self._write(path, kept)

    def path_of(self, name: str) -> Path | None:
        """The file of that name; None: no window has such a name."""
        return self.folder / name if _NAME.fullmatch(name) else None

    def files(self) -> list[Path]:
        """All windows, the oldest first. Raises VaultError."""
        return sorted(path for path, _ in self._listed())

    def _listed(self) -> Iterator[tuple[Path, int]]:
        """Files and their bytes; what is none of ours is left alone."""
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if _NAME.fullmatch(entry.name):
                        try:
                            yield Path(entry.path), entry.stat().st_size
                        except FileNotFoundError:  # another process has deleted it
                            continue
        except FileNotFoundError:
            return
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise VaultError(f"{self.folder}: cannot be listed: {why}") from None

    def forget(self, name: str | None) -> int:
        """Delete what is kept of the room or job `name`, or everything; how much it was. Raises
        VaultError."""
        wanted = None if name is None else self.tag(name)
        gone = 0
        for path in self.files():
            match = _NAME.fullmatch(path.name)
            assert match is not None
            if wanted is None or wanted in match.group(2, 3):
                self._delete(path)
                gone += 1
        return gone

    def _delete(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise VaultError(f"{path}: cannot be deleted: {why}") from None

    def bound(self, windows_max: int, bytes_max: int, oldest_at: float) -> int:
        """Delete what is from before `oldest_at` (Unix seconds), and the oldest of what is too
        much; how many. Raises VaultError."""
        listed = sorted(self._listed(), reverse=True)
        bytes_left, gone = bytes_max, 0
        for number, (path, size) in enumerate(listed):
            bytes_left -= size
            old = int(path.name[:13]) < oldest_at * 1000
            if old or number >= windows_max or bytes_left < 0:
                self._delete(path)
                gone += 1
        return gone
