"""End of turn: the real clients hear real recordings through the real server and its model."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.engines.turn_detection import text
from gateway.settings.eot import TurnTextConfig
from tests.end_to_end.clients import Client, Event
from tests.end_to_end.conftest import RECORDINGS, installed
from tests.end_to_end.make_recordings import made_folder
from tests.end_to_end.server import Server, running
from tests.fakes import turn_model
from tests.fakes.openai_chat import FakeOpenAI
from tests.fetched_weights import fetched

TURNS = RECORDINGS / "turns"
PLUGIN = Client("turn-detector-1.8.9", "python", ("livekit-plugins-turn-detector-1.8.9.txt",))
PREDICTION_TIME_MAX_S = 1.0  # then a client gives the detector up


@dataclass(frozen=True)
class Turn:
    path: Path
    label: str
    end_s: float

    @property
    def argument(self) -> str:
        return f"{self.path}:{self.end_s}"


def turns() -> list[Turn]:
    with (TURNS / "turns.csv").open(newline="") as file:
        return [
            Turn(made_folder() / "turns" / row["file"], row["label"], float(row["end_s"]))
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module", params=["current_client", "node_client"])
def streaming_client(request: pytest.FixtureRequest) -> Client:
    found: Client = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The gateway with the fetched Smart Turn."""
    environment = {"PARLEY_CACHE": str(fetched("smart-turn"))}
    with running(tmp_path_factory.mktemp("eot"), environment=environment) as started:
        yield started


@pytest.fixture(scope="module")
def events(streaming_client: Client, server: Server) -> list[Event]:
    """One session that hears every turn."""
    return streaming_client.drive(
        "drive_eot",
        *(turn.argument for turn in turns()),
        environment=server.agent_environment(),
    )


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


@pytest.mark.parametrize("turn", turns(), ids=lambda turn: turn.path.stem)
def test_a_finished_and_an_unfinished_sentence_are_told_apart(
    events: list[Event], turn: Turn
) -> None:
    (told,) = [one for one in of_kind(events, "prediction") if one["clip"] == str(turn.path)]

    seems_finished = told["probability"] >= told["threshold"]
    assert seems_finished is (turn.label == "finished")
    assert 0 <= told["backchannel_probability"] <= 1
    assert told["backchannel_threshold"] is None


def test_the_server_is_the_only_detector_for_the_whole_session(events: list[Event]) -> None:
    assert of_kind(events, "failed") == []
    (ended,) = of_kind(events, "ended")
    assert ended["degraded"] is False
    assert ended["model"] == "turn-detector-v1"
    assert len(of_kind(events, "prediction")) == len(turns())


def test_the_clients_metrics_are_filled_in(events: list[Event]) -> None:
    metrics = of_kind(events, "metrics")

    assert len(metrics) == len(turns())
    for one in metrics:
        assert 0 < one["prediction_s"] < PREDICTION_TIME_MAX_S
        assert one["prediction_s"] <= one["detection_delay_s"] < PREDICTION_TIME_MAX_S
        # from the first audio of the turn, which a flush of the turn before began
        assert 0.9 < one["total_s"] < 8.5


def test_a_server_without_model_refuses_and_the_agent_goes_on(
    streaming_client: Client, tmp_path: Path
) -> None:
    environment = {"PARLEY_CACHE": str(tmp_path / "empty")}
    with running(tmp_path, environment=environment) as server:
        ready, body = server.get("/readyz")
        events = streaming_client.drive(
            "drive_eot", turns()[0].argument, environment=server.agent_environment()
        )

    assert ready == 200
    assert "gateway models fetch smart-turn" in json.loads(body)["eot"]["reason"]
    told = of_kind(events, "prediction")
    assert [one["probability"] for one in told] in ([1.0], [1])
    assert of_kind(events, "ended")[0]["degraded"] is True


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The gateway as the container image has it: no end-of-turn model, one language model."""
    folder = tmp_path_factory.mktemp("stock")
    with FakeOpenAI() as openai:
        environment = {
            "OPENAI_API_KEY": "key-of-openai",
            "OPENAI_BASE_URL": openai.base_url,
            "PARLEY_CACHE": str(folder / "empty"),
        }
        with running(folder, environment=environment) as started:
            yield started


def answered_by(events: list[Event]) -> str:
    """The detector at the end of a session in which the agent answered its user's turn."""
    assert of_kind(events, "failed") + of_kind(events, "error") == []
    assert len(of_kind(events, "answered")) == 1
    said = [(one["role"], one["text"]) for one in of_kind(events, "said")]
    assert said == [
        ("user", "I would like to book a table."),
        ("assistant", "Hello there, how can I help?"),
    ]
    model: str = of_kind(events, "detector")[0]["model"]
    return model


