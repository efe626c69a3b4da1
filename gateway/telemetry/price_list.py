"""What models cost at their vendors: list prices for those who pay as they go, in US dollars,
without taxes, credits and agreements of one's own. `prices` in the configuration comes before it,
and `usage.shipped_prices: false` leaves it out. A model whose list price depends on a plan is not
here: `gateway check` names those without a price.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.settings.prices import Price

AS_OF: Final = "2026-11-30"
"""When the list was put together; the comments say when a vendor's page was read last."""


def _tokens(
    input: float,
    output: float,
    cached: float | None = None,
    write: float | None = None,
) -> Price:
    return Price(input=input, output=output, cached_input=cached, cache_write=write)


def _voice(text: Price, input: float, output: float, cached: float) -> Price:
    """`text`, and what tokens of audio cost."""
    return text.model_copy(
        update={"audio_input": input, "audio_output": output, "cached_audio_input": cached}
    )


SHIPPED: Final[Mapping[str, Price]] = {
    # https://openai.com/api/pricing and https://developers.openai.com/api/docs/pricing, standard
    # processing, contexts below 270,000 tokens; June 2026
    "openai:gpt-5.5": _tokens(5.0, 30.0, 0.5),
    "openai:gpt-5.4": _tokens(2.5, 15.0, 0.25),
    "openai:gpt-5.4-mini": _tokens(0.75, 4.5, 0.075),
    "openai:gpt-5.4-nano": _tokens(0.2, 1.25, 0.02),
    "openai:gpt-5.2": _tokens(1.75, 14.0, 0.175),
    "openai:gpt-5.1": _tokens(1.25, 10.0, 0.125),
    "openai:gpt-5": _tokens(1.25, 10.0, 0.125),
    "openai:gpt-5-mini": _tokens(0.25, 2.0, 0.025),
    "openai:gpt-5-nano": _tokens(0.05, 0.4, 0.005),
    "openai:gpt-4.1": _tokens(2.0, 8.0, 0.5),
    "openai:gpt-4.1-mini": _tokens(0.4, 1.6, 0.1),
    "openai:gpt-4.1-nano": _tokens(0.1, 0.4, 0.025),
    "openai:gpt-4o": _tokens(2.5, 10.0, 1.25),
    "openai:gpt-4o-mini": _tokens(0.15, 0.6, 0.075),
    # https://developers.openai.com/api/docs/models/gpt-realtime-2.1 and the pages of the others,
    # November 2026; pictures are counted as text, which is a fifth cheaper
    "openai:gpt-realtime": _voice(_tokens(4.0, 16.0, 0.4), 32.0, 64.0, 0.4),
    "openai:gpt-realtime-1.5": _voice(_tokens(4.0, 16.0, 0.4), 32.0, 64.0, 0.4),
    "openai:gpt-realtime-2": _voice(_tokens(4.0, 24.0, 0.4), 32.0, 64.0, 0.4),
    "openai:gpt-realtime-2.1": _voice(_tokens(4.0, 24.0, 0.4), 32.0, 64.0, 0.4),
    "openai:gpt-realtime-mini": _voice(_tokens(0.6, 2.4, 0.06), 10.0, 20.0, 0.3),
    "openai:gpt-realtime-2.1-mini": _voice(_tokens(0.6, 2.4, 0.06), 10.0, 20.0, 0.3),
    # the vendor's own estimates a minute, April 2026: it counts tokens of audio
    "openai:gpt-4o-transcribe": Price(audio_minute=0.006),
    "openai:gpt-4o-mini-transcribe": Price(audio_minute=0.003),
    "openai:whisper-1": Price(audio_minute=0.006),
    "openai:gpt-4o-mini-tts": Price(audio_minute=0.015),
    "openai:tts-1": Price(characters=15.0),
    "openai:tts-1-hd": Price(characters=30.0),
    # https://platform.claude.com/docs/en/about-claude/pricing, November 2026; writes to the cache
    # that lasts five minutes
    "anthropic:claude-opus-4-6": _tokens(5.0, 25.0, 0.5, 6.25),
    "anthropic:claude-sonnet-4-6": _tokens(3.0, 15.0, 0.3, 3.75),
    "anthropic:claude-haiku-4-5": _tokens(1.0, 5.0, 0.1, 1.25),
    # https://ai.google.dev/gemini-api/docs/pricing, prompts up to 200,000 tokens; 2026
    "google:gemini-2.5-pro": _tokens(1.25, 10.0, 0.125),
    "google:gemini-2.5-flash": _tokens(0.3, 2.5, 0.03),
    "google:gemini-2.5-flash-lite": _tokens(0.1, 0.4, 0.01),
    # https://deepgram.com/pricing, streaming; Nova-3 on 1 August 2026 (English; `multi` is 0.0058),
    # Flux on 4 November 2026
    "deepgram:nova-3": Price(audio_minute=0.0048),
    "deepgram:flux-general": Price(audio_minute=0.0065),
    "deepgram:flux-general-en": Price(audio_minute=0.0065),
    "deepgram:flux-general-multi": Price(audio_minute=0.0078),
    # https://www.assemblyai.com/pricing, streaming, May 2026: 0.15 and 0.45 an hour of an open
    # connection, which is an hour of audio for an agent that listens
    "assemblyai:universal-streaming-english": Price(audio_minute=0.0025),
    "assemblyai:universal-streaming-multilingual": Price(audio_minute=0.0025),
    "assemblyai:u3-rt-pro": Price(audio_minute=0.0075),
}
"""By vendor and its own name of the model."""
