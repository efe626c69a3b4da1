"""The routes of the operator's page."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from starlette.testclient import TestClient

from gateway.app import Gateway, create_admin_app
from gateway.config import load
from gateway.page.overview import COSTS, MODELS, TOLD
from gateway.page.relay import INFERENCE
from gateway.page.routes import PAGE_HEADER
from gateway.telemetry.changes import read_changes
from gateway.telemetry.watch import Call

TOKEN = "a-token-of-the-page"
HOST = "http://testserver"


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    file = tmp_path / "c.yaml"
    file.write_text(
        f"page: {{token: {TOKEN}}}\n"
        f"keys: {{APIpage: {'s' * 32}}}\n"
        f"usage: {{enabled: false, spill: '{tmp_path}/spill'}}\n"
        "local_stand_in: false\n"
    )
    return Gateway(load(file, {}))


@pytest.fixture
def visitor(gateway: Gateway) -> TestClient:
    return TestClient(create_admin_app(gateway), base_url=HOST, follow_redirects=False)


@pytest.fixture
def page(visitor: TestClient) -> TestClient:
    answer = visitor.post("/ui/login", data={"token": TOKEN}, headers={"origin": HOST})
    assert answer.status_code == 303
    return visitor


def test_without_a_token_in_the_configuration_there_is_no_page() -> None:
    gateway = Gateway(load(None, {}, dev=True))
    assert gateway.watch is None
    client = TestClient(create_admin_app(gateway))
    assert client.get("/ui/").status_code == 404


def test_the_page_is_behind_its_token(visitor: TestClient) -> None:
    assert b'name="token"' in visitor.get("/ui/").content
    for path in ("/ui/api/now", "/ui/api/models"):
        assert visitor.get(path).status_code == 401
    wrong = visitor.post("/ui/login", data={"token": "guess"}, headers={"origin": HOST})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers


def test_a_program_sees_what_happens_with_the_token_and_tries_nothing(visitor: TestClient) -> None:
    bearing = {"authorization": f"Bearer {TOKEN}"}
    assert visitor.get("/ui/api/now", headers=bearing).json()["readiness"]["ready"] is True
    for wrong in ("Bearer guess", f"Basic {TOKEN}", "Bearer"):
        assert visitor.get("/ui/api/now", headers={"authorization": wrong}).status_code == 401
    assert visitor.post("/ui/v1/chat/completions", json={}, headers=bearing).status_code == 401


def test_another_page_cannot_log_in_or_try_things_in_a_visitors_name(page: TestClient) -> None:
    elsewhere = {"origin": "http://evil"}
    assert page.post("/ui/login", data={"token": TOKEN}, headers=elsewhere).status_code == 403
    assert page.post("/ui/v1/chat/completions", json={}, headers=elsewhere).status_code == 401


def test_who_opens_it_is_kept_and_who_does_not_know_the_token_is_told(
    page: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page.post("/ui/login", data={"token": "guess"}, headers={"origin": HOST})
    (line,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert (line.message, vars(line)["client"]) == (
        "somebody does not know the page's token",
        "testclient",
    )
    (told,) = read_changes(tmp_path / "changes.jsonl")
    assert (told["what"], told["by"], told["page"]) == ("page", "testclient", "opened")


def test_the_cookie_is_the_browsers_alone(visitor: TestClient) -> None:
    answer = visitor.post("/ui/login", data={"token": TOKEN}, headers={"origin": HOST})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/ui" in cookie
    assert TOKEN not in cookie


def test_everything_says_that_nothing_comes_from_elsewhere(page: TestClient) -> None:
    answer = page.get("/ui/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for part in (b"http://", b"https://", b"<script>", b"style=", b"onclick"):
        assert part not in answer.content
    for name in ("page.js", "bench.js", "microphone.js", "page.css", "icon.svg"):
        assert page.get(f"/ui/static/{name}").status_code == 200
    assert page.get("/ui/static/..%2froutes.py").status_code == 404


def test_what_happens_is_json(page: TestClient) -> None:
    now = page.get("/ui/api/now", params={"key": "A"}).json()
    assert now["readiness"]["ready"] is True
    assert now["calls"] == []
    assert page.get("/ui/api/models").json()["chat"] == []


def test_the_bench_asks_as_one_of_the_gateways_keys(
    page: TestClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Call] = []
    assert gateway.watch is not None
    began = gateway.watch.began

    def watched(number: int, call: Call) -> None:
        seen.append(call)
        began(number, call)

    monkeypatch.setattr(gateway.watch, "began", watched)
    answer = page.post(
        "/ui/v1/chat/completions",
        content=orjson.dumps({"model": "none/here", "messages": []}),
        headers={"origin": HOST, "authorization": "Bearer forged"},
    )
    assert answer.status_code in (400, 404)
    assert (seen[0].key, seen[0].identity) == ("APIpage", "page")
    failed = page.get("/ui/api/now").json()["failures"]
    assert failed[0]["route"] == "chat"


def test_a_worker_tells_its_supervisor_alone(gateway: Gateway) -> None:
    worker = TestClient(create_admin_app(gateway, supervised=True))
    named = {PAGE_HEADER: TOKEN}
    for path in (TOLD, COSTS, MODELS):
        assert worker.get(path).status_code == 404
        assert worker.get(path, headers={PAGE_HEADER: "guess"}).status_code == 404
        assert worker.get(path, headers=named).status_code == 200
    assert worker.get("/ui/").status_code == 404
    assert worker.get(f"{INFERENCE}/models").status_code == 401


def test_whoever_leaves_is_asked_again(page: TestClient) -> None:
    assert page.post("/ui/logout", headers={"origin": HOST}).status_code == 303
    assert page.get("/ui/api/now").status_code == 401
