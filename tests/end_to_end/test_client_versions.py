"""Which versions the matrix of clients takes, and that it works with what the tests have.
The matrix itself is a command: `python -m tests.end_to_end.client_versions`."""

from __future__ import annotations

from tests.end_to_end.client_versions import CLASSES, Released, calls, ends_of_minors, server
from tests.end_to_end.clients import CLIENTS, Client


def test_the_oldest_and_the_newest_of_each_minor_are_taken() -> None:
    versions = [
        "1.8.9",
        "1.8.10",
        "1.8.0",
        "1.7.0",
        "1.3.1",
        "1.3.5",
        "1.2.1",
        "1.9.0rc1",
        "0.12.9",
    ]
    found = ends_of_minors(versions, since=(1, 3))
    assert found == ["1.3.1", "1.3.5", "1.7.0", "1.8.0", "1.8.10"]


def test_a_call_of_each_kind_succeeds(current_client: Client) -> None:
    class Kept(Released):
        """The environment that the tests have anyway."""

        def folder(self):  # type: ignore[no-untyped-def]
            return current_client.folder()

    newest = Kept(CLIENTS[0].name, "python", ())
    with server() as (gateway, recording):
        assert calls(newest, gateway, recording) == dict.fromkeys(CLASSES, "ok")
