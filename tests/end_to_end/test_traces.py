"""Traces of the real server, as a collector receives them: read by OTLP's own message types."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.end_to_end.faulty_call import SAID, call, faulty
from tests.end_to_end.server import running
from tests.end_to_end.stt_caller import converse, words
from tests.end_to_end.tts_wire import token
from tests.fakes.openai_chat import FakeOpenAI
from tests.fetched_weights import fetched

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes spans at /v1/traces."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.service = ""
        self.authorizations: set[str | None] = set()
        self.url = ""


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            collector.authorizations.add(self.headers["authorization"])
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for attribute in resource.resource.attributes:
                    if attribute.key == "service.name":
                        collector.service = attribute.value.string_value
                for scope in resource.scope_spans:
                    collector.spans += scope.spans
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        yield collector
        server.shutdown()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def test_a_failover_is_one_trace_in_the_callers_and_says_nothing_of_what_was_said(
    tmp_path: Path,
) -> None:
    with collecting() as collector, FakeOpenAI(default="status:500") as bad, FakeOpenAI() as good:
        config = (
            f"traces: {{endpoint: '{collector.url}', headers: {{authorization: Basic abc}}}}\n"
            "providers:\n"
            f"  bad: {{type: openai-compatible, base_url: {bad.base_url}, api_key: k}}\n"
            f"  good: {{type: openai-compatible, base_url: {good.base_url}, api_key: k}}\n"
            "models: {m: [{provider: bad, model: one}, {provider: good, model: two}]}\n"
        )
        with running(tmp_path, config) as server:
            headers = {
                "authorization": f"Bearer {token(server)}",
                "traceparent": f"00-{TRACE}-{CALLER}-01",
                "x-livekit-job-id": "AJ_42",
            }
            body = {"model": "m", "messages": [{"role": "user", "content": SAID}], "stream": True}
            async with (
                aiohttp.ClientSession() as http,
                http.post(f"{server.url}/chat/completions", json=body, headers=headers) as reply,
            ):
                assert reply.status == 200
                await reply.read()
        # the server has ended: what waited was sent
        by_name = {span.name: span for span in collector.spans}
        request = by_name["chat m"]
        assert collector.service == "parley"
        assert collector.authorizations == {"Basic abc"}
        assert request.trace_id.hex() == TRACE
        assert request.parent_span_id.hex() == CALLER
        assert attributes(request)["livekit.job.id"] == "AJ_42"
        assert attributes(request)["gen_ai.usage.output_tokens"] > 0
        assert by_name["try bad"].parent_span_id == request.span_id
        assert attributes(by_name["try bad"])["http.response.status_code"] == 500
        assert attributes(by_name["try good"])["parley.outcome"] == "ok"
        assert all(SAID not in str(span) for span in collector.spans)


async def test_a_call_is_joined_by_its_job_and_tells_every_try_replay_and_engine(
    tmp_path: Path,
) -> None:
    with collecting() as collector:
        with faulty(tmp_path, collector.url) as server:
            assert await call(server, "AJ_7", "RM_7") == [200, 0]
        requests = [one for one in collector.spans if "livekit.job.id" in attributes(one)]
        assert {attributes(one)["session.id"] for one in requests} == {"AJ_7"}
        assert sorted(one.name for one in requests) == [
            "bargein",
            "chat mind",
            "chat mind",
            "eot",
            "stt ears",
        ]
        inside = {one.span_id: one for one in requests}
        for one in collector.spans:
            assert one in requests or one.parent_span_id in inside
        by_name = {one.name: one for one in collector.spans}
        taken_over = by_name["try ears-b"]
        failed = [one for one in collector.spans if one.name == "try ears-a"]
        errors = {attributes(one)["error.type"]: one for one in failed}
        assert {"stream_interrupted", "upstream_overloaded"} == errors.keys()
        broken = errors["stream_interrupted"]
        assert broken.end_time_unix_nano <= taken_over.start_time_unix_nano
        assert attributes(taken_over)["parley.replayed_s"] > 0
        assert attributes(taken_over)["parley.audio_s"] > 0
        run = attributes(by_name["run interruption"])
        assert (run["parley.engine.windows"], run["parley.engine.stale"]) == (1, 0)
        assert run["parley.engine.answer_p50_s"] > 0
        turn = attributes(by_name["run turn"])
        assert (turn["parley.engine"], turn["parley.engine.batch"]) == ("turn", 1)
        (ended,) = (one for one in requests if "error.type" in attributes(one))
        assert attributes(ended)["error.type"] == "stream_interrupted"
        assert all(SAID not in str(span) for span in collector.spans)


@pytest.mark.slow  # the engines are real: what they do for a session is seen in no other way
async def test_what_a_voice_and_a_recogniser_of_this_machine_do_is_told(tmp_path: Path) -> None:
    cache = fetched("kokoro", "whisper-base", "silero-vad")
    with collecting() as collector:
        config = f"traces: {{endpoint: '{collector.url}'}}\nproviders: {{local: {{}}}}\n"
        with running(tmp_path, config, {"PARLEY_CACHE": str(cache)}) as server:
            headers = {"authorization": f"Bearer {token(server)}"}
            body = {"model": "local/kokoro", "input": "Good morning.", "response_format": "pcm"}
            async with (
                aiohttp.ClientSession() as http,
                http.post(f"{server.url}/audio/speech", json=body, headers=headers) as spoken,
            ):
                assert spoken.status == 200
                pcm = await spoken.read()
            told = await converse(server, pcm + bytes(48_000), rate=24_000, model="local/whisper")
        assert "morning" in words(told)
        by_name = {one.name: one for one in collector.spans}
        said, heard = by_name["run kokoro"], by_name["run whisper"]
        assert said.parent_span_id == by_name["tts local/kokoro"].span_id
        assert attributes(said)["parley.engine.characters"] == len("Good morning.")
        assert heard.parent_span_id == by_name["stt local/whisper"].span_id
        assert attributes(heard)["parley.engine.audio_s"] > 0
