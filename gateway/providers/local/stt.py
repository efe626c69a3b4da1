"""Whisper on this machine, so that /stt works without anybody's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.engines.whisper import installed
from gateway.providers._shared import options
from gateway.providers._shared.options import TEXT, Table
from gateway.providers._shared.utterances import CUTTING, UtteranceRecognizer, cutting
from gateway.providers.local.settings import LocalSettings
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import LocalModel, LocalTarget, Recognizer
from gateway.weights import fetch

WHISPER_BASE: Final = "whisper-base"

EARLY_S: Final = 0.2
"""Shorter than nearly every pause between sentences, longer than most stops inside words."""

_OPTIONS: Final[Table] = {"prompt": TEXT, **CUTTING}


def can_transcribe() -> bool:
    """Whether the extra is installed and weights have been fetched."""
    return installed() and fetch.present(WHISPER_BASE) is not None


class LocalStt:
    """The adapter. Models are the fetched one and those that the configuration names."""

    def __init__(self, account: Account[LocalSettings]) -> None:
        self._settings = account.settings

    def check(self, given: Mapping[str, Any]) -> Failure | None:
        return options.check(given, _OPTIONS)

    def translate(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return options.translated(extra, terms="keyterms", speakers=None)

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        settings = self._settings
        path = settings.whisper.get(attempt.model)
        refused = None
        if path is None and attempt.model == WHISPER_BASE:
            folder = fetch.present(WHISPER_BASE)
            path = str(folder) if folder is not None else None
        if not installed() or path is None:
            # a client may not make this machine download whatever it names
            refused = Failure(Kind.UPSTREAM_NOT_FOUND, "the local engine has no such model")
        model = LocalModel(
            attempt.model,
            path or "",
            settings.whisper_device or settings.device,
            settings.whisper_compute_type,
            settings.whisper_threads,
            settings.whisper_workers,
        )
        given = options.known(attempt.options, _OPTIONS)
        language = options.base_language(attempt.language)
        engine = LocalTarget(
            model,
            replace(cutting(given), early_s=EARLY_S),
            language=None if language == "multi" else language,
            prompt=given.get("prompt", ""),
            refused=refused,
        )
        return UtteranceRecognizer(attempt, engine)
