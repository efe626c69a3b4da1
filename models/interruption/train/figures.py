"""Quick figures on built scenes of held-out people; `evaluate` is the full report.

Every pair compared here went through the same channels: made voices against made voices, meetings
against meetings. A scene's score at T is the highest probability that two frames in a row reached
by T seconds after the onset, which is what the client acts on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.interruption.data.scenes import FRAME_S

HELD_OUT = ("scenes", "scenes-meetings", "scenes-interviews")  # sets that `prepare` builds
_PAIRS = {
    "voices": (("voice_turned", "voice_floor", "voice_sentence"), ("voice_backchannel",)),
    "meetings": (("meeting_turn",), ("meeting_backchannel",)),
    "interviews": (("interview_turn",), ("interview_backchannel",)),
    "real_vs_cut": (("speech_libri", "speech_ocean"), ("cut_word",)),
}
_TIMES_S = (0.4, 0.6, 0.8, 1.2)


def reached(
    probabilities: NDArray[np.float32], onsets: NDArray[np.float32], after_s: float
) -> NDArray[np.float32]:
    """[scenes]: the highest level that two frames in a row held, up to `after_s` past the onset."""
    both = np.minimum(probabilities[:, 1:], probabilities[:, :-1])
    ends = (np.arange(both.shape[1]) + 2) * FRAME_S
    allowed = ends[None, :] <= onsets[:, None] + after_s + 1e-6
    return np.asarray(np.where(allowed, both, 0).max(axis=1))


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


def table(
    probabilities: NDArray[np.float32], kinds: NDArray[np.str_], onsets: NDArray[np.float32]
) -> str:
    """By threshold: share of scenes of each kind in which it fired, and the median delay in ms."""
    groups = {
        "real turns": ("speech_libri", "speech_ocean", "meeting_turn", "interview_turn"),
        "made turns": ("voice_sentence", "voice_floor", "voice_turned"),
        "short calls": ("short_calls",),
        "meeting mhm": ("meeting_backchannel",),
        "interview okay": ("interview_backchannel",),
        "made mhm": ("voice_backchannel", "made_hum"),
        "cough, laugh": ("cough", "laugh"),
        "other noise": ("breath", "throat", "taps", "tones", "baby_cry", "background", "echo"),
    }
    lines = ["threshold  delay ms  " + "  ".join(groups)]
    both = np.minimum(probabilities[:, 1:], probabilities[:, :-1])
    ends = (np.arange(both.shape[1]) + 2) * FRAME_S
    for threshold in (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        fired = both >= threshold
        hit = np.asarray(fired.any(axis=1))
        real = hit & np.isin(kinds, groups["real turns"])
        delay = np.median(ends[fired[real].argmax(axis=1)] - onsets[real]) if real.any() else np.nan
        rates = [f"{hit[np.isin(kinds, group)].mean():.2f}" for group in groups.values()]
        lines.append(f"{threshold:.2f}  {delay * 1000:.0f}  " + "  ".join(rates))
    return "\n".join(lines)
