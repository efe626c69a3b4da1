"""Training what knows the agent's own voice again: in small, and in the server's own terms."""

import numpy as np
import pytest
import torch

from gateway.engines.interruption import own_voice
from gateway.engines.interruption.own_voice import Ear
from models.interruption.data.echoes import Scene
from models.interruption.data.nonverbal import RATE
from models.interruption.train.own_voice import (
    DECAYS_S,
    FRAMES,
    SENT,
    Consequence,
    Match,
    drawn,
    heard_of,
    losses,
    network_weights,
)


def call(kind: str = "double") -> Scene:
    rng = np.random.default_rng(1)
    envelope = np.repeat(rng.random(90), RATE // 10)
    voice = (rng.normal(0, 2000, 9 * RATE) * envelope).astype(np.int16)
    heard = np.concatenate([np.zeros(RATE, np.int16), voice])[: 9 * RATE]
    played = np.array([[1.0, 0.0, 0.0, 8.0]])
    return Scene(heard, ((0.1, voice),), kind, "none", played, 5.0, 8.0, "one", "another")


def test_frames_are_told_to_whom_they_belong() -> None:
    known = heard_of(call())

    assert set(known.label[:36]) == {-1}
    assert known.label[80:190].max() == 1
    assert known.label[80:190].min() >= -1
    assert 1 not in known.label[205:315]
    assert 0 in known.label[205:315]
    assert known.at[80] == 40  # a second late, and sent at once


def test_it_learns_and_its_weights_are_those_that_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(1)
    calls, rng, match = (
        [heard_of(call()), heard_of(call("echo"))],
        np.random.default_rng(2),
        Match(),
    )
    batch = drawn(rng, calls, 2)
    assert batch.heard.shape[:2] == (2, FRAMES)
    assert batch.sent.shape[:2] == (2, SENT)
    optimizer = torch.optim.Adam(match.parameters(), 0.01)
    course = []
    for _ in range(6):
        loss = sum(losses(match, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(loss.item())
    assert course[-1] < course[0]

    known = network_weights(match)
    served = own_voice.weights()
    assert {name: served[name].shape for name in known} == {
        name: np.shape(value) for name, value in known.items()
    }
    monkeypatch.setattr(
        own_voice, "weights", lambda: {k: v.astype(np.float32) for k, v in known.items()}
    )
    samples = call().heard
    mine = match.heard(torch.from_numpy(Ear(RATE, "heard").look(samples))[None])[0]
    assert np.allclose(Ear(RATE, "heard").hear(samples), mine.detach().numpy(), atol=0.02)


def test_what_follows_is_in_the_servers_form() -> None:
    found = Consequence(torch.randn(50, own_voice.EVIDENCE))

    served = own_voice.weights()
    assert {name: value.shape for name, value in found.weights().items()} == {
        name: served[name].shape for name in found.weights()
    }
    assert (own_voice._FAST_S, own_voice._SLOW_S) == DECAYS_S
