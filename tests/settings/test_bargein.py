from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from gateway.settings.bargein import (
    EAGERNESS_MAX,
    MODELS_MAX,
    BargeinConfig,
    LearnConfig,
    learn_key,
)


def test_a_key_without_an_eagerness_of_its_own_has_that_of_all() -> None:
    config = BargeinConfig(eagerness=-1, eagerness_by_key={"APIone": 2})

    assert config.eagerness_of("APIone") == 2
    assert config.eagerness_of("APItwo") == -1


@pytest.mark.parametrize("eagerness", [EAGERNESS_MAX + 0.1, -EAGERNESS_MAX - 0.1, float("nan")])
def test_an_eagerness_out_of_range_is_a_mistake(eagerness: float) -> None:
    with pytest.raises(ValidationError):
        BargeinConfig(eagerness=eagerness)
    with pytest.raises(ValidationError):
        BargeinConfig(eagerness_by_key={"APIone": eagerness})


SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def test_only_keys_that_are_named_are_learnt_from_and_only_with_a_secret() -> None:
    assert not LearnConfig().is_on
    assert not LearnConfig(keys=["APIone"]).wants("APIone")
    learn = LearnConfig(keys=["APIone"], secret=SecretStr(SECRET))
    assert learn.wants("APIone")
    assert not learn.wants("APItwo")
    assert LearnConfig(keys=["*"], secret=SecretStr(SECRET)).wants("APItwo")


@pytest.mark.parametrize("secret", ["short", "A" * 44, "not base64 at all, but long enough to be"])
def test_a_secret_is_32_bytes(secret: str) -> None:
    with pytest.raises(ValidationError, match="expected 32 bytes in base64"):
        LearnConfig(secret=SecretStr(secret))


@pytest.mark.parametrize("secret", [SECRET, SECRET.rstrip("="), f" {SECRET}\n"])
def test_a_secret_may_be_written_as_tools_write_it(secret: str) -> None:
    assert learn_key(SecretStr(secret)) == bytes(range(32))
    assert learn_key(SecretStr("-_-_" * 10 + "-_8=")) is not None
    assert LearnConfig(secret=SecretStr("")).secret is None


def test_without_the_package_a_secret_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match="needs the package cryptography"):
        LearnConfig(secret=SecretStr(SECRET))


def test_shares_of_versions_come_to_one_at_most() -> None:
    halves = {"one.onnx": 0.5, "two.onnx": 0.5}
    assert BargeinConfig(models=halves).models == halves
    with pytest.raises(ValidationError, match="no more than 1 together"):
        BargeinConfig(models={**halves, "three.onnx": 0.01})
    with pytest.raises(ValidationError):
        BargeinConfig(models={f"{number}.onnx": 0.1 for number in range(MODELS_MAX + 1)})
