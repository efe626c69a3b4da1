"""Names of requests: ours, which a provider is told, and the provider's own, which it tells. Pure.

A fault is found at a provider by its own name of the request, or by ours where it keeps that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gateway.upstreams.dial import Dial

HEADER: Final = "x-request-id"
"""What servers of one's own (vLLM, LiteLLM, any proxy) write into their logs; vendors ignore it."""

_TOLD: Final = (
    "x-request-id",  # OpenAI and who follows it, ElevenLabs, Groq
    "request-id",  # Anthropic, Cartesia
    "apim-request-id",  # Azure
    "dg-request-id",  # Deepgram
    "x-generation-id",  # OpenRouter
)
"""Headers of answers with the provider's own name of the request."""

_ID: Final = re.compile(r"[!-~]{1,128}")
"""Visible characters, bounded for the log."""


def named(dial: Dial, request_id: str) -> Dial:
    """`dial` with our name of the request, unless its adapter has one of its own. Not for sockets
    that several requests share."""
    if not request_id or HEADER in dial.headers:
        return dial
    return replace(dial, headers={**dial.headers, HEADER: request_id})


def told_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own name of a request in the headers of its answer (names in lower case), if
    it is one."""
    for name in _TOLD:
        if (told := headers.get(name)) is not None and _ID.fullmatch(told):
            return told
    return None
