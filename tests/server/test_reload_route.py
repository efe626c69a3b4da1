"""Who may ask for a reload, and what is answered."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from gateway.server.reload_route import HEADER, PATH, Reloaded, reload_route

REFUSED = Reloaded(applied=False, mistakes=("keys: wrong",))
HERE, ELSEWHERE = ("127.0.0.1", 5), ("10.1.2.3", 5)


def client(told: Reloaded, address: tuple[str, int] = HERE, own: str = "10.9.9.9") -> TestClient:
    asked: list[str] = []

    async def reload(by: str) -> Reloaded:
        asked.append(by)
        return told

    app = Starlette(routes=[reload_route(reload)])

    async def from_there(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": address}, receive, send)

    made = TestClient(from_there, base_url=f"http://{own}")
    made.asked = asked  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        (HERE, {HEADER: "1"}, 200),
        (("::1", 5), {HEADER: "1"}, 200),
        (("10.9.9.9", 5), {HEADER: "1"}, 200),  # the address that is listened on
        (HERE, {}, 403),
        (HERE, {HEADER: "a\tb"}, 403),
        (ELSEWHERE, {HEADER: "1"}, 403),
    ],
)
def test_only_this_machine_may_ask_and_no_page_in_a_browser(
    address: tuple[str, int], headers: dict[str, str], status: int
) -> None:
    asking = client(Reloaded(applied=True), address)
    assert asking.post(PATH, headers=headers).status_code == status
    assert len(asking.asked) == (status == 200)  # type: ignore[attr-defined]


def test_what_is_wrong_is_answered() -> None:
    answer = client(REFUSED).post(PATH, headers={HEADER: "1"})
    assert answer.status_code == 422
    assert answer.json()["mistakes"] == ["keys: wrong"]


def test_it_is_not_read_again_by_a_look_at_it() -> None:
    assert client(REFUSED).get(PATH).status_code == 405
