"""Who may see the operator's page: a token, asked for once, then a cookie."""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

COOKIE: Final = "parley_page"

VISIT_S: Final = 12 * 3600.0
"""So long a visitor is known."""

VISITS_MAX: Final = 64
"""Visitors that are known at once; the oldest is forgotten first."""

WRONG_MAX: Final = 10
"""Wrong tokens in a window, by anybody; then nobody is let in until it is over."""

WRONG_WINDOW_S: Final = 60.0


class Access:
    """One for each process. Times are seconds of a clock that only goes forward."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._visits: OrderedDict[str, float] = OrderedDict()
        self._wrong = 0
        self._window_ends = 0.0

    def bears(self, token: str, now: float) -> bool:
        """Whether this is the token, of a program that sends it with each request; False, too,
        after too many wrong ones."""
        if now >= self._window_ends:
            self._wrong, self._window_ends = 0, now + WRONG_WINDOW_S
        if self._wrong >= WRONG_MAX:
            return False
        if not hmac.compare_digest(token.encode(), self._token):
            self._wrong += 1
            return False
        return True

    def enter(self, token: str, now: float) -> str | None:
        """The cookie of a new visit; None: the token is wrong, or there were too many such."""
        if not self.bears(token, now):
            return None
        cookie = secrets.token_urlsafe(32)
        self._visits[cookie] = now + VISIT_S
        if len(self._visits) > VISITS_MAX:
            self._visits.popitem(last=False)
        return cookie

    def knows(self, cookie: str | None, now: float) -> bool:
        """Whether this is the cookie of a visit."""
        return cookie is not None and self._visits.get(cookie, 0.0) > now

    def leave(self, cookie: str | None) -> None:
        """The visitor is done."""
        if cookie is not None:
            self._visits.pop(cookie, None)


def same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of ours sent this: other pages may send requests too, and
    open WebSockets, with our cookie."""
    host = headers.get("host")
    return bool(host) and headers.get("origin", "").partition("://")[2] == host
