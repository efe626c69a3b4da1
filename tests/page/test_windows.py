"""Kept windows of interruptions on the operator's page."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.app import Gateway, create_admin_app
from gateway.config import load
from gateway.engines.interruption.disputed import Label
from gateway.engines.interruption.vault import Kept, Vault

TOKEN = "a-token-of-the-page"
HOST = "http://testserver"
OURS = {"origin": HOST}
KEPT = Kept(
    1_790_000_000.0, "RM_1", "AJ_1", "APIone", "0.11.1", 0.5, 0.6, True, 1.0,
    bytes(32_000), Label.NOISE, 0.65,
)  # fmt: skip


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "learn", bytes(range(32)))


def visitor(folder: Path, *, learns: bool = True) -> TestClient:
    file = folder / "c.yaml"
    secret = base64.b64encode(bytes(range(32))).decode() if learns else ""
    file.write_text(
        f"page: {{token: {TOKEN}}}\n"
        f"keys: {{APIpage: {'s' * 32}}}\n"
        f"usage: {{enabled: false, spill: '{folder}/spill'}}\n"
        "local_stand_in: false\n"
        f"bargein: {{learn: {{secret: '{secret}', folder: '{folder}/learn'}}}}\n"
    )
    gateway = Gateway(load(file, {}))
    return TestClient(create_admin_app(gateway), base_url=HOST, follow_redirects=False)


@pytest.fixture
def page(tmp_path: Path) -> TestClient:
    client = visitor(tmp_path)
    assert client.post("/ui/login", data={"token": TOKEN}, headers=OURS).status_code == 303
    return client


def test_a_folder_that_cannot_be_listed_is_told(page: TestClient, tmp_path: Path) -> None:
    (tmp_path / "learn").mkdir()
    (tmp_path / "learn" / "windows").write_text("no folder")

    answer = page.get("/ui/api/windows")

    assert answer.status_code == 404
    assert "cannot be listed: not a directory" in answer.json()["error"]["message"]


def test_a_person_hears_labels_and_deletes_what_waits(page: TestClient, vault: Vault) -> None:
    near = vault.add(replace(KEPT, claim=0.51, label=None))
    far = vault.add(replace(KEPT, claim=0.9))
    vault.add(replace(KEPT, confidence=0.9))

    listed = page.get("/ui/api/windows").json()
    assert listed["on"] is True
    assert [one["name"] for one in listed["windows"]] == [near.name, far.name]
    assert listed["windows"][0]["label"] is None
    assert listed["windows"][0]["seconds"] == 1.0
    assert "RM_1" not in str(listed)

    sound = page.get(f"/ui/api/windows/{near.name}")
    assert sound.headers["content-type"] == "audio/wav"
    assert sound.content.startswith(b"RIFF")

    one = f"/ui/api/windows/{near.name}"
    assert page.post(one, json={"label": "interruption"}, headers=OURS).status_code == 200
    assert (vault.read(near).label, vault.read(near).by) == (Label.FLOOR, "person")
    assert page.delete(f"/ui/api/windows/{far.name}", headers=OURS).status_code == 200
    assert not far.exists()
    assert page.get("/ui/api/windows").json()["windows"] == []
    assert page.get("/ui/api/windows?only=on").json() == {"on": True, "windows": []}


def test_nobody_else_hears_anything(tmp_path: Path, vault: Vault, page: TestClient) -> None:
    kept = vault.add(KEPT)
    stranger = visitor(tmp_path)
    one = f"/ui/api/windows/{kept.name}"

    assert stranger.get("/ui/api/windows").status_code == 401
    assert stranger.get(one).status_code == 401
    bearing = {"authorization": f"Bearer {TOKEN}"}
    assert stranger.get(one, headers=bearing).status_code == 401
    elsewhere = {"origin": "http://evil"}
    assert page.post(one, json={"label": "noise"}, headers=elsewhere).status_code == 403
    assert page.delete(one, headers=elsewhere).status_code == 403
    assert vault.read(kept) == KEPT


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 400), (b'{"label": "song"}', 400), (b" " * 2000, 413)],
)
def test_what_is_no_label_is_refused(
    page: TestClient, vault: Vault, body: bytes, status: int
) -> None:
    kept = vault.add(KEPT)
    answer = page.post(f"/ui/api/windows/{kept.name}", content=body, headers=OURS)
    assert answer.status_code == status
    assert vault.read(kept) == KEPT


@pytest.mark.parametrize("name", ["none.window", "..%2Fc.yaml", "1790000000000-x.window"])
def test_other_files_are_not_reached(page: TestClient, name: str) -> None:
    assert page.get(f"/ui/api/windows/{name}").status_code == 404
    posted = page.post(f"/ui/api/windows/{name}", json={"label": "noise"}, headers=OURS)
    assert posted.status_code == 404


def test_without_a_secret_there_is_nothing(tmp_path: Path) -> None:
    client = visitor(tmp_path, learns=False)
    client.post("/ui/login", data={"token": TOKEN}, headers=OURS)
    assert client.get("/ui/api/windows").json() == {"on": False, "windows": []}
    assert client.get("/ui/api/windows/any").status_code == 404
