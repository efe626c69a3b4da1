"""Quick figures on built scenes of held-out people, while training; `evaluate` is the full report.

Every pair compared here went through the same channels: made voices against made voices, meetings
against meetings. A scene's score at T is the highest probability that two frames in a row reached
by T seconds after the onset, which is what the client acts on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.interruption.scenes import FRAME_S

_PAIRS = {
    "voices": (("voice_turned", "voice_floor", "voice_sentence"), ("voice_backchannel",)),
    "meetings": (("meeting_turn",), ("meeting_backchannel",)),
    "real_vs_cut": (("speech_libri", "speech_ocean", "short_calls"), ("cut_word",)),
}
_TIMES_S = (0.4, 0.6, 0.8, 1.2)


def reached(
    probabilities: NDArray[np.float32], onsets: NDArray[np.float32], after_s: float
) -> NDArray[np.float32]:
    """[scenes]: the highest level that two frames in a row held, up to `after_s` past the onset."""
    both = np.minimum(probabilities[:, 1:], probabilities[:, :-1])
    ends = (np.arange(both.shape[1]) + 2) * FRAME_S
    allowed = ends[None, :] <= onsets[:, None] + after_s + 1e-6
    return np.where(allowed, both, 0).max(axis=1)


def auc(positive: NDArray[np.float32], negative: NDArray[np.float32]) -> float:
    if not len(positive) or not len(negative):
        return float("nan")
    above = (positive[:, None] > negative[None, :]).mean()
    return float(above + 0.5 * (positive[:, None] == negative[None, :]).mean())


def figures(
    probabilities: NDArray[np.float32], kinds: NDArray[np.str_], onsets: NDArray[np.float32]
) -> dict[str, object]:
    out: dict[str, object] = {}
    for name, (positive, negative) in _PAIRS.items():
        p, n = np.isin(kinds, positive), np.isin(kinds, negative)
        scores = [reached(probabilities, onsets, t) for t in _TIMES_S]
        out[f"auc {name}"] = [round(auc(s[p], s[n]), 3) for s in scores]
    for threshold in (0.5, 0.7):
        fired = reached(probabilities, onsets, 9.0) >= threshold
        out[f"fired at {threshold}"] = {
            str(kind): round(float(fired[kinds == kind].mean()), 2) for kind in np.unique(kinds)
        }
    return out
