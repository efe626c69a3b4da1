from __future__ import annotations

import base64
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from gateway.conversations.stt.protocol import OutgoingTranscript, transcript
from gateway.engines.interruption import learning
from gateway.engines.interruption.disputed import SETTLED_S, CallIds, Label
from gateway.engines.interruption.learning import (
    CALM_S,
    TURN,
    LearningKeeper,
    Overlaps,
    learn_folder,
    model_path,
)
from gateway.engines.interruption.own_voice import MARKS, SILENCE
from gateway.engines.interruption.vault import Kept, Vault
from gateway.settings.bargein import BargeinConfig, LearnConfig
from gateway.telemetry.metrics import Metrics

KEY = bytes(range(32))
SECRET = SecretStr(base64.b64encode(KEY).decode())
IDS = CallIds("APIone\njob\n1", "APIone", "RM_1", "AJ_1")
WINDOW = b"\1\0" * 16_000
NOW = 100.0


@pytest.fixture
def config(tmp_path: Path) -> LearnConfig:
    return LearnConfig(keys=["APIone"], secret=SECRET, folder=tmp_path, control_share=0)


def overlaps_of(keeper: LearningKeeper) -> Overlaps:
    overlaps = keeper.overlaps(IDS, "0.11.1")
    assert overlaps is not None
    return overlaps


def kept(keeper: LearningKeeper, config: LearnConfig, now: float = NOW + 60) -> list[Kept]:
    keeper.tick(now)
    keeper.join()
    vault = Vault(learn_folder(config), KEY)
    return [vault.read(path) for path in vault.files()]


def final(text: str, start: float, end: float) -> str:
    said = OutgoingTranscript(text, start, end, None, 1.0, (), None, "r")
    return transcript("final_transcript", said, "s")


def test_a_cut_that_no_words_followed_is_kept_as_noise(config: LearnConfig) -> None:
    keeper = LearningKeeper(config, Metrics())
    overlaps = overlaps_of(keeper)
    overlaps.heard(WINDOW[:3200], NOW)
    overlaps.answered(0.1, detected=False)
    overlaps.heard(WINDOW, NOW + 0.5)
    overlaps.answered(0.97, detected=True)
    hearing = keeper.hearing(IDS.call, IDS.key)
    assert hearing is not None
    hearing.listens(12.0, NOW + 3)

    (found,) = kept(keeper, config)

    assert (found.window, found.claim, found.detected) == (WINDOW, 0.97, True)
    assert (found.label, found.by, found.room) == (Label.NOISE, "followed", "RM_1")
    assert abs(found.at - time.time()) < 120


def test_a_caller_who_was_not_found_is_kept_by_the_words_of_stt(config: LearnConfig) -> None:
    keeper = LearningKeeper(config, Metrics())
    overlaps_of(keeper).heard(WINDOW, NOW)
    hearing = keeper.hearing(IDS.call, IDS.key)
    assert hearing is not None
    hearing.sent('{"type":"start_of_speech"}', 20.0, NOW + 1)
    hearing.sent(final("No, I meant Tuesday.", 19.2, 21.0), 22.0, NOW + 3)

    (found,) = kept(keeper, config)

    assert (found.label, found.detected) == (Label.FLOOR, False)


def test_what_is_clear_and_agreed_upon_is_not_kept_but_for_a_sample(config: LearnConfig) -> None:
    metrics = Metrics()
    keeper = LearningKeeper(config, metrics)
    overlaps = overlaps_of(keeper)
    overlaps.heard(WINDOW, NOW)
    overlaps.answered(0.99, detected=True)
    keeper.hear(IDS.call, "sentence", NOW, NOW + 2)
    assert kept(keeper, config) == []
    assert metrics.bargein_followed.labels("0.11.1", "agreed")._value.get() == 1

    all_of_them = config.model_copy(update={"control_share": 0.5})
    keeper.use(all_of_them)
    for number in range(40):
        at = NOW + 10 * number
        overlaps.heard(WINDOW, at)
        overlaps.answered(0.99, detected=True)
        keeper.hear(IDS.call, "sentence", at, at + 2)
        keeper.tick(at + SETTLED_S + 1)
    sample = kept(keeper, config)
    assert 5 < len(sample) < 35
    assert {one.weight for one in sample} == {2.0}


def test_it_is_not_looked_at_before_what_follows_can_be_known(config: LearnConfig) -> None:
    keeper = LearningKeeper(config, Metrics())
    overlaps_of(keeper).heard(WINDOW, NOW)
    keeper.hear(IDS.call, "sentence", NOW, NOW + 1)

    assert kept(keeper, config, NOW + SETTLED_S - 1) == []
    assert len(kept(keeper, config, NOW + SETTLED_S + 1)) == 1


def test_overlaps_are_told_apart_by_a_pause_and_of_a_long_one_the_beginning_is_kept(
    config: LearnConfig,
) -> None:
    keeper = LearningKeeper(config, Metrics())
    overlaps = overlaps_of(keeper)
    longest, slid = b"\1\0" * 48_000, b"\2\0" * 48_000
    overlaps.heard(longest, NOW)
    overlaps.heard(slid, NOW + 0.1)
    overlaps.answered(0.5, detected=True)
    overlaps.heard(slid, NOW + 0.2 + CALM_S)
    overlaps.answered(0.5, detected=True)

    assert [one.window for one in kept(keeper, config)] == [longest, slid]


