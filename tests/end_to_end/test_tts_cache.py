"""Greetings from the cache of the real server, and a hedge of the first audio."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.server import running
from tests.end_to_end.tts_wire import opened
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.voices import render

GREETING = ("Hello there my friend. ", "How can I help you? ")


async def test_a_greeting_is_said_again_without_its_provider_even_after_a_restart(
    tmp_path: Path,
) -> None:
    with FakeCartesia() as fake:
        config = (
            f'providers: {{cartesia: {{base_url: "{fake.url}", api_key: k}}}}\n'
            f'tts: {{cache: {{enabled: true, directory: "{tmp_path / "clips"}"}}}}\n'
        )
        with running(tmp_path, config) as server:
            async with opened(server, "cartesia/sonic-3") as client:
                first = await client.say(*GREETING)
                again = await client.say(*GREETING)
            assert server.metric("parley_tts_cache_total", outcome="hit") == 2
        assert len(fake.said) == 2
        with running(tmp_path, config) as server:
            async with opened(server, "cartesia/sonic-3") as client:
                restarted = await client.say(*GREETING)
        assert len(fake.said) == 2
    wanted = b"".join(render(text) for text in GREETING)
    for heard in (first, again, restarted):
        assert heard.types[-1] == "done"
        assert heard.audio == wanted
        assert [w["word"].strip() for w in heard.words] == "".join(GREETING).split()
    print(f"\nfirst audio from the cache after {1000 * (again.first_audio_s or 0):.1f} ms")


async def test_a_slow_provider_is_overtaken_by_its_hedge(tmp_path: Path) -> None:
    with FakeCartesia(first_s=30.0) as slow, FakeCartesia() as quick:
        config = f"""
tts: {{hedge_after_s: 0.2, first_audio_timeout_s: 20}}
providers:
  slow: {{type: cartesia, base_url: "{slow.url}", api_key: k}}
  quick: {{type: cartesia, base_url: "{quick.url}", api_key: k}}
models:
  both:
    - {{provider: slow, model: sonic-3}}
    - {{provider: quick, model: sonic-3}}
"""
        with running(tmp_path, config) as server:
            async with opened(server, "both") as client:
                heard = await client.say(*GREETING)
            assert slow.wait_until(lambda: slow.cancelled)
    assert heard.audio == b"".join(render(text) for text in GREETING)
