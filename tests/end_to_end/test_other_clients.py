"""Two clients of the OpenAI API that people use beside LiveKit's: LangChain and Vercel's AI SDK."""

from __future__ import annotations

import pytest

from tests.end_to_end.clients import Client, Event
from tests.end_to_end.conftest import installed
from tests.end_to_end.server import Server
from tests.end_to_end.test_openai_sdk import SAID, token

MODEL = "openai/gpt-4.1-mini"
OTHERS = {
    "drive_langchain": Client("langchain-openai", "python", ("langchain-openai.txt",)),
    "drive_ai_sdk": Client("ai-sdk", "node", ("ai-sdk/package.json", "ai-sdk/package-lock.json")),
}


def told(server: Server, driver: str, model: str, asked: str) -> dict[str, Event]:
    """What the client made of the answers, by event."""
    environment = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": token(server)}
    events = installed(OTHERS[driver]).drive(driver, model, asked, environment=environment)
    return {event["event"]: event for event in events}


@pytest.mark.parametrize("driver", OTHERS)
def test_text_whole_and_streamed_and_a_call_arrive(server: Server, driver: str) -> None:
    heard = told(server, driver, MODEL, "say: text")
    assert "failed" not in heard, heard
    assert heard["whole"]["text"] == SAID
    assert heard["streamed"]["text"] == SAID
    assert [call["name"] for call in heard["called"]["calls"]] == ["get_time", "get_time"]


@pytest.mark.parametrize("driver", OTHERS)
def test_a_refusal_is_told_in_words(server: Server, driver: str) -> None:
    heard = told(server, driver, "no/such-model", "say: text")
    assert heard["failed"]["status"] == 404
    assert "no/such-model" in heard["failed"]["message"]