def finished_turn() -> Turn:
    return next(turn for turn in turns() if turn.label == "finished")


def test_an_agent_with_defaults_goes_on_with_the_detector_it_carries(
    current_client: Client, stock: Server
) -> None:
    before = stock.metric("parley_requests_total", route="eot", outcome="not_served")

    events = current_client.drive(
        "drive_turn", finished_turn().argument, environment=stock.agent_environment()
    )

    assert answered_by(events) == "turn-detector-v1-mini"
    (predicted,) = of_kind(events, "prediction")
    assert 0 <= predicted["probability"] <= 1
    # it asked this server once, and then never again
    after = stock.metric("parley_requests_total", route="eot", outcome="not_served")
    assert after == before + 1
    assert stock.logged("/eot is not served").count("/eot is not served") == 1


def test_a_wrong_secret_leaves_the_agent_without_detector(
    streaming_client: Client, server: Server
) -> None:
    environment = {**server.agent_environment(), "LIVEKIT_API_SECRET": "wrong" * 8}

    events = streaming_client.drive("drive_eot", turns()[0].argument, environment=environment)

    assert of_kind(events, "ended")[0]["degraded"] is True


@pytest.fixture(scope="module")
def plugin(current_client: Client) -> Client:
    return installed(PLUGIN)


SPOKEN = ("How can I help you?", "I would like to book a table for")


def test_the_multilingual_plugin_takes_no_prediction_for_what_it_is(
    plugin: Client, server: Server
) -> None:
    events = plugin.drive("drive_eot_multi", *SPOKEN, environment=server.agent_environment())

    assert of_kind(events, "failed") == []
    assert of_kind(events, "supported")[0]["supported"] is False
    assert of_kind(events, "prediction")[0]["probability"] == 1
    assert server.logged("no text model is configured").count("no text model is configured") == 1


def test_an_agent_with_the_multilingual_plugin_answers_as_one_without(
    plugin: Client, stock: Server
) -> None:
    without, having = (
        plugin.drive(
            "drive_turn",
            finished_turn().argument,
            f"--detector={detector}",
            environment=stock.agent_environment(),
        )
        for detector in ("vad", "multilingual")
    )

    assert answered_by(without) == "vad"
    assert answered_by(having) == "multilingual"
    assert of_kind(having, "prediction") == []


def test_the_multilingual_plugin_is_answered_by_a_configured_text_model(
    plugin: Client, tmp_path: Path
) -> None:
    turn_model.write_text_folder(tmp_path / "model")
    config = f"eot: {{text: {{model: '{tmp_path / 'model'}', file: m.onnx}}}}"

    with running(tmp_path, config) as server:
        events = plugin.drive("drive_eot_multi", *SPOKEN, environment=server.agent_environment())

    assert of_kind(events, "threshold")[0]["threshold"] == pytest.approx(0.01)
    assert of_kind(events, "supported")[0]["supported"] is True
    assert of_kind(events, "prediction")[0]["probability"] == pytest.approx(0.005)


CONVERSATIONS = (
    [("assistant", "Good evening! How can I help you?"), ("user", "I'd like, uh, to book")],
    [("user", "Good"), ("user", "evening"), ("assistant", "Yes?"), ("user", "  two\nlines  ")],
    [("assistant" if i % 2 else "user", f"turn number {i}") for i in range(11)],
    [("user", "¿Qué tal? – Ｇｏｏｄ, semi-final… “so”")],
    [("assistant", "Good evening"), ("user", "good evening " * 200)],
    [("user", "..."), ("user", "good")],
)


def test_a_text_model_is_run_as_the_plugin_runs_it(plugin: Client, tmp_path: Path) -> None:
    folder = turn_model.write_text_folder(tmp_path / "model")
    ours = text.load(TurnTextConfig(model=str(folder), file="m.onnx"))
    assert ours is not None
    given = [[{"role": r, "content": c} for r, c in turns] for turns in CONVERSATIONS]

    events = plugin.drive("drive_turn_text", str(folder), environment={}, given=json.dumps(given))

    theirs = of_kind(events, "read")
    assert len(theirs) == len(CONVERSATIONS)
    for conversation, read in zip(CONVERSATIONS, theirs, strict=True):
        turns = [text.Turn(role, content) for role, content in conversation]
        # theirs are six before neighbours are joined, as ours
        assert ours.text(turns) == read["text"]
        assert ours.run([turns]) == pytest.approx([read["probability"]])


def test_other_networks_need_a_token_for_the_text_model_too(plugin: Client, tmp_path: Path) -> None:
    with running(tmp_path, "eot: {anonymous_networks: ['10.0.0.0/8']}") as server:
        events = plugin.drive("drive_eot_multi", *SPOKEN, environment=server.agent_environment())

    assert "401" in of_kind(events, "failed")[0]["message"]
