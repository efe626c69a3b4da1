"""What an operator may say, and what is heard when it is wrong."""

import os
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, load, load_with_warnings, secrets_of

SECRET = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t"


def loaded(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return load(path, environ or {})


def mistakes(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text, environ)
    assert SECRET not in str(raised.value)
    return raised.value.mistakes


def test_the_environment_alone_suffices() -> None:
    config = load(
        None,
        {
            "LIVEKIT_API_KEY": "APIx",
            "LIVEKIT_API_SECRET": SECRET,
            "OPENAI_API_KEY": "sk-1",
            "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        },
    )
    assert config.keys["APIx"].get_secret_value() == SECRET
    account = config.accounts()["openai"]
    assert (account.base_url, account.api_key) == ("http://127.0.0.1:1/v1", "sk-1")


def test_nothing_is_on_that_nobody_set() -> None:
    config = load(None, {})
    assert config.keys == {}
    # local engines are on where their extras are installed
    assert not set(config.accounts()) - {"local"}


def test_the_file_named_by_the_environment_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("server: {port: 9}")
    assert load(None, {"GATEWAY_CONFIG": str(tmp_path / "c.yaml")}).server.port == 9


def test_an_empty_file_is_no_mistake(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == load(None, {})


def test_several_providers_of_one_type_stand_under_different_names(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        providers:
          first: {type: openai-compatible, base_url: "http://a/v1"}
          second: {type: openai-compatible, base_url: "http://b/v1", api_key: k}
        """,
    )
    accounts = config.accounts()
    assert {n: accounts[n].base_url for n in ("first", "second")} == {
        "first": "http://a/v1",
        "second": "http://b/v1",
    }


def test_the_file_wins_over_the_environment_and_takes_from_it_what_it_does_not_say(
    tmp_path: Path,
) -> None:
    environ = {"OPENAI_API_KEY": "sk-env", "OPENAI_BASE_URL": "http://env/v1"}
    text = 'providers: {openai: {base_url: "http://file/v1"}}'
    account = loaded(tmp_path, text, environ).accounts()["openai"]
    assert (account.base_url, account.api_key) == ("http://file/v1", "sk-env")


def test_a_provider_can_be_switched_off_although_its_variable_is_set(tmp_path: Path) -> None:
    text = "providers: {openai: {enabled: false}}"
    assert "openai" not in loaded(tmp_path, text, {"OPENAI_API_KEY": "sk-1"}).accounts()


def test_variables_are_interpolated_with_defaults_and_an_escape(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        server: {port: "${PORT:-8123}", host: "${HOST:-127.0.0.1}"}
        keys: {APIx: "${SECRET}"}
        models: {m: [{provider: openai, model: "$${literal}"}]}
        """,
        {"SECRET": SECRET, "HOST": "0.0.0.0", "OPENAI_API_KEY": "k"},
    )
    assert (config.server.port, config.server.host) == (8123, "0.0.0.0")
    assert config.keys["APIx"].get_secret_value() == SECRET
    assert config.models["m"][0].model == "${literal}"


def test_a_variable_that_is_not_set_is_a_mistake_with_its_place(tmp_path: Path) -> None:
    (mistake,) = [m for m in mistakes(tmp_path, "keys: {APIx: '${NOWHERE}'}") if "NOWHERE" in m]
    assert mistake.startswith("keys.APIx: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("servr: {}", "servr: unknown key; did you mean 'server'?"),
        ("server: {prot: 1}", "server.prot: unknown key; did you mean 'port'?"),
        ("chat: {keepalive: 1}", "chat.keepalive: unknown key; did you mean 'keepalive_s'?"),
        ("models: {m: [{provder: x, model: y}]}", "did you mean 'provider'?"),
        ("providers: {openai: {api_kee: x}}", "providers.openai.api_kee: unknown key; did you"),
        ("providers: {opnai: {api_key: x}}", "did you mean 'openai'?"),
        ("providers: {openai: {}}", "providers.openai.api_key: missing"),
        ("providers: {openai-compatible: {}}", "providers.openai-compatible.base_url: missing"),
        ("providers: {openai: {api_key: x, base_url: ftp://x}}", "providers.openai.base_url: "),
        ("providers: [openai]", "providers: expected a mapping"),
        ("providers: {openai: 3}", "providers.openai: expected a mapping"),
        ("models: {m: [{provider: nobody, model: y}]}", "no provider 'nobody' is configured"),
        ("models: {m: []}", "models.m: expected at least one deployment"),
        ("server: {port: many}", "server.port: "),
        ("server: {port: 70000}", "server.port: "),
        ("keys: {APIx: short}", "keys.APIx: the secret has fewer than 32 characters"),
        ("keys: {APIx: }", "keys.APIx: "),
        ("- a list", "expected a mapping"),
        ("a: {b: [", "not valid YAML in line 1"),
        ("keys: {A: 1}\nkeys: {B: 2}", "the key 'keys' stands twice"),
        ("log: {level: loud}", "log.level: "),
    ],
)
def test_a_mistake_is_told_with_its_place_and_remedy(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert any(expected in mistake for mistake in mistakes(tmp_path, text)), mistakes(
        tmp_path, text
    )


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = "servr: {}\nproviders: {opnai: {}}\nlog: {level: loud}\n"
    assert len(mistakes(tmp_path, text)) == 3


def test_secrets_appear_in_no_output(tmp_path: Path) -> None:
    text = f"""
    keys: {{APIx: {SECRET}}}
    providers: {{openai: {{api_key: {SECRET}, headers: {{x-org: {SECRET}}}, wrong: 1}}}}
    """
    assert SECRET not in str(mistakes(tmp_path, text))
    config = loaded(tmp_path, text.replace(", wrong: 1", ""))
    for shown in (repr(config), str(config), config.model_dump_json(), repr(config.accounts())):
        assert SECRET not in shown


def test_a_secret_in_a_broken_file_is_not_shown(tmp_path: Path) -> None:
    mistakes(tmp_path, f"keys: {{APIx: {SECRET}\nserver: [")
    mistakes(tmp_path, f"keys: {{APIx: [{SECRET}]}}")


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nowhere.yaml", {})


def test_trying_out_accepts_a_short_secret() -> None:
    environ = {"LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "secret"}
    assert "devkey" in load(None, environ, dev=True).keys
    with pytest.raises(ConfigError):
        load(None, environ)


def test_every_secret_of_a_configuration_is_known_to_be_one(tmp_path: Path) -> None:
    text = """
keys: {APIx: the-secret-of-a-key-that-is-long-enough}
providers:
  rack:
    type: openai-compatible
    base_url: "http://h/v1"
    api_key: key-of-the-rack
    headers: {x: header-value, y: "no-url://["}
quota: {redis_url: "redis://:word-of-pass@h/0"}
"""
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    found = set(secrets_of(load(path, {})))
    wanted = {"the-secret-of-a-key-that-is-long-enough", "key-of-the-rack", "header-value"}
    assert wanted | {"word-of-pass", "no-url://["} <= found


def test_secrets_may_be_given_as_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "key").write_text("sk-file\r\n")
    environ = {
        "LIVEKIT_API_KEY": "APIx",
        "LIVEKIT_API_SECRET_FILE": str(tmp_path / "secret"),
        "OPENAI_API_KEY_FILE": str(tmp_path / "key"),
    }
    text = f"providers: {{deepgram: {{api_key: '${{file:{tmp_path}/key}}'}}}}"
    config = loaded(tmp_path, text, environ)
    assert config.keys["APIx"].get_secret_value() == SECRET
    accounts = config.accounts()
    assert accounts["openai"].api_key == accounts["deepgram"].api_key == "sk-file"


def test_sections_whose_lines_are_all_commented_out_are_empty(tmp_path: Path) -> None:
    text = "limits:\n#  sessions: 3\nmodels:\nkeys:\nchat:\n  hedge:\nproviders:\n"
    assert loaded(tmp_path, text) == load(None, {})


def test_providers_share_settings_by_merge_keys(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        providers:
          rack: &rack {type: openai-compatible, base_url: "http://a/v1", models: [m]}
          rack2: {<<: *rack, base_url: "http://b/v1"}
        """,
    )
    second = config.accounts()["rack2"]
    assert (second.type, second.base_url) == ("openai-compatible", "http://b/v1")
    assert second.settings.models == ["m"]


def test_a_version_that_yaml_takes_for_a_date_is_text(tmp_path: Path) -> None:
    text = """
    providers:
      azure-openai: {api_key: k, base_url: "https://x.openai.azure.com", api_version: 2024-10-21}
    """
    settings = loaded(tmp_path, text).accounts()["azure-openai"].settings
    assert getattr(settings, "api_version") == "2024-10-21"  # noqa: B009 - the vendor's own


def test_what_is_odd_but_no_mistake_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("stt:\n  fallback: [deepgram/nova-3]\n")
    (warning,) = load_with_warnings(path, {}).warnings
    assert warning.startswith("stt.fallback.0: nothing serves 'deepgram/nova-3'")
    assert warning.endswith("(line 2)")


def test_a_pipe_is_read(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"server: {port: 9}")
    os.close(write_end)
    try:
        assert load(Path(f"/dev/fd/{read_end}"), {}).server.port == 9
    finally:
        os.close(read_end)
