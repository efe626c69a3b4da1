"""Responses that are kept, for `previous_response_id` and GET /responses/{id}. Pure.

In memory, for each API key apart: nobody reads another's. What is kept goes when the server ends,
when it is old, and when there is too much of it: the oldest first, of a key with too many and of
all where there are too many bytes. A conversation of many turns is kept once: each response holds
references to the items before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

REFERENCE_BYTES: Final = 8
"""What an item costs that another response has too."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One response: itself, what the client gave, and the conversation up to its end, all of it
    JSON. `own` counts the client's items of this turn."""

    response: bytes
    items: tuple[bytes, ...]
    own: int
    outputs: int
    size: int
    ends_at: float

    @property
    def inputs(self) -> list[Any]:
        """The client's items of this turn."""
        end = len(self.items) - self.outputs
        return [orjson.loads(one) for one in self.items[end - self.own : end]]

    @property
    def length(self) -> int:
        """Length of all items up to its end."""
        return sum(map(len, self.items))

    @property
    def conversation(self) -> list[Any]:
        """All items up to its end."""
        return [orjson.loads(one) for one in self.items]


class ResponsesStore:
    """At most `per_key` responses of a key and `bytes_max` bytes of all, each for `age_s`."""

    def __init__(self, per_key: int, bytes_max: int, age_s: float) -> None:
        self.per_key = per_key
        self.bytes_max = bytes_max
        self.age_s = age_s
        self.size = 0
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._of_key: dict[str, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def bound(self, per_key: int, bytes_max: int, age_s: float) -> None:
        """Go on with other bounds."""
        self.per_key, self.bytes_max, self.age_s = per_key, bytes_max, age_s
        self._shrink()

    def put(
        self,
        key: str,
        response: Mapping[str, Any],
        own: Sequence[Any],
        before: Kept | None,
        now: float,
    ) -> None:
        """Keep a response of `key`. `own`: the client's items of this turn; `before`: the response
        that it named as the one before, if it did."""
        name = response.get("id")
        if not isinstance(name, str) or not self.per_key:
            return
        output = response.get("output")
        output = output if isinstance(output, list) else []
        new = tuple(orjson.dumps(one) for one in (*own, *output))
        shared = () if before is None else before.items
        written = orjson.dumps(response)
        size = len(written) + sum(map(len, new)) + REFERENCE_BYTES * (len(shared) + len(new))
        self.delete(key, name)
        if size > self.bytes_max:
            return
        kept = Kept(written, (*shared, *new), len(own), len(output), size, now + self.age_s)
        self._kept[key, name] = kept
        self.size += size
        names = self._of_key.setdefault(key, OrderedDict())
        names[name] = None
        if len(names) > self.per_key:
            self.delete(key, next(iter(names)))
        self._expire(now)
        self._shrink()

    def get(self, key: str, name: str, now: float) -> Kept | None:
        """The response `name` of `key`; None: it is not kept, or is another's."""
        kept = self._kept.get((key, name))
        if kept is None or now >= kept.ends_at:
            return None
        return kept

    def delete(self, key: str, name: str) -> bool:
        """Forget one; False: it was not kept."""
        kept = self._kept.pop((key, name), None)
        if kept is None:
            return False
        self.size -= kept.size
        names = self._of_key[key]
        del names[name]
        if not names:
            del self._of_key[key]
        return True

    def forget(self, key: str) -> None:
        """Forget all of a key."""
        for name in tuple(self._of_key.get(key, ())):
            self.delete(key, name)

    def _expire(self, now: float) -> None:
        while self._kept:
            (key, name), kept = next(iter(self._kept.items()))
            if now < kept.ends_at:
                return
            self.delete(key, name)

    def _shrink(self) -> None:
        while self.size > self.bytes_max and self._kept:
            self.delete(*next(iter(self._kept)))
