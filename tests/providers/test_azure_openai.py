"""Azure OpenAI: the v1 API, and a dated one."""

from __future__ import annotations

from gateway.upstreams.plan import Attempt
from tests.providers.chats import a_request, upstream


def test_azure_has_the_key_in_its_own_header_and_openais_paths() -> None:
    azure = upstream("azure-openai", base_url="https://r.openai.azure.com")
    dial = azure.dial(a_request(), Attempt("a", "dep"))
    assert dial.url == "https://r.openai.azure.com/openai/v1/chat/completions"
    assert dial.headers["api-key"] == "k"
    assert "authorization" not in dial.headers


def test_a_dated_azure_api_has_the_deployment_in_the_path() -> None:
    azure = upstream(
        "azure-openai",
        base_url="https://r.openai.azure.com",
        api_version="2024-10-21",
        bearer=True,
    )
    dial = azure.dial(a_request(), Attempt("a", "dep"))
    path = "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
    assert dial.url == "https://r.openai.azure.com" + path
    assert dial.headers["authorization"] == "Bearer k"
