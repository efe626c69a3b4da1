"""LiveKit's AvatarSession, unmodified, and the client that LemonSlice's own users have."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.cli.credentials import try_account
from gateway.upstreams.provider import Account, ProviderSettings
from tests.end_to_end.clients import Client
from tests.end_to_end.conftest import installed
from tests.end_to_end.server import Server, running
from tests.fakes.lemonslice_avatar import KEY, FakeLemonSlice

PLUGIN = Client(
    "livekit-plugins-lemonslice-1.8.9", "python", ("livekit-plugins-lemonslice-1.8.9.txt",)
)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeLemonSlice]:
    with FakeLemonSlice() as started:
        yield started


@pytest.fixture(scope="module")
def server(fake: FakeLemonSlice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    text = f"providers: {{lemonslice: {{api_key: {KEY}, base_url: '{fake.url}'}}}}\n"
    with running(tmp_path_factory.mktemp("avatars"), text) as started:
        yield started


def test_the_vendors_client_accepts_the_fake(fake: FakeLemonSlice) -> None:
    client = installed(PLUGIN)
    url = f"{fake.url}/sessions"
    events = client.drive("drive_lemonslice", url, KEY, environment={})
    assert [one["event"] for one in events] == ["began", "began"], events
    events = client.drive("drive_lemonslice", url, "wrong", environment={})
    assert [(one["event"], one["status"]) for one in events] == [("failed", 401)], events


def test_an_avatar_comes_and_leaves(
    fake: FakeLemonSlice, server: Server, current_client: Client
) -> None:
    extra = json.dumps({"image_url": "https://x/y.png", "prompt": "smile", "simulcast": True})
    events = current_client.drive(
        "drive_avatar", "lemonslice", "--extra", extra, environment=server.agent_environment()
    )
    assert [one["event"] for one in events] == ["audio", "began", "ended"], events
    assert events[0]["sample_rate"] == 16000
    assert events[2]["known"] is False  # the client has heard that it is over
    assert events[1]["provider_id"] not in fake.running
    begun = next(one for one in fake.received if one.path == "/sessions")
    assert begun.body


def test_what_fails_is_tried_again_once_for_all(
    fake: FakeLemonSlice, server: Server, current_client: Client
) -> None:
    fake.forget()
    fake.script("status:500")
    events = current_client.drive(
        "drive_avatar", "lemonslice/agent_1", "--keep", "--retries", "1",
        environment=server.agent_environment(),
    )  # fmt: skip
    assert [one["event"] for one in events] == ["audio", "began"], events
    assert fake.running[events[1]["provider_id"]]["agent_id"] == "agent_1"
    events = current_client.drive("drive_avatar", "nobody", environment=server.agent_environment())
    assert events[0]["status"] == 404


@pytest.mark.parametrize(("key", "word"), [(KEY, "ok"), ("wrong", "failed")])
async def test_the_check_of_a_key_costs_nothing(fake: FakeLemonSlice, key: str, word: str) -> None:
    account = Account("lemonslice", "lemonslice", fake.url, key, settings=ProviderSettings())
    (trial,) = await try_account(account, {}, settle_s=0.1)
    assert trial.state == word
