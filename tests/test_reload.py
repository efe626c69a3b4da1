"""What of a new configuration is taken, and what is told of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gateway.config import Config, Loaded, load
from gateway.reload import NEEDS_RESTART, Reloader, changes, keep, options
from gateway.telemetry.changes import ChangeLog, read_changes
from gateway.telemetry.metrics import Metrics

SECRET, OTHER = "s" * 40, "t" * 40
YAML = """
keys: {one: SECRET, two: SECRET}
providers: {openai: {api_key: k}, cartesia: {api_key: k}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(YAML.replace("SECRET", SECRET))
    return path


def config(file: Path, text: str) -> Config:
    file.write_text(text.replace("SECRET", SECRET).replace("OTHER", OTHER))
    return load(file, {})


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ("", ()),
        ("server: {host: 127.0.0.1}", ("server.host",)),
        ("server: {port: 9, workers: 3, admin_port: 8}",
         ("server.port", "server.workers", "server.admin_port")),
        ("bargein: {threshold: 0.7, batch: 9}", ("bargein.batch",)),
        ("eot: {enabled: false}\nusage: {keep_days: 3}", ("eot", "usage")),
        ("quota: {prefix: x, keys: {one: {credits: 1}}}", ("quota.prefix",)),
        ("server: {tls: {certificate: a, key: b}}", ("server.tls",)),
        ("limits: {sessions: 3}\nserver: {trusted_proxies: [10.0.0.0/8]}", ()),
    ],
)  # fmt: skip
def test_what_needs_a_restart_stays_and_is_named(
    file: Path, more: str, options: tuple[str, ...]
) -> None:
    running = load(file, {})
    new = config(file, YAML + more)
    kept, named = keep(running, new)
    assert named == options
    for option in NEEDS_RESTART:
        section, _, name = option.partition(".")
        old, now = getattr(running, section), getattr(kept, section)
        if option != "server.tls" or option in options:
            assert (getattr(old, name) == getattr(now, name)) if name else (old == now)
    assert kept.limits == new.limits
    assert kept.quota.keys == new.quota.keys
    assert keep(kept, new)[1] == options, "it is named until the restart"


def test_certificates_may_move(file: Path) -> None:
    running = config(file, YAML + "server: {tls: {certificate: a, key: b}}")
    kept, named = keep(running, config(file, YAML + "server: {tls: {certificate: c, key: d}}"))
    assert named == ()
    assert str(kept.server.tls.certificate) == "c"


def test_changes_are_told_by_names_alone(file: Path) -> None:
    running = load(file, {})
    new = config(
        file,
        "keys: {one: OTHER, three: SECRET}\n"
        "providers: {cartesia: {api_key: other}, groq: {api_key: k}}\n"
        "limits: {sessions: 3}\nprices: {'cartesia:x': {input: 1}}",
    )
    told = changes(running, new)
    assert told == {
        "keys_added": "three",
        "keys_removed": "two",
        "keys_changed": "one",
        "providers_added": "groq",
        "providers_removed": "openai",
        "providers_changed": "cartesia",
        "options": "limits.sessions; prices.cartesia:x.input",
    }
    assert changes(new, new) == {}


def test_a_budget_of_a_key_and_a_setting_of_the_page_are_named_to_the_last(file: Path) -> None:
    before = config(file, YAML + "quota: {keys: {one: {day: {cost: 1}}}}")
    after = config(
        file,
        YAML
        + "quota: {keys: {one: {day: {cost: 2}}, two: {credits: 3}}}\n"
        + "page: {token: a-token-of-the-page}",
    )
    assert changes(before, after) == {
        "options": "page.token; quota.keys.one.day.cost; quota.keys.two.credits"
    }


class Server:
    """Takes configurations, or does not."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.taken: list[Config] = []
        self.fault: Exception | None = None
        self.metrics = Metrics()
        self.kept = file.with_name("changes.jsonl")
        self.reloader = Reloader(
            load(file, {}), self.read, self.use, self.metrics, ChangeLog(self.kept)
        )

    def read(self) -> Loaded:
        return Loaded(load(self.file, {}))

    async def use(self, config: Config) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken.append(config)

    def counted(self, outcome: str) -> float:
        registry = self.metrics.registry
        value = registry.get_sample_value("parley_config_reloads_total", {"outcome": outcome})
        assert value is not None, "it is there before the first"
        return value


async def test_a_configuration_with_mistakes_changes_nothing_and_says_why(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(file)
    assert (server.counted("applied"), server.counted("refused")) == (0, 0)
    file.write_text("limits: {sessions: -1}\nprviders: {}")
    told = await server.reloader.reload("SIGHUP")
    assert not told.applied
    assert len(told.mistakes) == 2
    assert server.taken == []
    assert (server.counted("applied"), server.counted("refused")) == (0, 1)
    (line,) = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert "limits.sessions" in line.mistakes  # type: ignore[attr-defined]


async def test_what_cannot_be_taken_counts_as_refused(file: Path) -> None:
    server = Server(file)
    server.fault = RuntimeError("x")
    told = await server.reloader.reload("SIGHUP")
    assert (told.applied, server.counted("refused")) == (False, 1)
    server.fault = None
    file.write_text(f"keys: {{one: {SECRET}}}")
    told = await server.reloader.reload("SIGHUP")
    assert told.changes["keys_removed"] == "two"
    assert server.taken[-1].keys.keys() == {"one"}
    assert server.reloader.config is server.taken[-1]
    kept = [(one["what"], one["by"], one.get("keys_removed")) for one in read_changes(server.kept)]
    assert kept == [("refused", "SIGHUP", None), ("applied", "SIGHUP", "two")]


async def test_what_waits_for_a_restart_is_kept_too_and_is_new_with_the_next_start(
    file: Path,
) -> None:
    server = Server(file)
    log = ChangeLog(server.kept)
    log.started("ann", options(server.reloader.config))
    new = config(file, YAML + "page: {token: a-token-of-the-page}\nlimits: {sessions: 3}")
    await server.reloader.reload("SIGHUP")
    log.started("ann", options(new))
    _, applied, started = read_changes(server.kept)
    assert (applied["options"], applied["waits_for_restart"]) == ("limits.sessions", "page")
    assert started["options"] == "page.token"
