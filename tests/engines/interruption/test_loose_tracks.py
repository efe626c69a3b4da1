from __future__ import annotations

import numpy as np

from gateway.engines.interruption.engine import load_model
from gateway.engines.interruption.loose_tracks import AGE_S_MAX, TRACKS_MAX, Kept, LooseTracks
from gateway.engines.interruption.model import BargeinModel, Question
from gateway.settings.bargein import BargeinConfig

STEP = 3200  # bytes of 100 ms
MODEL = BargeinModel(load_model(BargeinConfig()))


def sound(seconds: float = 8.0, seed: int = 1) -> bytes:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2000, int(16000 * seconds)).astype("<i2").tobytes()


def kept(window: bytes, at: float = 0.0) -> Kept:
    return Kept(MODEL.track(), np.zeros(1, np.float32), window, at)


def test_a_window_that_grew_or_slid_finds_its_track() -> None:
    heard = sound()
    for before, after in (
        (heard[:36_000], heard[: 36_000 + STEP]),
        (heard[:96_000], heard[STEP : 96_000 + STEP]),
        (heard[:96_000], heard[2 * STEP : 96_000 + 2 * STEP]),
        (heard[:96_000], heard[640 : 96_000 + 640]),
        (heard[:96_000], heard[:96_000]),
    ):
        tracks, mine = LooseTracks(), kept(before)
        tracks.keep("caller", mine)

        assert tracks.take("caller", after, 0.1) is mine


def test_nobody_finds_the_track_of_another() -> None:
    tracks, heard = LooseTracks(), sound()
    tracks.keep("caller", kept(heard[:96_000]))

    assert tracks.take("another", heard[STEP : 96_000 + STEP], 0.1) is None
    assert tracks.take("caller", sound(seed=2)[: 96_000 + STEP], 0.1) is None


def test_silence_is_everybodys() -> None:
    tracks = LooseTracks()
    tracks.keep("caller", kept(bytes(96_000)))

    assert tracks.take("caller", bytes(96_000), 0.1) is None


def test_a_track_in_use_is_not_given_twice() -> None:
    tracks, heard = LooseTracks(), sound()
    tracks.keep("caller", kept(heard[:36_000]))

    assert tracks.take("caller", heard[: 36_000 + STEP], 0.1) is not None
    assert tracks.take("caller", heard[: 36_000 + STEP], 0.1) is None


def test_tracks_are_few_and_young() -> None:
    tracks = LooseTracks()
    windows = [sound(1.3, seed) for seed in range(TRACKS_MAX + 1)]
    for window in windows:
        tracks.keep("caller", kept(window))

    assert tracks.take("caller", windows[0], 0.1) is None
    assert tracks.take("caller", windows[1], 0.1) is not None
    assert tracks.take("caller", windows[2], AGE_S_MAX + 0.1) is None


def test_what_was_heard_is_not_heard_again() -> None:
    tracks, heard = LooseTracks(), sound()
    run = []
    for end in range(36_000, 160_000, STEP):
        window = heard[max(0, end - 96_000) : end]
        known = tracks.take("caller", window, 0.0)
        track = MODEL.track() if known is None else known.track
        before = track.frames_run
        answers = MODEL.run([Question(track, window)])[0]
        run.append(track.frames_run - before)
        tracks.keep("caller", Kept(track, answers, window, 0.0))

    assert run[0] == 45
    assert set(run[1:]) == {4}
    assert len(answers) == 120
