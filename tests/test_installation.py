"""What a new configuration takes over from the one before, and when that ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway, create_app
from gateway.config import load
from gateway.installation import PATHS
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from tests.fakes import frame_model
from tests.test_gateway import SECRET, scope

OPENAI, CARTESIA = "openai: {api_key: k}", "cartesia: {api_key: k}"
REFUSED = Failure(Kind.UPSTREAM_AUTH, "no", upstream_status=401)
ASKED = Attempt("openai", "gpt-4.1-mini")


class Site:
    """A gateway and its file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = frame_model.write(folder / "m.onnx")
        self.gateway = Gateway(self.config())

    def config(self, providers: str = f"{OPENAI}, {CARTESIA}", more: str = "") -> Any:
        file = self.folder / "c.yaml"
        file.write_text(f"""
keys: {{key: {SECRET}}}
bargein: {{model: {self.model}}}
usage: {{enabled: false}}
quota: {{keys: {{key: {{requests_per_minute: 1}}}}}}
providers: {{{providers}}}
{more}
""")
        return load(file, {"PARLEY_CACHE": str(self.folder)})

    async def use(self, *given: str) -> None:
        await self.gateway.use(self.config(*given))

    def open(self) -> asyncio.Task[None]:
        """A session of /bargein that says nothing."""

        async def nothing() -> Any:
            return await asyncio.Future()

        async def send(message: Any) -> None: ...

        app = create_app(self.gateway)
        return asyncio.create_task(app(scope("websocket", "/bargein"), nothing, send))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await made.gateway.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_health_and_quotas_go_on_where_nothing_changed(site: Site) -> None:
    first = site.gateway.installation
    assert await first.quota.purse("key", "chat").enter("m", (ASKED,)) == (ASKED,)
    first.breaker.failed(ASKED, REFUSED, 0.0)
    await site.use(f"{OPENAI}, {CARTESIA}, groq: {{api_key: k}}")
    second = site.gateway.installation
    assert second is not first
    assert second.breaker.resting(ASKED, 1.0)
    assert isinstance(await second.quota.purse("key", "chat").enter("m", (ASKED,)), Failure)
    await site.use("openai: {api_key: renewed}")
    third = site.gateway.installation
    assert not third.breaker.resting(ASKED, 1.0), "another key may be a good one"


async def test_the_one_before_ends_with_its_last_session(site: Site) -> None:
    first = site.gateway.installation
    session = site.open()
    await until(lambda: first.open == 1)
    ended: list[object] = []
    for route in (first.tts, first.chat):
        route.end = _noting(ended)  # type: ignore[method-assign]
    await site.use("openai: {api_key: renewed}", "prices: {'openai:m': {input: 1}}")
    assert site.gateway.admission.quota is site.gateway.installation.quota
    await site.use(CARTESIA)
    assert ended == []
    session.cancel()
    await asyncio.gather(session, return_exceptions=True)
    await until(lambda: len(ended) == 3)
    # its /tts voices of both providers, its chat of the one: nobody else had them
    assert set(ended) == {
        first.adapters.tts["openai"],
        first.adapters.tts["cartesia"],
        first.adapters.chat["openai"],
    }


def _noting(ended: list[object]) -> Any:
    async def end(adapter: object) -> None:
        ended.append(adapter)

    return end


async def test_metrics_of_a_provider_that_was_removed_are_gone(site: Site) -> None:
    def told() -> set[str]:
        samples = [s for m in site.gateway.metrics.resting.collect() for s in m.samples]
        return {s.labels["provider"] for s in samples}

    before = told()
    assert {"openai", "cartesia"} <= before
    await site.use(OPENAI)
    assert before - told() == {"cartesia"}


async def test_a_place_that_a_new_configuration_adds_is_given_at_once(site: Site) -> None:
    fast = "models: {fast: [{provider: openai, model: gpt-4.1-mini, concurrency: %d}]}"
    await site.use(OPENAI, fast % 1)
    slots = site.gateway.installation.chat._shared.slots
    held, waits = (slots.ask(ASKED, 1, 0.0) for _ in range(2))
    assert held is not None
    assert waits is not None
    assert not waits.granted
    await site.use(OPENAI, fast % 2)
    assert waits.granted


async def test_every_route_is_served(site: Site) -> None:
    assert site.gateway.installation.hosts.keys() == PATHS
