"""`gateway check --live` asks each provider in its own way."""

from collections.abc import Iterator

import pytest

from gateway.cli.credentials import try_credentials
from gateway.upstreams.provider import find
from tests.fakes.anthropic_messages import FakeAnthropic
from tests.fakes.openai_chat import FakeOpenAI
from tests.ports import Port


@pytest.fixture(scope="module")
def openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


def tried(type_name: str, base_url: str) -> str | None:
    vendor = find(type_name)
    settings = vendor.settings(type=type_name, base_url=base_url, api_key="k")
    return try_credentials(vendor.account(type_name, settings))


def test_a_provider_that_lists_its_models_is_fine(openai: FakeOpenAI) -> None:
    assert tried("openai", openai.base_url) is None


def test_a_provider_with_paths_of_its_own_is_asked_there(openai: FakeOpenAI) -> None:
    # Anthropic's list is where OpenAI's is, one folder up from what its base URL says
    assert tried("anthropic", openai.url) is None
    (asked,) = [one for one in openai.received if "x-api-key" in one.headers]
    assert asked.path == "/v1/models"


def test_a_refusal_says_its_status() -> None:
    with FakeAnthropic() as fake:  # which serves no list
        assert (tried("anthropic", fake.base_url) or "").startswith("refused with status 404")


@pytest.mark.parametrize("type_name", ["openai", "anthropic"])
def test_a_provider_that_is_not_there_cannot_be_reached(type_name: str) -> None:
    with Port() as nobodys:
        problem = tried(type_name, f"http://127.0.0.1:{nobodys.number}/v1")
    assert "cannot be reached" in (problem or "")
