"""Calls in which the agent's own voice comes back: what cancellers leave of it, callers over it.

    pip install livekit==1.2.1      # in an environment of its own: WebRTC's audio processing
    python -m models.interruption.data.echoes --audio FOLDER --side train --count 600

Each scene is one call: the voice as /tts sent it (faster than it is played, later played with
pauses), a loudspeaker that distorts it, a room whose path may change, clocks that drift, and a
canceller: WebRTC's, none, or a plain suppressor. In a third of them nobody else speaks, in a third
a caller talks over the agent, in a third a caller does so whose headset leaks nothing. Written
to `echoes/SIDE` of the cache, one file for each scene; it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

from models.interruption.cache import add_audio, cache_folder
from models.interruption.data import splits, voices
from models.interruption.data.channel import room
from models.interruption.data.nonverbal import RATE, Audio, floor_noise
from models.interruption.data.splits import Side

KINDS = ("echo", "double", "clean")
CANCELLERS = ("webrtc", "webrtc", "webrtc", "none", "suppressor")
LENGTH_S = 9.0
AGENTS = ("speech_libri", "ivr_speech", "speech_ocean")
CALLERS = ("speech_libri", "speech_ocean")
_BLOCK = RATE // 100


@dataclass(frozen=True)
class Scene:
    """One call. `sent` is the agent's voice as /tts sent it, each piece with the second at which it
    was sent; times are seconds of the caller's channel. `played`: rows of when a part comes back,
    of which piece it is, from which second of that, and for how long. `floor_s`: when the caller
    begins to speak, NaN where nobody does, and `quiet_s` when that ends."""

    heard: NDArray[Any]
    sent: tuple[tuple[float, NDArray[Any]], ...]
    kind: str
    canceller: str
    played: NDArray[np.float64]
    floor_s: float
    quiet_s: float
    agent: str
    caller: str


@dataclass(frozen=True)
class Recording:
    path: Path
    person: str


class Voices:
    """Recordings of one side, by folder; `more`: what `collect` made, whose people speak too;
    `made`: the folder of made voices, who are agents then as often as recorded people."""

    def __init__(
        self, audio: Path, side: Side, more: Path | None = None, made: Path | None = None
    ) -> None:
        rows = _rows(audio, side)
        self.rirs = [_read(audio / _below(row)) for row in rows if "rir/" in row["path"]]
        known = [(audio, row) for row in rows]
        if more is not None and (more / "train" / "manifest.csv").exists():
            known += [(more, row) for row in _rows(more, side)]
        self._of: dict[str, list[Recording]] = {folder: [] for folder in (*AGENTS, *CALLERS)}
        for root, row in known:
            if (folder := Path(row["path"]).parent.name) in self._of:
                self._of[folder].append(Recording(root / _below(row), splits.group(row)))
        self.made = [
            Recording(path, "made " + " ".join(note["voices"]))
            for path, note in (voices.notes(made) if made is not None else ())
            if note["side"] == side and "sentence" in note["kinds"]
        ]

    def draw(self, rng: Generator, folders: Sequence[str]) -> tuple[Audio, str]:
        """What one person says, without the silence around it, at an RMS of 0.1. Raises ValueError
        where none of the folders has a recording."""
        if not any(self._of[folder] for folder in folders):
            raise ValueError(f"nobody is recorded in {' or '.join(folders)}")
        while True:
            found = self._of[str(rng.choice(folders))]
            if found:
                break
        return _said(found[int(rng.integers(len(found)))])

    def agent(self, rng: Generator) -> Callable[[], tuple[Audio, str]]:
        """Draws what an agent says: people of one folder, or one made voice."""
        if self.made and rng.random() < 0.5:
            first = self.made[int(rng.integers(len(self.made)))]
            own = [one for one in self.made if one.person == first.person]
            return lambda: _said(own[int(rng.integers(len(own)))])
        folder = int(rng.choice(len(AGENTS), p=[0.6, 0.25, 0.15]))
        # Where a folder is missing, others speak: the prompts, say, which are share-alike.
        folders = AGENTS[folder : folder + 1] if self._of[AGENTS[folder]] else AGENTS
        return lambda: self.draw(rng, folders)


def _rows(folder: Path, side: Side) -> list[dict[str, str]]:
    with (folder / "train" / "manifest.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if splits.side(row) is side]


def _read(path: Path) -> Audio:
    samples, _ = soundfile.read(path, dtype="float32")
    return np.asarray(samples, np.float32)


def _said(one: Recording) -> tuple[Audio, str]:
    x = _read(one.path)
    loud = np.flatnonzero(np.abs(x) > 0.05 * np.abs(x).max())
    x = x[max(loud[0] - 80, 0) : loud[-1] + 800]
    return np.asarray(x / (x.std() + 1e-6) * 0.1, np.float32), one.person


def _below(row: dict[str, str]) -> str:
    return row["path"] if row["path"].startswith("train/") else f"train/{row['path']}"


def _loudspeaker(rng: Generator, x: Audio) -> Audio:
    """Small and driven too hard, to a degree that is drawn."""
    low = float(rng.uniform(80, 500))
    high = float(rng.uniform(3500, 7500))
    x = sosfilt(butter(2, [low, high], "band", fs=RATE, output="sos"), x)
    drive = float(np.exp(rng.uniform(np.log(0.3), np.log(5.0))))
    skew = float(rng.uniform(0, 0.3))
    y = np.tanh(drive * x * 3 + skew) - np.tanh(skew)
    return np.asarray(y / (np.std(y) + 1e-6) * 0.1, np.float32)


def _path(rng: Generator, x: Audio, rirs: list[Audio]) -> Audio:
    """Through the room, whose path changes in the middle of some calls."""
    y = fftconvolve(x, room(rng, rirs))[: len(x)]
    if rng.random() < 0.5:
        other = fftconvolve(x, room(rng, rirs))[: len(x)]
        at, over = rng.uniform(1.5, 6.0) * RATE, rng.uniform(0.02, 1.0) * RATE
        share = np.clip((np.arange(len(x)) - at) / over, 0, 1)
        y = (1 - share) * y + share * other
    return np.asarray(y, np.float32)


def _drifted(x: Audio, parts_per_million: float) -> Audio:
    at = np.arange(len(x)) * (1 + parts_per_million * 1e-6)
    return np.asarray(np.interp(at, np.arange(len(x)), x), np.float32)


def _played(
    rng: Generator, pieces: Sequence[tuple[float, Audio]]
) -> tuple[Audio, list[tuple[float, float, float, float]]]:
    """The pieces one after another as a client plays them: late, and paused in some calls. And the
    rows of `Scene.played`."""
    out = np.zeros(round(LENGTH_S * RATE), np.float32)
    parts, free = [], 0.0
    for number, (sent_s, voice) in enumerate(pieces):
        start = max(sent_s + rng.uniform(0.1, 1.5), free)
        cuts = [0, len(voice)]
        if rng.random() < 0.2:
            cuts.insert(1, int(rng.uniform(0.3, 0.8) * len(voice)))
        for a, b in itertools.pairwise(cuts):
            at = round(start * RATE)
            part = voice[a:b][: max(len(out) - at, 0)]
            out[at : at + len(part)] += part
            parts.append((start, float(number), a / RATE, len(part) / RATE))
            start += (b - a) / RATE + rng.uniform(0.3, 2.5)
        free = start
    return out, parts


def _cancelled(rng: Generator, near: Audio, far: Audio, delay_s: float) -> Audio:
    """Through WebRTC's audio processing, as a browser or a telephone app has it."""
    from livekit import rtc

    apm = rtc.AudioProcessingModule(
        echo_cancellation=True,
        noise_suppression=bool(rng.random() < 0.6),
        high_pass_filter=True,
        auto_gain_control=bool(rng.random() < 0.4),
    )
    told_ms = min(max(0, round(1000 * delay_s + rng.normal(0, 30))), 500)

    def frame(x: Audio) -> Any:
        pcm = np.round(np.clip(x, -1, 1) * 32767).astype(np.int16).tobytes()
        return rtc.AudioFrame(pcm, RATE, 1, _BLOCK)

    out = []
    for start in range(0, len(near) - _BLOCK + 1, _BLOCK):
        apm.process_reverse_stream(frame(far[start : start + _BLOCK]))
        apm.set_stream_delay_ms(told_ms)
        heard = frame(near[start : start + _BLOCK])
        apm.process_stream(heard)
        out.append(np.frombuffer(bytes(heard.data), np.int16).astype(np.float32) / 32768)
    return np.asarray(np.concatenate(out), np.float32)


