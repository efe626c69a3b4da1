"""Which adapters go on when the configuration changes."""

from pydantic import SecretStr

from gateway.upstreams.adapters import Adapters
from gateway.upstreams.provider import Account, find


def account(name: str, key: str = "k") -> Account:
    vendor = find("openai")
    return vendor.account(name, vendor.settings(type="openai", api_key=SecretStr(key)))


def adapters(before: Adapters | None = None, **keys: str) -> Adapters:
    return Adapters({name: account(name, key) for name, key in keys.items()}, before)


def test_a_provider_that_did_not_change_keeps_its_adapters() -> None:
    first = adapters(same="k", other="k", gone="k")
    then = adapters(first, same="k", other="new", more="k")
    assert then.unchanged == {"same"}
    for one in ("chat", "stt", "tts"):
        was, now = getattr(first, one), getattr(then, one)
        assert now["same"] is was["same"]
        assert now["other"] is not was["other"]
        assert set(now) == {"same", "other", "more"}


def test_it_is_known_which_adapters_nobody_else_has() -> None:
    first = adapters(same="k", other="k")
    then = adapters(first, same="k", other="new")
    assert first.only_here("chat", []) == list(first.chat.values())
    assert first.only_here("chat", [then]) == [first.chat["other"]]
    last = adapters(then, same="k", other="k")
    assert last.only_here("tts", [first, then]) == [last.tts["other"]]
