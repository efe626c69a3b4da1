"""Makes `whisper_features.npz`: what transformers' own extractor says of some sounds.

    python -m tests.engines.turn_detection.make_features     (needs transformers; made with 5.23.0)

Only every tenth frame and fifth band is kept, beside the mean of all: enough to notice anything.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.engines.turn_detection.sounds import BAND_STEP, FRAME_STEP, WINDOW_S, sounds

FIXTURE = Path(__file__).parent / "whisper_features.npz"


def main() -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(chunk_length=WINDOW_S)  # type: ignore[no-untyped-call]
    found = {}
    for name, samples in sounds().items():
        window = np.zeros(WINDOW_S * 16000, np.float32)
        newest = samples[-len(window) :].astype(np.float32) / 32768
        window[len(window) - len(newest) :] = newest
        features = extractor(
            window,
            sampling_rate=16000,
            padding="max_length",
            max_length=len(window),
            truncation=True,
            do_normalize=True,
            return_tensors="np",
        ).input_features[0]
        found[name] = features[::BAND_STEP, ::FRAME_STEP].astype(np.float32)
        found[f"{name}/mean"] = features.mean(axis=1).astype(np.float32)
        found[f"{name}/end"] = features[::BAND_STEP, -4:].astype(np.float32)
    np.savez_compressed(FIXTURE, **found)


if __name__ == "__main__":
    main()
