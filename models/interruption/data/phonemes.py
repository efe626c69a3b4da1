# ruff: noqa: RUF001  (IPA looks like other letters)
"""Numbers for the sounds of speech, so that a network can be asked which one it hears."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Class 1 is any letter that is not here.
_PHONEMES = "abcdefhijklmnopqrstuvwxyzæçðøŋœɐɑɒɔəɚɛɜɟɡɣɥɪɫɯɲɳɹɾɽʁʂʃʈʊʋʌʎʒʔʝʤʧθβɨᵻɕʑɭɦɖɸɻɤʏʐʰ"
PHONEME_CLASSES = len(_PHONEMES) + 2


def numbered(phonemes: str) -> NDArray[np.int16]:
    """A class for each sign of IPA: 0 between words, the neighbour's for stress and length."""
    classes = [_PHONEMES.find(sign) + 2 if sign.isalpha() else 0 for sign in phonemes]
    for i, sign in enumerate(phonemes):
        if sign == "ː" and i:
            classes[i] = classes[i - 1]
    for i in reversed(range(len(phonemes) - 1)):
        if phonemes[i] in "ˈˌ":
            classes[i] = classes[i + 1]
    return np.array(classes, np.int16)


def with_pauses(
    starts_s: NDArray[np.float64],
    classes: NDArray[np.int16],
    pauses: list[tuple[float, float]],
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """The same, but 0 while nothing sounds: synthesisers and aligners stretch what came before."""
    for start, end in pauses:
        index = int(np.searchsorted(starts_s, end, side="right")) - 1
        after = classes[index] if index >= 0 else 0
        kept = (starts_s < start) | (starts_s > end)
        starts_s = np.concatenate([starts_s[kept], [start, end]])
        classes = np.concatenate([classes[kept], [0, after]]).astype(np.int16)
        order = np.argsort(starts_s, kind="stable")
        starts_s, classes = starts_s[order], classes[order]
    return starts_s, classes
