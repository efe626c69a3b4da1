"""An installation without a single key still answers, by a model in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import openai
import pytest

from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fetched_weights import smollm2
from tests.services import wait_until

MODEL = "local/smollm2-135m"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {"PYTHONPATH": str(smollm2())}
    config = (
        "providers: {local: {llm_threads: 1, llm_context_tokens: 1024}}\nusage: {enabled: false}\n"
    )
    with running(tmp_path_factory.mktemp("local_llm"), config, environment) as server:
        yield server


def sdk(server: Server) -> openai.OpenAI:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0, timeout=60)


def test_the_first_request_waits_while_the_model_is_being_loaded(server: Server) -> None:
    with sdk(server) as client:
        reply = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi."}], max_completion_tokens=4
        )
        assert reply.choices[0].message.content


def answered(client: openai.OpenAI) -> bool:
    try:
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Say hello."}],
            max_completion_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    except openai.APIError:
        return False  # it is still being loaded
    said = "".join(c.delta.content or "" for one in chunks for c in one.choices)
    assert said.strip()
    assert {one.model for one in chunks} == {MODEL}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    return True


def model_of(server: Server) -> int | None:
    """The process of the language model."""
    children = subprocess.run(
        ["ps", "-ww", "--ppid", str(server.process.pid), "-o", "pid=,args="],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    found = [int(one.split()[0]) for one in children.splitlines() if "llm_server" in one]
    return found[0] if found else None


def test_it_answers_under_its_own_name_and_comes_back_when_it_dies(server: Server) -> None:
    with sdk(server) as client:
        assert MODEL in [one.id for one in client.models.list()]
        wait_until(lambda: answered(client))
        wait_until(lambda: model_of(server) is not None)
        pid = model_of(server)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: answered(client))