def test_an_agent_that_was_sent_more_to_say_went_on(config: LearnConfig) -> None:
    marks = np.ones((1, MARKS), np.int8)
    voices = [SILENCE.with_more(marks, np.array([NOW - 1.0]), NOW)]
    keeper = LearningKeeper(config, Metrics(), lambda call: voices[-1])
    overlaps_of(keeper).heard(WINDOW, NOW)
    overlaps_of(keeper).answered(0.5, detected=True)
    voices.append(voices[0].with_more(marks, np.array([NOW + 0.5]), NOW))
    keeper.hear(IDS.call, "sentence", NOW, NOW + 2)

    (found,) = kept(keeper, config)

    assert found.confidence == pytest.approx(0.7)


def test_what_was_told_here_is_told_to_other_processes(config: LearnConfig) -> None:
    keeper, told = LearningKeeper(config, Metrics()), []
    keeper.on_told = lambda *what: told.append(what)
    turn = keeper.turns(IDS.call, IDS.key)
    assert turn is not None

    turn(NOW)

    assert told == [(IDS.call, TURN, NOW, NOW)]
    keeper.hear(IDS.call, "what nobody knows", NOW, NOW)  # of another version


def test_nothing_is_kept_of_other_keys_of_no_call_or_while_it_is_off(config: LearnConfig) -> None:
    keeper = LearningKeeper(config, Metrics())
    assert keeper.overlaps(IDS._replace(key="APItwo"), "v") is None
    assert keeper.overlaps(IDS._replace(call=""), "v") is None
    assert keeper.hearing(IDS.call, "APItwo") is None
    assert keeper.turns(IDS.call, "APItwo") is None

    overlaps_of(keeper).heard(WINDOW, NOW)
    keeper.use(LearnConfig(keys=["APIone"], folder=config.folder))
    assert keeper.overlaps(IDS, "v") is None
    assert keeper.hearing(IDS.call, IDS.key) is None
    keeper.tell(IDS.call, "sentence", NOW, NOW)
    assert kept(keeper, config) == []
    assert LearningKeeper(LearnConfig(), Metrics())._thread is None


def test_all_of_it_has_a_bound(config: LearnConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "OVERLAPS_MAX", 3)
    monkeypatch.setattr(learning, "CALLS_MAX", 2)
    bounded = config.model_copy(update={"windows_max": 2})
    keeper = LearningKeeper(bounded, Metrics())
    for number in range(5):
        overlaps = keeper.overlaps(IDS._replace(call=f"call {number}"), "v")
        assert overlaps is not None
        overlaps.heard(WINDOW, NOW)
        overlaps.answered(0.5, detected=True)
        keeper.hear(f"call {number}", "sentence", NOW, NOW + 1)

    assert len(keeper._calls) == 2
    keeper.tick(NOW + 60)
    keeper.join()
    assert len(kept(keeper, config, NOW + 60 + learning.SWEEP_S + 1)) == 2


def test_a_disk_that_fails_is_told_once(
    config: LearnConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    metrics = Metrics()
    keeper = LearningKeeper(config.model_copy(update={"folder": blocked}), metrics)
    overlaps = overlaps_of(keeper)
    for number in range(3):
        overlaps.heard(WINDOW, NOW + 10 * number)
        overlaps.answered(0.5, detected=True)
    keeper.tick(NOW + 60)
    keeper.join()

    assert metrics.bargein_kept.labels("failed")._value.get() >= 3
    assert caplog.text.count("a window is not kept") == 1


def test_a_folder_that_cannot_be_listed_is_one_day_all_right_again(
    config: LearnConfig, tmp_path: Path
) -> None:
    blocked = tmp_path / "windows"
    blocked.write_text("")
    keeper = LearningKeeper(config, Metrics())
    keeper.tick(NOW + learning.SWEEP_S)
    keeper.join()
    blocked.unlink()
    overlaps = overlaps_of(keeper)
    overlaps.heard(WINDOW, NOW)
    overlaps.answered(0.5, detected=True)
    keeper.tick(NOW + 60)

    assert len(kept(keeper, config)) == 1


def test_a_session_that_is_open_while_it_is_switched_off_is_not_kept(config: LearnConfig) -> None:
    keeper = LearningKeeper(config, Metrics())
    overlaps = overlaps_of(keeper)
    others = (config.model_copy(update={"keys": ["APItwo"]}), LearnConfig())
    for number, other in enumerate(others):
        keeper.use(other)
        overlaps.heard(WINDOW, NOW + 10 * number)
        overlaps.answered(0.5, detected=True)
    keeper.use(config)

    assert kept(keeper, config) == []


def test_a_model_without_a_folder_is_one_that_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BargeinConfig(learn=LearnConfig(folder=tmp_path))
    assert model_path(config, "new.onnx") == tmp_path / "models" / "new.onnx"
    assert model_path(config, "/opt/new.onnx") == Path("/opt/new.onnx")
    assert model_path(config, "~/new.onnx") == Path.home() / "new.onnx"

    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert learn_folder(LearnConfig()) == Path("/state/parley/bargein")


def test_what_waits_to_be_written_when_it_is_switched_off_is_not_written(
    config: LearnConfig,
) -> None:
    keeper = LearningKeeper(config, Metrics())
    vault, keeper._vault = keeper._vault, None  # before the thread comes to it
    keeper._write(None)
    keeper.join()

    assert vault is not None
    assert vault.files() == []
