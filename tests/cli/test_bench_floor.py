"""The providers of `gateway bench`, met by what the vendors' adapters expect."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from gateway.cli.bench_floor import AT_ONCE, TOKENS, result
from gateway.cli.bench_server import providers


async def talked_to(address: str) -> tuple[str, list[Any], list[str]]:
    async with aiohttp.ClientSession() as http:
        body = {"model": AT_ONCE, "messages": []}
        async with http.post(f"http://{address}/v1/chat/completions", json=body) as reply:
            text = (await reply.read()).decode()
        words = []
        async with http.ws_connect(f"http://{address}/paced/v1/listen") as ear:
            for _ in range(10):
                await ear.send_bytes(bytes(1600))
            for _ in range(2):
                words.append(json.loads((await ear.receive()).data))
            await ear.send_str('{"type": "CloseStream"}')
        said = []
        async with http.ws_connect(f"http://{address}/tts/websocket") as voice:
            asked = {"context_id": "c", "model_id": AT_ONCE, "transcript": "One.", "continue": True}
            await voice.send_json(asked)
            said.append(json.loads((await voice.receive()).data)["type"])
            await voice.send_json(asked | {"transcript": "", "continue": False})
            said.append(json.loads((await voice.receive()).data)["type"])
    return text, words, said


def test_they_answer_at_once_and_end_with_who_started_them() -> None:
    with providers() as address:
        text, words, said = asyncio.run(talked_to(address))
    assert text.count('"content":" token') == TOKENS
    assert text.endswith("data: [DONE]\n\n")
    heard = [one["channel"]["alternatives"][0]["transcript"] for one in words]
    assert heard == ["word5", "word10"]
    assert (words[1]["start"], words[1]["duration"]) == (pytest.approx(0.25), pytest.approx(0.25))
    assert said == ["chunk", "done"]
    with pytest.raises(aiohttp.ClientConnectorError):
        asyncio.run(talked_to(address))


def test_a_result_has_the_times_of_its_audio() -> None:
    told = json.loads(result(3, 1.0, 1.5))
    (word,) = told["channel"]["alternatives"][0]["words"]
    assert (told["start"], told["duration"]) == (1.0, 0.5)
    assert (word["word"], word["start"], word["end"]) == ("word3", 1.0, 1.5)
