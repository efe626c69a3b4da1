"""`gateway bench --providers`: what is asked, what it costs, and a real server in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli.bench_providers import (
    ROUNDS,
    SENTENCE,
    Target,
    Tried,
    bill,
    measured_config,
    resampled,
    rows,
    speech_of,
    targets,
    told,
)
from gateway.cli.bench_server import BenchError
from gateway.cli.main import main
from gateway.config import Config
from tests.fakes import frame_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.speech import KEY

CONFIG = Config.model_validate(
    {
        "keys": {"APIx": "s" * 40},
        "providers": {
            "openai": {"type": "openai", "api_key": "k"},
            "rack": {"type": "openai-compatible", "base_url": "http://rack/v1", "models": ["m"]},
            "deepgram": {"type": "deepgram", "api_key": "k"},
            "cartesia": {"type": "cartesia", "api_key": "k"},
        },
        "models": {
            "fast": [
                {"provider": "openai", "model": "gpt-4.1-mini"},
                {"provider": "openai", "model": "gpt-4.1-nano"},
            ],
            "voice": [{"provider": "cartesia", "model": "sonic-3", "options": {"voice": "v"}}],
        },
        "prices": {"cartesia:*": {"characters": 30.0}},
        "stt": {"fallback": ["deepgram/nova-3"]},
        "tts": {"cache": {"enabled": True}},
    }
)


def test_what_the_configuration_names_is_asked_and_one_of_every_other_provider() -> None:
    chosen = targets(CONFIG)
    assert [
        (one.modality, one.provider, one.model) for one in chosen if one.modality == "chat"
    ] == [
        ("chat", "openai", "gpt-4.1-mini"),
        ("chat", "openai", "gpt-4.1-nano"),
        ("chat", "rack", "m"),
    ]
    assert ("tts", "cartesia", "sonic-3") in {(o.modality, o.provider, o.model) for o in chosen}
    assert {one.provider for one in chosen if one.modality == "stt"} >= {"openai", "deepgram"}
    assert len({one.asked for one in chosen}) == len(chosen)


def test_it_says_what_it_costs_and_which_models_have_no_price() -> None:
    chosen = [
        Target("chat", "openai", "gpt-4.1-mini"),
        Target("chat", "rack", "m"),
        Target("tts", "cartesia", "sonic-3"),
        Target("stt", "deepgram", "nova-3"),
    ]
    costs = bill(CONFIG, chosen, 10.0)
    tokens = 20 * 0.4 + 64 * 1.6
    assert costs.nano == ROUNDS * round(
        1000 * (tokens + 30.0 * len(SENTENCE)) + 10 / 60 * 0.0048 * 10**9
    )
    assert costs.unpriced == ("rack:m",)
    shown = told(chosen, costs, 10.0)
    assert f"{costs.nano / 10**9:.4f} USD" in shown
    assert "without a price, so not in this sum: rack:m" in shown


def test_nobody_answers_in_anothers_name(tmp_path: Path) -> None:
    chosen = targets(CONFIG)
    measured = measured_config(CONFIG, chosen, tmp_path)
    assert all(len(deployments) == 1 for deployments in measured.models.values())
    (voice,) = (one.asked for one in chosen if one.modality == "tts" and one.provider == "cartesia")
    assert measured.models[voice][0].options == {"voice": "v"}
    assert measured.stt.fallback == []
    assert not measured.stt.local_last
    assert not measured.local_stand_in
    assert not measured.tts.cache.enabled
    assert not measured.stt.hedge.enabled
    assert measured.keys == CONFIG.keys


def test_the_fastest_stand_first_and_failures_say_why() -> None:
    chat = Target("chat", "slow", "m"), Target("chat", "fast", "m"), Target("chat", "gone", "m")
    shown = rows(
        [
            Tried(chat[0], [0.9, 0.8, 1.0]),
            Tried(chat[1], [0.2, 0.1, 0.3]),
            Tried(chat[2], [], "wrong key"),
        ]
    )
    assert [(row[1], row[4:]) for row in shown] == [
        ("fast", ("100", "200", "300", "")),
        ("slow", ("800", "900", "1000", "")),
        ("gone", ("-", "-", "-", "wrong key")),
    ]


def test_speech_is_16_khz_and_not_long(tmp_path: Path) -> None:
    assert len(resampled(bytes(2 * 24_000), 24_000)) == 2 * 16_000
    assert len(resampled(bytes(2 * 16_000 * 60), 16_000)) == 2 * 16_000 * 10
    with pytest.raises(BenchError, match=r"no\.wav"):
        speech_of(tmp_path / "no.wav")


def test_the_configured_providers_stand_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # some seconds: a server starts, and speech is played in real time
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path / "cache"))
    with FakeOpenAI() as llm, FakeCartesia() as voice, FakeDeepgram() as ear:
        config = tmp_path / "c.yaml"
        config.write_text(f"""
keys: {{APIx: {"s" * 40}}}
bargein: {{model: {frame_model.write(tmp_path / "m.onnx")}}}
usage: {{url: "sqlite:{tmp_path}/usage.db"}}
providers:
  rack: {{type: openai-compatible, base_url: "{llm.base_url}", api_key: k, models: [mini]}}
  gone: {{type: openai-compatible, base_url: "http://127.0.0.1:9/v1", models: [m]}}
  cartesia: {{base_url: "{voice.url}", api_key: {KEY}}}
  deepgram: {{base_url: "{ear.url}", api_key: {KEY}}}
models: {{voice: [{{provider: cartesia, model: sonic-3, options: {{voice: v}}}}]}}
""")
        command = ["bench", "--config", str(config), "--providers", "--json"]
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 1
        asked = capsys.readouterr()
        assert "nothing was asked" in asked.err
        assert not llm.received
        with pytest.raises(SystemExit) as ended:
            main([*command, "--yes"])
        assert not ended.value.code
    tried = {
        (one["target"]["modality"], one["target"]["provider"]): one
        for one in json.loads(capsys.readouterr().out)["tried"]
    }
    for pair in (("chat", "rack"), ("tts", "cartesia"), ("stt", "deepgram")):
        assert len(tried[pair]["first_s"]) == ROUNDS, tried[pair]
    assert tried["chat", "gone"]["first_s"] == []
    assert tried["chat", "gone"]["error"]
    assert not (tmp_path / "state").exists(), "the operator's list of changes stays as it is"
