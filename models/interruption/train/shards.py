"""Built scenes in memory, and what teachers think of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from models.interruption.data.scenes import NOT_SPEECH
from models.interruption.data.splits import Side
from models.interruption.train.network import Network

_FIELDS = ("x", "label", "weight", "speech", "words", "phonemes", "ending", "kinds", "groups",
           "onsets")  # fmt: skip
# Networks that met ten speakers of a word cannot teach it, and what is no caller needs no opinion:
# of these the label is asked alone.
_LABEL_ALONE = ("voice_backchannel", "voice_floor", "short_calls", "word_call", "word_backchannel",
                *NOT_SPEECH)  # fmt: skip
_SURE = 3.0  # logit beyond which a teacher is not believed


def fold_of(group: str, folds: int) -> int:
    """Which of so many parts a person or source is in; what was made belongs to none: -1."""
    return crc32(group.encode()) % folds if group else -1


Teacher = tuple[Network, tuple[int, int] | None]
"""A finished network and the fold of how many that it was trained without, if any."""


def _fields(
    path: Path, names: Sequence[str], left_out: tuple[int, int] | None
) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        found = {name: file[name] for name in names if name in file}
        if "clean" in names and "clean" not in found:  # of a set built before it was kept
            found["clean"] = file["x"]
        scenes = len(file["onsets"])
        groups = file.get("groups")
    if groups is None:
        if left_out is not None:
            raise ValueError(f"{path} does not say whose voices it holds: build it anew")
        groups = np.full(scenes, "")
    found |= {"groups": groups} if "groups" in names else {}
    if left_out is None:
        return found
    of = np.array([fold_of(str(group), left_out[1]) for group in groups])
    return {name: values[of != left_out[0]] for name, values in found.items()}


class Shards:
    """All scenes of one side in memory, 45 kB each, but for those of the fold that is left out."""

    def __init__(
        self,
        folders: list[Path],
        side: Side,
        limit: int | None = None,
        left_out: tuple[int, int] | None = None,
    ) -> None:
        paths = [path for folder in folders for path in sorted(folder.glob(f"{side}-*.npz"))]
        if not paths:
            raise FileNotFoundError(f"no shards of side {side} in {folders}: build them first")
        self._paths, self._left_out = paths[:limit], left_out
        self.fields = self._read(_FIELDS)
        # The recorder of scenes marks whatever sounds; only people who speak or hum are speech.
        self.fields["speech"][np.isin(self.fields["kinds"], NOT_SPEECH)] = 0
        self.count = len(self.fields["x"])
        self._taught_by = [n for n in _FIELDS if n not in ("kinds", "groups", "onsets")]

    def _read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        read = [_fields(path, names, self._left_out) for path in self._paths]
        return {name: np.concatenate([one[name] for one in read]) for name in names}

    def ask(self, teachers: Sequence[Teacher], ending: float) -> None:
        """Adds `opinion`: P(floor) by the mean of the networks' logits. Where it was kept, they
        hear the scene before any channel: the learner hears noise, its teachers need not.

        Of a network that was trained without some people, only the opinion on these counts (and on
        what belongs to nobody): what it says of the others it may know by heart. `ending` times
        the logit of "complete" is taken off first, smart-turn's where it was asked, else the
        network's own: in round 6 that, and the mean, told real turns from cut ones better than any
        single network. Of words alone, and of what is no caller, nobody is asked: NaN.
        """
        shape = self.fields["label"].shape
        opinion, counted = np.zeros(shape, np.float32), np.zeros((shape[0], 1), np.float32)
        known = np.clip(self.fields["ending"].astype(np.float32), 1e-3, 1 - 1e-3)
        complete = np.clip(np.log(known / (1 - known)), -_SURE, _SURE)
        asked = ~np.isin(self.fields["kinds"], _LABEL_ALONE)
        heard = self._read(["clean"])["clean"]
        for network, left_out in teachers:
            mine = np.flatnonzero(asked)
            if left_out is not None:
                fold, folds = left_out
                of = np.array([fold_of(str(group), folds) for group in self.fields["groups"]])
                mine = np.flatnonzero(asked & ((of == fold) | (of == -1)))
            network.eval()
            for start in range(0, len(mine), 256):
                at = mine[start : start + 256]
                with torch.no_grad():
                    said = network(torch.from_numpy(heard[at].astype(np.float32)))
                own = said["ending"].numpy()
                known = np.where(np.isnan(complete[at]), own, complete[at])
                opinion[at] += said["floor"].numpy() - ending * known
                counted[at] += 1
        missing = int((counted[asked] == 0).sum())
        if missing:
            raise ValueError(f"{missing} scenes have no teacher: a fold is missing")
        counted[~asked] = np.nan
        self.fields["opinion"] = (1 / (1 + np.exp(-opinion / counted))).astype(np.float16)
        self._taught_by.append("opinion")

    def batch(self, index: np.ndarray) -> dict[str, Tensor]:
        out = {}
        for name in self._taught_by:
            values = self.fields[name][index]
            out[name] = torch.from_numpy(
                values.astype(np.int64 if name == "phonemes" else np.float32)
            )
        return out


def probabilities(network: Network, shards: Shards) -> np.ndarray:
    """[scenes, frames]"""
    network.eval()
    found = []
    with torch.no_grad():
        for start in range(0, shards.count, 256):
            x = torch.from_numpy(shards.fields["x"][start : start + 256].astype(np.float32))
            found.append(torch.sigmoid(network(x)["floor"]).numpy())
    return np.concatenate(found)
