"""python -m tests.collector: a faulty call, found again in a real collector.

Arize Phoenix, a collector with a page of its own, is installed into $PARLEY_CACHE and run; a real
server sends it the spans of a call whose providers fail. Then the end of the call is looked for by
the caller's id, as deploy/traces.md says, and each step's time is printed. Exits with 1 where
something cannot be found. `--stay` leaves Phoenix open to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.tools import free_port, process
from tests.end_to_end.faulty_call import SAID, call, faulty
from tests.end_to_end.server import Server
from tests.others import environment

PHOENIX = ("arize-phoenix==20.26.1",)
READY_S = 180.0
FOUND_S = 60.0
JOB, ROOM = "AJ_dropped_at_noon", "RM_kitchen"
BAD = '"level":"warning"'
TOKEN = "the-token-of-this-page"


@contextmanager
def phoenix(folder: Path) -> Iterator[str]:
    """The address of a collector that has just been installed, or was before."""
    port, grpc = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    program = str(environment(PHOENIX) / "bin" / "phoenix")
    with process([program, "serve"], f"{url}/healthz", environment=settings, ready_s=READY_S):
        yield url


def get(url: str, headers: dict[str, str] | None = None) -> Any:
    asked = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.loads(answer.read())


def spans(url: str, **wanted: str) -> list[dict[str, Any]]:
    """What the collector has of the gateway."""
    query = urllib.parse.urlencode({"limit": "500", **wanted})
    return list(get(f"{url}/v1/projects/default/spans?{query}")["data"])


def until(found: Callable[[], Any], missed: str) -> Any:
    """The first that is there: log and spans are written in batches."""
    deadline = time.monotonic() + FOUND_S
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.5)
    sys.exit(missed)


def walk(server: Server, collector: str) -> None:
    """deploy/traces.md, step by step."""
    began = time.monotonic()

    def step(title: str, told: str) -> None:
        print(f"{time.monotonic() - began:5.1f} s  {title}\n         {told}\n")

    def lines() -> list[str]:
        return [one for one in server.log.read_text().splitlines() if JOB in one]

    until(lambda: any(BAD in one for one in lines()), "no line of the log tells of the failure")
    bad = [json.loads(one) for one in lines() if BAD in one]
    told = ", ".join(
        f"{name}={bad[-1].get(name)}" for name in ("request_id", "outcome", "failures")
    )
    step(f"the log: {len(lines())} lines of the call, {len(bad)} of them bad", told)

    now = get(f"{server.admin_url}/ui/api/now", {"authorization": f"Bearer {TOKEN}"})
    failed = [one for one in now["failures"] if one["job"] == JOB]
    (ended,) = (one for one in failed if one["outcome"] != "ok")
    step("the page: Find an id", f"{ended['route']} {ended['outcome']}: {ended['tries']}")

    def whole_call() -> list[dict[str, Any]]:
        found = spans(collector, attribute=f"livekit.job.id:{JOB}")
        return found if any(one["status_code"] == "ERROR" for one in found) else []

    whole = until(whole_call, "the collector has no failed request of the call")
    names = sorted({one["name"] for one in whole})
    step(f"the collector: livekit.job.id = {JOB}", f"{len(whole)} requests: {', '.join(names)}")

    broken = [one for one in whole if one["status_code"] == "ERROR"]
    trace = broken[0]["context"]["trace_id"]
    for one in spans(collector, trace_id=trace):
        facts = one["attributes"]
        known = {n: facts[n] for n in sorted(facts) if n.startswith(("error", "http", "parley.o"))}
        step(one["name"], f"{one['status_code']} {one['status_message']} {known}")
    everything = json.dumps(spans(collector))
    if SAID in everything:
        sys.exit("the collector knows what somebody said")
    print(f"found after {time.monotonic() - began:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stay", action="store_true", help="leave the collector open")
    stay = parser.parse_args().stay
    with tempfile.TemporaryDirectory() as made, phoenix(Path(made)) as collector:
        folder = Path(made) / "server"
        folder.mkdir()
        page = f"page: {{token: {TOKEN}}}\n"
        with faulty(folder, f"{collector}/v1/traces", page) as server:
            print("replies of the call:", asyncio.run(call(server, JOB, ROOM)))
            walk(server, collector)
        if stay:
            input(f"{collector}  Enter ends it")


if __name__ == "__main__":
    main()