def _suppressed(rng: Generator, near: Audio, echo: Audio) -> Audio:
    """Every band turned down where the echo is strong in it, not quite at the right moment."""
    size, hop = 512, 256
    window = np.sqrt(np.hanning(size + 1)[:-1])
    pad = np.pad(near, (size, size))
    guess = np.pad(echo, (size, size))
    late = int(rng.integers(0, 3))
    depth = 10 ** (-rng.uniform(10, 35) / 20)
    power, out = float(rng.uniform(0.5, 3)), np.zeros(len(pad), np.float32)
    smooth = np.zeros(size // 2 + 1)
    gains: list[Any] = [np.ones(size // 2 + 1)] * (late + 1)
    for at in range(0, len(pad) - size, hop):
        x = np.fft.rfft(window * pad[at : at + size])
        e = np.abs(np.fft.rfft(window * guess[at : at + size])) ** 2 * rng.uniform(0.3, 1.5)
        smooth = np.maximum(0.7 * smooth, e)
        gains.append(np.maximum(np.abs(x) ** 2 / (np.abs(x) ** 2 + power * smooth + 1e-9), depth))
        out[at : at + size] += window * np.fft.irfft(x * gains[-1 - late], size)
    return np.asarray(out[size : size + len(near)], np.float32)


def scene(rng: Generator, people: Voices, kind: str, canceller: str) -> Scene:
    """One call of a kind (of KINDS), by one of CANCELLERS."""
    speaks = people.agent(rng)
    first, agent = speaks()
    sent_s = float(rng.uniform(0.05, 0.5))
    while len(first) < 3 * RATE:
        more, _ = speaks()
        first = np.concatenate([first, np.zeros(int(rng.uniform(0.1, 0.4) * RATE)), more])
    pieces = [(sent_s, first.astype(np.float32))]
    if len(first) < 6 * RATE:
        second, _ = speaks()
        pieces.append((float(rng.uniform(sent_s + 0.2, 4.0)), second))
    played, parts = _played(rng, pieces)
    delay_s = float(rng.uniform(0, 0.5))
    echo = _path(rng, _loudspeaker(rng, played), people.rirs)
    echo = np.pad(echo, (round(delay_s * RATE), 0))[: len(played)]
    echo = _drifted(echo, float(rng.normal(0, 80)))
    back = np.array([(at + delay_s, *rest) for at, *rest in parts])
    n, floor_s, quiet_s, caller = len(played), float("nan"), float("nan"), ""
    near = np.zeros(n, np.float32)
    if kind != "echo":
        said, caller = people.draw(rng, CALLERS)
        while caller == agent:
            said, caller = people.draw(rng, CALLERS)
        floor_s = float(back[0, 0] + rng.uniform(1.0, 3.0))
        at = round(floor_s * RATE)
        part = fftconvolve(said, room(rng, people.rirs))[: len(said)][: n - at]
        quiet_s = floor_s + len(part) / RATE
        near[at : at + len(part)] = part / (part.std() + 1e-6) * 0.1
    level_db = float(rng.uniform(-36, -18))
    over_db = float(rng.uniform(-10, 12))  # the echo against a caller's voice, at the microphone
    noise = floor_noise(rng, n) * 0.1 * 10 ** (-rng.uniform(15, 50) / 20)
    scale = 10 * 10 ** (level_db / 20)
    leaked = np.zeros_like(echo) if kind == "clean" else echo * 10 ** (over_db / 20)
    if canceller == "none":
        leaked = leaked * 10 ** (-rng.uniform(6, 24) / 20)
    mixed = np.asarray((near + leaked + noise) * scale, np.float32)
    if canceller == "webrtc":
        heard = _cancelled(rng, mixed, played, delay_s)
    elif canceller == "suppressor":
        heard = _suppressed(rng, mixed, np.asarray(leaked * scale, np.float32))
    else:
        heard = mixed
    if rng.random() < 0.4:  # a telephone in between
        band = butter(3, [200, 3400], "band", fs=RATE, output="sos")
        heard = np.asarray(sosfilt(band, heard), np.float32)
    return Scene(heard, tuple(pieces), kind, canceller, back, floor_s, quiet_s, agent, caller)


def _whole(x: Audio) -> Any:
    return np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)


def save(path: Path, made: Scene) -> None:
    spoken = {f"voice{i}": _whole(voice) for i, (_, voice) in enumerate(made.sent)}
    fields = {name: getattr(made, name) for name in Scene.__dataclass_fields__}
    del fields["heard"], fields["sent"]
    sent_s = np.array([at for at, _ in made.sent])
    part = path.with_suffix(".part.npz")
    np.savez(part, heard=_whole(made.heard), sent_s=sent_s, **spoken, **fields)
    part.rename(path)


def load(path: Path) -> Scene:
    """A scene; samples are whole numbers (int16)."""
    with np.load(path) as file:
        sent = tuple((float(at), file[f"voice{i}"]) for i, at in enumerate(file["sent_s"]))
        text = {name: str(file[name]) for name in ("kind", "canceller", "agent", "caller")}
        return Scene(
            heard=file["heard"],
            sent=sent,
            played=file["played"],
            floor_s=float(file["floor_s"]),
            quiet_s=float(file["quiet_s"]),
            **text,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_audio(parser)
    parser.add_argument("--side", type=Side, choices=list(Side), required=True)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--voices", help="made voices below the cache, who are agents too")
    parser.add_argument("--more", action="store_true", help="also people whom `collect` found")
    parser.add_argument("--name", default="echoes", help="of the set, below the cache")
    parser.add_argument("--cancellers", nargs="+", choices=set(CANCELLERS), default=CANCELLERS)
    parser.add_argument("--worker", default="0/1", help="this process of how many, such as 0/2")
    arguments = parser.parse_args()
    root = cache_folder()
    folder = root / arguments.name / arguments.side
    folder.mkdir(parents=True, exist_ok=True)
    more = root / "more" if arguments.more else None
    made = root / arguments.voices if arguments.voices else None
    people = Voices(arguments.audio, arguments.side, more, made)
    first, of = map(int, arguments.worker.split("/"))
    for number in range(first, arguments.count, of):
        path = folder / f"{number:05d}.npz"
        if path.exists():
            continue
        # who is heard on which side is by name, and so are the rooms
        rng = np.random.default_rng((2611, list(Side).index(arguments.side), number))
        kind = KINDS[number % len(KINDS)]
        save(path, scene(rng, people, kind, str(rng.choice(arguments.cancellers))))
    print(f"{arguments.count} scenes in {folder}")


if __name__ == "__main__":
    main()
