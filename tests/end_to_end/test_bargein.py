"""Adaptive interruption of the real clients, through the real server and its model."""

from __future__ import annotations

import struct
import time
import wave
from pathlib import Path

import aiohttp
import jwt
import pytest

from tests.end_to_end.clients import Client, Event, check_messages
from tests.end_to_end.conftest import Recording, recordings
from tests.end_to_end.server import Server

ANSWER_TIME_MAX_S = 0.7  # then a client gives adaptive interruption up for the whole session
FRAMES_PER_S = 40

PAUSE_S = 1.2  # between a backchannel and an interruption within one utterance of the agent

Heard = dict[str, list[Event]]


@pytest.fixture(scope="module")
def heard(client: Client, server: Server) -> Heard:
    """Every recording, played to an agent of its own, all at the same time: file -> events."""
    events = client.drive(
        "drive_bargein",
        *(recording.argument for recording in recordings()),
        environment=server.agent_environment(),
    )
    found: Heard = {}
    for event in events:
        found.setdefault(event.get("clip", ""), []).append(event)
    return found


def verdict(heard: Heard, recording: Recording) -> Event:
    events = heard[str(recording.path)]
    troubles = [one for one in events if one["event"] in ("error", "failed", "no_verdict")]
    assert troubles == []
    (found,) = [one for one in events if one["event"] == "overlapping_speech"]
    return found


def labelled(*labels: str) -> list[Recording]:
    return [one for one in recordings() if one.label in labels]


def named(recording: Recording) -> str:
    return recording.path.stem


@pytest.mark.parametrize("recording", labelled("interruption"), ids=named)
def test_a_spoken_interruption_is_one(heard: Heard, recording: Recording) -> None:
    event = verdict(heard, recording)

    assert event["is_interruption"] is True
    assert event["detection_delay_s"] < recording.end_s - recording.onset_s


@pytest.mark.parametrize("recording", labelled("backchannel", "cough"), ids=named)
def test_a_backchannel_or_a_cough_is_none(heard: Heard, recording: Recording) -> None:
    assert verdict(heard, recording)["is_interruption"] is False


@pytest.mark.parametrize("recording", recordings(), ids=named)
def test_every_frame_of_the_window_has_a_probability_in_time(
    heard: Heard, recording: Recording
) -> None:
    event = verdict(heard, recording)

    frames = event["window_samples"] * FRAMES_PER_S // 16000
    assert abs(event["frames"] - frames) <= 1
    assert all(0 <= probability <= 1 for probability in event["probabilities"])
    assert 0 < event["total_duration_s"] < ANSWER_TIME_MAX_S


def test_a_wrong_secret_ends_adaptive_interruption(client: Client, server: Server) -> None:
    environment = {**server.agent_environment(), "LIVEKIT_API_SECRET": "wrong" * 8}

    events = client.drive("drive_bargein", recordings()[0].argument, environment=environment)

    assert [one for one in events if one["event"] == "overlapping_speech"] == []
    assert [one for one in events if one["event"] in ("error", "failed")]


def test_an_interruption_after_a_backchannel_is_still_one(
    client: Client, server: Server, tmp_path: Path
) -> None:
    first, second = (
        next(one for one in recordings() if one.path.stem == stem)
        for stem in ("backchannel-ami-okay-dev01", "interruption-libri-1355")
    )
    path, moved_s = tmp_path / "both.wav", joined(first, second, tmp_path / "both.wav")
    argument = f"{first.argument}:{second.onset_s + moved_s:.3f}:{second.end_s + moved_s:.3f}"

    events = client.drive(
        "drive_bargein",
        argument.replace(str(first.path), str(path)),
        environment=server.agent_environment(),
    )

    verdicts = [one for one in events if one["event"] == "overlapping_speech"]
    assert [one["is_interruption"] for one in verdicts] == [False, True]


def joined(first: Recording, second: Recording, path: Path) -> float:
    """Write both, one after the other; how much later than in its own file the second is heard."""
    with wave.open(str(first.path)) as one, wave.open(str(second.path)) as other:
        rate = one.getframerate()
        skipped = int((second.onset_s - PAUSE_S) * rate)
        other.setpos(skipped)
        with wave.open(str(path), "wb") as file:
            file.setparams(one.getparams())
            file.writeframes(one.readframes(one.getnframes()))
            file.writeframes(other.readframes(other.getnframes() - skipped))
        later_s: float = (one.getnframes() - skipped) / rate
        return later_s


async def test_every_message_fits_the_schemas_of_the_node_client(
    node_client: Client, server: Server
) -> None:
    now = int(time.time())
    claims = {"iss": server.api_key, "nbf": now, "exp": now + 60, "inference": {"perform": True}}
    token = jwt.encode(claims, server.api_secret, algorithm="HS256")
    headers = {"Authorization": f"Bearer {token}"}
    said: list[str] = []
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.ws_connect(f"{server.url}/v1/bargein") as socket,
    ):
        settings = {"sample_rate": 16000, "num_channels": 1, "min_frames": 2, "encoding": "s16le"}
        await socket.send_json({"type": "session.create", "settings": settings})
        said.append(await socket.receive_str())
        await socket.send_bytes(struct.pack("<Q", 2**53 - 1) + bytes(2 * 20227))
        said.append(await socket.receive_str())
        await socket.send_json({"type": "session.close"})
        said.append(await socket.receive_str())
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.ws_connect(f"{server.url}/bargein") as socket,
    ):
        await socket.send_str("not JSON")
        said.append(await socket.receive_str())

    assert check_messages("bargein", said) == []
    assert str(2**53 - 1) in said[1]
