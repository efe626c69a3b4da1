"""A tiny set of scenes to train on."""

from pathlib import Path

import numpy as np
import pytest

from models.interruption.data import features
from models.interruption.data.scenes import FRAMES, UNKNOWN
from models.interruption.data.splits import Side
from models.interruption.train.network import EAR_SIZE
from models.interruption.train.shards import Shards

GROUPS = ["speech_libri/libri_3", "speech_libri/libri_4", ""]
SCENES = len(GROUPS)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "train-000.npz",
        x=rng.standard_normal((SCENES, FRAMES, features.SIZE)).astype(np.float16),
        label=np.ones((SCENES, FRAMES), np.uint8),
        weight=np.ones((SCENES, FRAMES), np.float16),
        speech=np.ones((SCENES, FRAMES), np.float16),
        words=np.full((SCENES, FRAMES, EAR_SIZE), np.nan, np.float16),
        phonemes=np.full((SCENES, FRAMES), UNKNOWN, np.int16),
        ending=np.full((SCENES, FRAMES), np.nan, np.float16),
        kinds=np.array(["speech_libri"] * SCENES),
        groups=np.array(GROUPS),
        onsets=np.zeros(SCENES, np.float32),
    )
    return Shards([tmp_path], Side.TRAIN)
