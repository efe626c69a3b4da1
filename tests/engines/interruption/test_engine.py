"""The interruption model, asked by another conversation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from gateway.engines.interruption.engine import BargeinEngine
from gateway.settings.bargein import BargeinConfig
from gateway.telemetry.metrics import Metrics
from tests.fakes import frame_model


async def test_a_listener_is_told_the_claim_of_audio_that_stands_alone(tmp_path: Path) -> None:
    path = frame_model.write(tmp_path / "m.onnx")
    engine = BargeinEngine(BargeinConfig(model=path), Metrics())
    claims: asyncio.Queue[tuple[int, float | None]] = asyncio.Queue()
    listener = engine.listener(lambda number, claim: claims.put_nowait((number, claim)))
    audio = np.full(16000 * 5, 8192, np.int16).tobytes()  # more than a window

    listener.ask(7, audio)
    assert await asyncio.wait_for(claims.get(), 60) == (7, 0.25)
    listener.ask(8, b"\0\0" * 800)
    assert await asyncio.wait_for(claims.get(), 60) == (8, 0.0)

    listener.leave()
    engine.close()
