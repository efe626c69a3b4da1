from __future__ import annotations

import base64
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from gateway.cli import learn
from gateway.cli.learn import LearnError
from gateway.cli.main import main
from gateway.engines.interruption import adapt, labelling
from gateway.engines.interruption.disputed import Label
from gateway.engines.interruption.engine import load_model, shipped_model
from gateway.engines.interruption.head import HeadOfModel
from gateway.engines.interruption.vault import Kept, Vault
from gateway.settings.bargein import BargeinConfig, LearnConfig
from tests.fakes import frame_model

KEY = bytes(range(32))
SECRET = base64.b64encode(KEY).decode()
KEPT = Kept(
    1_790_000_000.0, "RM_1", "AJ_1", "APIone", "0.11.1", 0.5, 0.6, True, 1.0,
    bytes(32_000), Label.NOISE, 0.65,
)  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> LearnConfig:
    return LearnConfig(keys=["*"], secret=SecretStr(SECRET), folder=tmp_path)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path, KEY)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bargein", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def answers(*given: str) -> Callable[[str], str]:
    waiting = list(given)

    def ask(prompt: str) -> str:
        assert "[i]nterruption" in prompt
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    return ask


def test_without_a_secret_each_command_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    for command in (["learn"], ["review"], ["forget", "--all"]):
        assert run(*command) == 2
        assert "bargein.learn.secret is not set" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_told(config: LearnConfig, tmp_path: Path) -> None:
    (tmp_path / "windows").write_text("no folder")
    with pytest.raises(LearnError, match="cannot be listed: not a directory"):
        learn.review(config, print, answers())


def test_a_room_is_forgotten_by_the_command(
    tmp_path: Path, vault: Vault, capsys: pytest.CaptureFixture[str]
) -> None:
    vault.add(KEPT)
    vault.add(replace(KEPT, room="RM_2", job="AJ_2"))
    path = tmp_path / "gateway.yaml"
    path.write_text(f"bargein: {{learn: {{secret: '{SECRET}', folder: '{tmp_path}'}}}}\n")

    assert run("forget", "--room", "RM_1", "--config", str(path)) == 0
    assert "1 windows deleted" in capsys.readouterr().out
    assert run("forget", "--all", "--config", str(path)) == 0
    assert vault.files() == []


def test_a_person_hears_what_is_unsure_first_and_labels_it(
    config: LearnConfig, vault: Vault, tmp_path: Path
) -> None:
    sure = vault.add(replace(KEPT, confidence=0.9))
    near = vault.add(replace(KEPT, claim=0.51, label=None))
    far = vault.add(replace(KEPT, claim=0.9))
    gone = vault.add(replace(KEPT, claim=0.99, detected=True))
    clip, told, heard = tmp_path / "clip.wav", list[str](), list[tuple[int, int]]()

    def ask(prompt: str) -> str:
        with wave.open(str(clip)) as file:
            heard.append((file.getframerate(), file.getnframes()))
        return ["?", "i", "n", "d"][len(heard) - 1]

    learn.review(config, told.append, ask, clip)

    assert heard == [(16_000, 16_000)] * 4
    assert not clip.exists()
    assert "at 0.51 (threshold 0.5), by what followed: nobody knows" in told[0]
    assert (vault.read(near).label, vault.read(near).by) == (Label.FLOOR, "person")
    assert vault.read(far).label is Label.NOISE
    assert vault.read(far).confidence == labelling.SURE
    assert not gone.exists()
    assert vault.read(sure).by == "followed"
    assert told[-1] == "2 windows labelled"

    learn.review(config, told.append, answers())
    assert told[-1] == "nothing waits for a label"
    learn.review(config, told.append, answers("q"), every=True)
    assert told[-1] == "0 windows labelled"


def test_what_another_key_wrote_is_left_out_and_told(
    config: LearnConfig, vault: Vault, tmp_path: Path
) -> None:
    Vault(tmp_path, bytes(32)).add(KEPT)
    Vault(tmp_path, bytes(32)).add(KEPT)
    told: list[str] = []

    assert list(learn.readable(vault, told.append)) == []
    assert len(told) == 2
    assert "not written with this bargein.learn.secret" in told[0]


def test_too_little_to_learn_from_is_told(config: LearnConfig, vault: Vault) -> None:
    vault.add(KEPT)
    vault.add(replace(KEPT, label=None))
    told: list[str] = []

    with pytest.raises(LearnError, match="expected at least 6"):
        learn.learn(BargeinConfig(learn=config), told.append)
    assert told == ["1 noise by what followed, 1 without a label"]


def test_another_model_has_no_regression_set(config: LearnConfig, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(HeadOfModel(shipped_model()).with_change(np.zeros(384, np.float32), 1.0, {}))
    with pytest.raises(LearnError, match="of another model"):
        learn.learn(BargeinConfig(model=other, learn=config), print)
    fake = frame_model.write(tmp_path / "fake.onnx")
    with pytest.raises(LearnError, match="only a model with the head"):
        learn.learn(BargeinConfig(model=fake, learn=config), print)


def humming(number: int) -> bytes:
    """A voice-like sound that the shipped model takes for a caller; each another."""
    rng = np.random.default_rng(number)
    at = np.arange(48_000) / 16_000
    pitch = rng.uniform(110, 180) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(2, 4) * at))
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(3, 5) * at + rng.uniform(0, 6)), 0, 1)
    sound = np.where(at > 1.0, voice * syllables * 2500, 0) + rng.normal(0, 15, at.size)
    return np.clip(sound, -32768, 32767).astype("<i2").tobytes()


def test_what_is_better_is_published_where_the_server_finds_it_and_what_is_not_is_not(
    config: LearnConfig, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is better is settled by tests/engines/interruption/test_adapt.py."""
    for number in range(36):
        label = Label.FLOOR if number % 3 == 0 else Label.NOISE
        one = replace(KEPT, room=f"RM_{number}", window=humming(number), label=label)
        vault.add(replace(one, confidence=0.98))
    bargein, told = BargeinConfig(learn=config), list[str]()
    change = adapt.Fitted(np.full(adapt.DIRECTIONS, 0.01, np.float32), -0.1, 1.0)
    monkeypatch.setattr(adapt, "chosen", lambda windows, rehearsed: change)

    monkeypatch.setattr(adapt, "refusals", lambda own, general: ["it is worse"])
    assert learn.learn(bargein, told.append) is None
    assert told[-1] == "\nnot published:\n- it is worse"
    assert not (config.folder or Path()).joinpath("models").exists()

    monkeypatch.setattr(adapt, "refusals", lambda own, general: [])
    target = learn.learn(bargein, told.append)
    assert target is not None
    assert f"{target.name}: 0.1" in told[-1]
    assert "regression set" in target.with_suffix(".txt").read_text()
    published = load_model(bargein, target)
    assert published.card.version.startswith("0.")
    assert "+2" in published.card.version
    assert "36 windows" in HeadOfModel(target).metadata["learnt_from"]


def test_nothing_is_published_that_changes_nothing(config: LearnConfig, vault: Vault) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        label = Label.FLOOR if rng.random() < 0.5 else Label.NOISE
        vault.add(replace(KEPT, room=f"RM_{number}", window=humming(7), label=label))
    told: list[str] = []

    assert learn.learn(BargeinConfig(learn=config), told.append) is None
    assert told[-1].startswith("\nnot published:")
