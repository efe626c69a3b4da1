"""What an answer used whose provider did not say it, mostly because the client left: interruptions
are a voice agent's daily bread, and the provider bills what it has made until then. Pure."""

from __future__ import annotations

from typing import Final

from gateway.conversations.chat.session import Report
from gateway.telemetry.outcome import Try
from gateway.upstreams.chat import ChatRequest, Usage

BYTES_PER_TOKEN: Final = 4
"""Of English text, and of the JSON around it."""

EVENT_BYTES: Final = 250
"""An SSE event without its text: id, model, names of fields."""

IMAGE_TOKENS: Final = 800
"""An image of a megapixel; providers count between 85 and 1600."""


def usage_of(one: Try, report: Report, request: ChatRequest) -> tuple[Usage | None, bool]:
    """What a try used, and whether that is estimated. None: it is not billed as far as we know (it
    failed before its answer, or was never sent)."""
    if one.usage is not None:
        return one.usage, False
    served = report.usage
    if one is report.served:
        return Usage(prompt_tokens(request), completion_tokens(report)), True
    if one.lost and served is not None:
        # another was faster: the prompt was read, and is the same for both
        return Usage(served.prompt, 0, served.cached), True
    if one.asked and (one.lost or one.left):
        return Usage(prompt_tokens(request), 0), True
    return None, False


def prompt_tokens(request: ChatRequest) -> int:
    """Tokens of the request's messages and tools."""
    if "image_url" not in request.marks:
        return max(1, request.size_bytes // BYTES_PER_TOKEN)
    characters = images = 0
    for message in request.body["messages"]:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            characters += len(content)
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, dict):
                continue
            images += part.get("type") == "image_url"
            text = part.get("text")
            characters += len(text) if isinstance(text, str) else 0
    return max(1, characters // BYTES_PER_TOKEN + images * IMAGE_TOKENS)


def completion_tokens(report: Report) -> int:
    """Tokens of what was delivered. Most providers send one in each event; with more text than
    that in it, its length counts."""
    text_bytes = report.bytes_out - EVENT_BYTES * report.events_out
    return max(report.events_out, text_bytes // BYTES_PER_TOKEN)
