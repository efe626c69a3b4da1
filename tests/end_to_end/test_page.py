"""The operator's page in a real browser, with a microphone that plays a recording."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import wave
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Literal

import aiohttp
import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from gateway.engines.interruption.disputed import Label
from gateway.engines.interruption.vault import Kept, Vault
from tests.end_to_end.conftest import recordings
from tests.end_to_end.server import Server, running
from tests.end_to_end.tts_wire import token
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken
from tests.services import needed

TOKEN = "the-token-of-this-page"
WORDS = VOCABULARY[:5]
LONG_MS = 30_000.0
"""How long a browser on a busy machine may take for anything."""

CONFIG = """
page: {{token: {token}}}
usage: {{url: "sqlite:{usage}", flush_s: 0.2}}
local_stand_in: false
providers:
  deepgram: {{base_url: "{ears}", api_key: {key}}}
  cartesia: {{base_url: "{voice}", api_key: {key}}}
  openai: {{base_url: "{chat}", api_key: {key}}}
  broken: {{type: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: {key}}}
models:
  openai/gpt-4.1-mini: [{{provider: broken, model: m}}, {{provider: openai, model: gpt-4.1-mini}}]
"""


@contextmanager
def serving(folder: Path, more: str = "") -> Iterator[Server]:
    with ExitStack() as stack:
        config = CONFIG.format(
            token=TOKEN,
            usage=folder / "usage.sqlite",
            ears=stack.enter_context(FakeDeepgram()).url,
            voice=stack.enter_context(FakeCartesia()).url,
            chat=stack.enter_context(FakeOpenAI()).base_url,
            key=KEY,
        )
        yield stack.enter_context(running(folder, config + more))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("page")) as server:
        yield server


def browser(playing: Playwright, stack: ExitStack, microphone: Path) -> Browser:
    """Chromium whose microphone plays a file, again and again."""
    started = playing.chromium.launch(
        executable_path=needed("chromium"),
        args=[
            "--no-sandbox",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}",
            "--autoplay-policy=no-user-gesture-required",
            "--disable-background-networking",
        ],
    )
    stack.callback(started.close)
    return started


@pytest.fixture(scope="module")
def microphones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    words = tmp_path_factory.mktemp("microphone") / "words.wav"
    with wave.open(str(words), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(hush(0.5) + spoken(WORDS) + hush(1.5))
    speech = next(one for one in recordings() if one.label == "interruption")
    return {"words": words, "speech": speech.path}


@pytest.fixture(scope="module")
def browsers(microphones: dict[str, Path]) -> Iterator[dict[str, Browser]]:
    with ExitStack() as stack:
        playing = stack.enter_context(sync_playwright())
        yield {name: browser(playing, stack, path) for name, path in microphones.items()}


@pytest.fixture
def page(server: Server, browsers: dict[str, Browser]) -> Iterator[Page]:
    with browsers["words"].new_context(base_url=server.admin_url) as context:
        yield entered(context.new_page())


def entered(page: Page) -> Page:
    """The page, past its token; nothing of it may fail or come from elsewhere."""
    page.set_default_timeout(LONG_MS)
    expect.set_options(timeout=LONG_MS)
    page.on("pageerror", lambda error: pytest.fail(f"the page failed: {error}"))
    page.goto("/ui/")
    page.get_by_label("Token of this page").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#state")).to_have_text("ready")
    return page


def photograph(page: Page, name: str) -> None:
    """Keep a picture where somebody wants to look at it."""
    if folder := os.environ.get("PARLEY_SCREENSHOTS"):
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_a_reply_is_streamed_and_the_provider_that_failed_is_named(page: Page) -> None:
    page.locator("#chat-model").select_option("openai/gpt-4.1-mini")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#chat-said")).to_contain_text("first token after")
    failed = page.locator("#failures tbody tr").first
    expect(failed).to_contain_text("broken m: upstream_unreachable")
    expect(failed).to_contain_text("served by another")
    expect(page.locator("#latencies")).to_contain_text("first token")
    page.get_by_label("Provider").fill("cartesia")
    expect(page.locator("#failures")).to_contain_text("nothing")
    page.get_by_label("Provider").fill("")
    photograph(page, "chat")


def test_a_voice_speaks_and_says_how_soon(page: Page) -> None:
    page.get_by_label("Voice of").select_option("cartesia/sonic-3")
    page.get_by_role("button", name="Say it").click()
    expect(page.locator("#tts-said")).to_have_text(
        re.compile(r"first audio after \d+ ms, [1-9][\d.]* s of speech")
    )


def test_two_recognisers_hear_one_microphone(page: Page) -> None:
    page.locator("#stt-a").select_option("deepgram/nova-3")
    page.locator("#stt-b").select_option("deepgram/nova-2")
    page.get_by_role("button", name="Speak").click()
    for one in ("a", "b"):
        expect(page.locator(f"#stt-{one}-text")).to_contain_text(WORDS[2])
    expect(page.locator("#calls tbody tr")).to_have_count(2)
    photograph(page, "listening")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#calls")).to_contain_text("nobody")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "width"), [("telephone", 360), ("desk", 1280)])
def test_a_person_sees_all_of_it_on_a_telephone_and_in_the_dark(
    server: Server,
    browsers: dict[str, Browser],
    device: str,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    with browsers["words"].new_context(
        base_url=server.admin_url,
        viewport={"width": width, "height": 740},
        color_scheme=scheme,
    ) as context:
        page = entered(context.new_page())
        expect(page.locator("#failures")).to_contain_text("ago" if width > 700 else "chat")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
        photograph(page, f"{device}-{scheme}")


def test_everything_can_be_reached_by_the_keyboard(page: Page) -> None:
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert {"stt-go", "tts-go", "chat-go", "bargein-go", "bargein-threshold", "key"} <= reached


CALLS = 12
"""Connections: that all of them go to one of two workers happens once in two thousand times."""


async def calling(server: Server, seen: asyncio.Event, done: asyncio.Event) -> None:
    """CALLS sessions, each of a room of its own; `seen` is set when all are open."""
    async with AsyncExitStack() as stack:
        for number in range(CALLS):
            http = await stack.enter_async_context(aiohttp.ClientSession())
            headers = {
                "authorization": f"Bearer {token(server)}",
                "x-livekit-room-id": f"RM_{number}",
            }
            url = f"{server.url}/stt?model=deepgram/nova-3"
            await stack.enter_async_context(http.ws_connect(url, headers=headers))
        seen.set()
        await done.wait()


def test_a_page_of_several_workers_shows_the_calls_of_all_and_its_bench_works(
    tmp_path: Path, browsers: dict[str, Browser]
) -> None:
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opened, done = asyncio.Event(), asyncio.Event()
    with (
        serving(tmp_path, "server: {workers: 2}\n") as server,
        browsers["words"].new_context(base_url=server.admin_url) as context,
    ):
        calls = asyncio.run_coroutine_threadsafe(calling(server, opened, done), loop)
        try:
            asyncio.run_coroutine_threadsafe(opened.wait(), loop).result(60)
            page = entered(context.new_page())
            expect(page.locator("#calls tbody tr")).to_have_count(CALLS)
            expect(page.locator("#numbers")).to_contain_text("2 of 2")
            page.get_by_label("Room").fill("RM_1")
            expect(page.locator("#calls tbody tr")).to_have_count(3)  # RM_1, RM_10, RM_11
            page.get_by_label("Room").fill("")
            page.locator("#chat-model").select_option("openai/gpt-4.1-mini")
            page.get_by_role("button", name="Ask").click()
            expect(page.locator("#chat-said")).to_contain_text("first token after")
            expect(page.locator("#failures")).to_contain_text("broken m: upstream_unreachable")
            page.get_by_label("Voice of").select_option("cartesia/sonic-3")
            page.get_by_role("button", name="Say it").click()
            expect(page.locator("#tts-said")).to_contain_text("s of speech")
            page.locator("#stt-a").select_option("deepgram/nova-3")
            page.get_by_role("button", name="Speak").click()
            expect(page.locator("#stt-a-text")).to_contain_text(WORDS[2])
            photograph(page, "workers")
            # what workers tell the supervisor is for nobody else on this port
            for path in ("/page/told", "/x/../page/costs", "/page//models", "/ui/api/now"):
                assert server.fetch(server.admin_url + path)[0] in (401, 404), path
            assert server.fetch(f"{server.admin_url}/inference/models")[0] == 401
            page.get_by_role("button", name="Stop").click()
        finally:
            loop.call_soon_threadsafe(done.set)
            calls.result(60)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def test_talking_over_the_agent_draws_a_probability_and_silences_it(
    server: Server, browsers: dict[str, Browser]
) -> None:
    with browsers["speech"].new_context(base_url=server.admin_url) as context:
        page = entered(context.new_page())
        page.get_by_role("button", name="Begin").click()
        expect(page.locator("#bargein-said")).to_contain_text("interrupted at")
        photograph(page, "interrupted")
        page.get_by_role("button", name="Stop").click()


def test_what_the_model_was_unsure_of_is_heard_and_labelled_by_keys(
    tmp_path: Path, browsers: dict[str, Browser]
) -> None:
    key = bytes(range(32))
    secret = base64.b64encode(key).decode()
    vault = Vault(tmp_path / "learn", key)
    about = Kept(
        1_790_000_000.0, "RM_1", "AJ_1", "APIone", "0.11.1", 0.5, 0.5, True, 1.0, hush(0.5)
    )  # fmt: skip
    kept = [vault.add(replace(about, claim=0.5 + 0.1 * number)) for number in range(3)]
    more = f"bargein: {{learn: {{secret: '{secret}', folder: '{vault.folder.parent}'}}}}\n"
    with (
        serving(tmp_path, more) as server,
        browsers["words"].new_context(base_url=server.admin_url) as context,
    ):
        page = entered(context.new_page())
        page.locator("#windows-go").click()
        said = page.locator("#windows-said")
        expect(said).to_contain_text("1 of 3")
        page.keyboard.press("i")
        expect(said).to_contain_text("2 of 3")
        page.get_by_role("button", name="Backchannel").click()
        expect(said).to_contain_text("3 of 3")
        page.keyboard.press("s")
        expect(said).to_have_text("2 labelled; nothing more waits")

    assert [vault.read(path).label for path in kept] == [Label.FLOOR, Label.BACKCHANNEL, None]


def test_who_learns_from_nothing_is_shown_no_windows(page: Page) -> None:
    expect(page.locator("#windows")).to_be_hidden()
