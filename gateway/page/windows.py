"""Kept windows of interruptions on the operator's page: a list, sounds, labels.

GET    /ui/api/windows         {"on": true, "windows": [{"name", "at", "seconds", "claim", ...}]}
GET    /ui/api/windows/NAME    the sound, as WAV
POST   /ui/api/windows/NAME    {"label": "interruption", "backchannel" or "noise"}
DELETE /ui/api/windows/NAME

They lie on the machine that serves the page; of other machines each page shows its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.engines.interruption import labelling
from gateway.engines.interruption.disputed import Label
from gateway.engines.interruption.vault import Vault, VaultError
from gateway.settings.bargein import LearnConfig
from gateway.telemetry.changes import ChangeLog

LOOKED_AT_MAX: Final = 500
"""The newest windows, among which is looked for what waits for a label."""

SHOWN_MAX: Final = 100
BODY_BYTES_MAX: Final = 1024

Serve = Callable[[Request], Awaitable[Response]]


class Windows:
    """Who listens is kept in `changes`, once for each list."""

    def __init__(self, learn: Callable[[], LearnConfig], changes: ChangeLog) -> None:
        self._learn = learn
        self._changes = changes

    def routes(self) -> Iterator[tuple[str, str, Serve]]:
        """Path, method and who serves it."""
        one = "/ui/api/windows/{name}"
        yield "/ui/api/windows", "GET", self._list
        yield one, "GET", self._sound
        yield one, "POST", self._label
        yield one, "DELETE", self._delete

    async def _list(self, request: Request) -> Response:
        vault = labelling.vault_of(self._learn())
        if vault is None:
            return _json({"on": False, "windows": []})
        if "only" in request.query_params:  # whether there is anything to show
            return _json({"on": True, "windows": []})
        client = request.client.host if request.client is not None else ""
        await asyncio.to_thread(self._changes.note, "page", client, {"windows": "listed"})
        try:
            return _json({"on": True, "windows": await asyncio.to_thread(_waiting, vault)})
        except VaultError as error:
            return _wrong(str(error), 404)

    async def _sound(self, request: Request) -> Response:
        def read(vault: Vault, name: str) -> bytes:
            path = vault.path_of(name)
            if path is None:
                raise VaultError("there is no such window")
            return labelling.wav(vault.read(path))

        return await self._done(request, read)

    async def _label(self, request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                return _wrong("the body is too large", 413)
        try:
            label = Label(orjson.loads(body)["label"])
        except (ValueError, TypeError, KeyError):
            return _wrong(f"label: expected one of {', '.join(Label)}", 400)

        def relabel(vault: Vault, name: str) -> None:
            path = vault.path_of(name)
            if path is None:
                raise VaultError("there is no such window")
            vault.relabel(path, label, labelling.SURE)

        return await self._done(request, relabel)

    async def _delete(self, request: Request) -> Response:
        def delete(vault: Vault, name: str) -> None:
            if (path := vault.path_of(name)) is not None:
                path.unlink(missing_ok=True)

        return await self._done(request, delete)

    async def _done(self, request: Request, do: Callable[[Vault, str], bytes | None]) -> Response:
        vault = labelling.vault_of(self._learn())
        if vault is None:
            return _wrong("bargein.learn.secret is not set", 404)
        try:
            found = await asyncio.to_thread(do, vault, request.path_params["name"])
        except (VaultError, OSError) as error:
            return _wrong(str(error), 404)
        if found is None:
            return _json({})
        return Response(found, media_type="audio/wav", headers={"cache-control": "no-store"})


def _waiting(vault: Vault) -> list[dict[str, Any]]:
    kept = []
    for path in vault.files()[-LOOKED_AT_MAX:]:
        try:
            kept.append((path, vault.read(path)))
        except VaultError:
            continue
    return [
        {
            "name": path.name,
            "at": one.at,
            "seconds": len(one.window) / 2 / labelling.RATE,
            "claim": one.claim,
            "threshold": one.threshold,
            "detected": one.detected,
            "label": one.label,
            "confidence": one.confidence,
        }
        for path, one in labelling.waiting(kept)[:SHOWN_MAX]
    ]


def _wrong(why: str, status: int) -> Response:
    return Response(
        orjson.dumps({"error": {"message": why}}), status, media_type="application/json"
    )


def _json(body: Any) -> Response:
    return Response(
        orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"}
    )
