import numpy as np

from models.interruption.data.scenes import FRAMES
from models.interruption.train.figures import auc, reached


def test_a_level_counts_when_two_frames_in_a_row_hold_it_in_time() -> None:
    probabilities = np.zeros((1, FRAMES), np.float32)
    probabilities[0, [40, 44, 45]] = 0.9, 0.5, 0.6
    onsets = np.array([1.0], np.float32)
    assert reached(probabilities, onsets, 0.125)[0] == 0
    assert reached(probabilities, onsets, 0.15)[0] == np.float32(0.5)


def test_auc_counts_ties_as_half() -> None:
    assert auc(np.array([0.5, 1.0]), np.array([0.5])) == 0.75
