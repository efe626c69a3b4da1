"""More recordings of people, out of public repositories, in the form of the audio folder.

    git clone --bare https://github.com/jimbozhang/speechocean762 FOLDER/jimbozhang+speechocean762
    python -m models.interruption.data.collect --repositories FOLDER

Each source is read at one commit from a clone (bare or not, or the folder `repo` inside), and only
the files that its pattern names. What comes out lies in the cache as `more/`, with the manifest's
columns of the recordings that DATA.md describes, so that all that reads those reads these too.
People are divided by `splits.py` by the same names: who is held out there is held out here.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from models.interruption.cache import add_audio, cache_folder
from models.interruption.pretrained.silero import VAD_FRAME, speech_probabilities

Row = dict[str, str]

WORDS = "speech_words"  # folder of single words
LAUGHS = "laughs.csv"  # beside the manifest, written by `laughs`
LISTENING_WORDS = frozenset(("right", "wow"))  # the others take the floor; "yes" is not taken

RATE = 16_000
COLUMNS = ("path", "label", "kind", "speaker", "duration_s", "onset_s", "text", "native_rate",
           "source_repo", "source_path", "licence", "note")  # fmt: skip
_KINDS = {"speech": "floor_speech_read", "noise": "background"}
_LEAD_S = 0.6  # kept before the onset
_LONGEST_S = 6.0  # kept after it
_REST_S = 1.5  # at the end of a long recording that is not worth a piece of its own
_GAP_S = 0.15
_SHORTEST_S = 0.25  # of speech by Silero; less is a click or a silence


@dataclass(frozen=True)
class Pinned:
    """A public repository at one commit."""

    repository: str
    commit: str


@dataclass(frozen=True)
class Source(Pinned):
    licence: str
    folder: str  # whose name is the kind of what is in it
    pattern: str  # of whole paths; its groups `speaker` and, where the path tells it, `text`
    speaker: str  # prefix of the speaker's name
    per_speaker: int  # files at most, evenly over all of them
    texts: tuple[str, ...] = ()  # files with a line for each stem: what is said
    skip_s: float = 0.0  # the audio folder has what comes before
    label: str = "speech"


SOURCES = (
    Source(
        "jimbozhang/speechocean762", "613968e3b0b789fc33936fb5eba1973176ba7d11",
        "CC BY 4.0 (SpeechOcean762, OpenSLR 101)", "speech_ocean",
        r"WAVE/SPEAKER(?P<speaker>\d+)/\d+\.WAV", "so_", 10, ("train/text", "test/text"),
    ),
    Source(
        "resemble-ai/Resemblyzer", "15d828edebe06bc72b9cabc8ef8ca5ab2cb457ce",
        "CC BY 4.0 (LibriSpeech)", "speech_libri",
        r"audio_data/librispeech_train-clean-100/(?P<speaker>\d+)-[\d-]+\.flac", "libri_", 1,
        skip_s=6.5,
    ),
    Source(
        "resemble-ai/Resemblyzer", "15d828edebe06bc72b9cabc8ef8ca5ab2cb457ce",
        "CC BY 4.0 (LibriSpeech)", "speech_libri",
        r"audio_data/librispeech_test-other/(?P<speaker>\d+)/[\d-]+\.flac", "libri_", 10,
    ),
    # Excerpts of MS-SNSD, whose own repository is ten times as large. Who speaks is not told.
    Source(
        "haroitman/nsnet_implementation", "9335f8a8069f737e37b31fe980f8097dd39495fc",
        "CC BY 4.0 (Edinburgh 56 speakers) or ODbL (PTDB-TUG), by MS-SNSD", "speech_more",
        r"(?P<speaker>CleanSpeech)_training/\w+\.wav", "snsd_", 552,
    ),
    Source(
        "haroitman/nsnet_implementation", "9335f8a8069f737e37b31fe980f8097dd39495fc",
        "CC0 (Freesound) or CC BY-SA 3.0 (DEMAND), by MS-SNSD", "noise",
        r"(?P<speaker>Noise)_training/[\w.]+\.wav", "snsd_", 150, label="noise",
    ),
    Source(
        "lrburle/CS5783-FinalProject", "5188e3577dc995af45cbe0097b4a6780b0917c3c",
        "CC BY 4.0 (Speech Commands, P. Warden, 2018)", WORDS,
        r"src/data/mini_speech_commands/(?P<text>stop|no|go|right|left|up|down)/"
        r"(?P<speaker>[0-9a-f]{8})_nohash_\d+\.wav", "sc_", 20,
    ),
    Source(
        "thegtagamer/PICO-tinyML-benchmark", "c66f6b0d78fe9218f6de9d07189691cfae077bee",
        "CC BY 4.0 (Speech Commands, P. Warden, 2018)", WORDS,
        r"MLTK_keyworkSpotting/dataset/_unknown_/(?P<text>[a-z]+)_"
        r"(?P<speaker>[0-9a-f]{8})_nohash_\d+\.wav\.wav", "sc_", 20,
    ),
)  # fmt: skip


class Clone:
    """Reads files of one commit without a work tree."""

    def __init__(self, root: Path, source: Pinned) -> None:
        folder = root / source.repository.replace("/", "+")
        inner = next((one for one in (folder / "repo", folder / ".git") if one.exists()), folder)
        if not inner.exists():
            raise FileNotFoundError(f"{folder}: clone github.com/{source.repository} there first")
        self._git = ["git", f"--git-dir={inner}"]
        self._commit = source.commit

    def paths(self) -> list[str]:
        listed = self._run("ls-tree", "-r", "-z", "--name-only", self._commit)
        return [path for path in listed.decode().split("\0") if path]

    def matches(self, pattern: str) -> Iterator[re.Match[str]]:
        """One for each whole path that is the pattern's."""
        for path in self.paths():
            if match := re.fullmatch(pattern, path):
                yield match

    def read(self, path: str) -> bytes:
        return self._run("show", f"{self._commit}:{path}")

    def _run(self, *arguments: str) -> bytes:
        return subprocess.run([*self._git, *arguments], check=True, capture_output=True).stdout


def decoded(content: bytes) -> tuple[NDArray[np.float32], int]:
    """[samples] mono at 16 kHz, and the rate it had."""
    sound, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    mono = sound.mean(axis=1)
    if rate != RATE:
        from scipy.signal import resample_poly  # needed here only; the evaluation goes without

        common = int(np.gcd(rate, RATE))
        mono = resample_poly(mono, RATE // common, rate // common).astype(np.float32)
    return mono, rate


def spoken(sound: NDArray[np.float32]) -> tuple[NDArray[np.float32], float] | None:
    """What is said, with some room before it, and the onset's second in that; None: nothing."""
    loudest = float(np.abs(sound).max(initial=0.0))
    if loudest < 1e-3:
        return None
    on = np.flatnonzero(speech_probabilities(sound * (0.5 / loudest)) >= 0.5)
    if len(on) * VAD_FRAME < _SHORTEST_S * RATE:
        return None
    onset = max(int(on[0]) * VAD_FRAME - VAD_FRAME, 0)
    start = max(onset - int(_LEAD_S * RATE), 0)
    return sound[start : onset + int(_LONGEST_S * RATE)], (onset - start) / RATE


def parts(sound: NDArray[np.float32], skip_s: float) -> Iterator[NDArray[np.float32]]:
    """Pieces of a recording that are no longer than what is kept of one; short rests are left.

    Digital silence within parts what was put together from several recordings.
    """
    length, rest = int((_LEAD_S + _LONGEST_S) * RATE), int(_REST_S * RATE)
    silent = np.concatenate([[False], sound == 0, [False]]).astype(np.int8)
    begins, ends = np.flatnonzero(np.diff(silent) == 1), np.flatnonzero(np.diff(silent) == -1)
    gaps = [(int(b), int(e)) for b, e in zip(begins, ends, strict=True) if e - b >= _GAP_S * RATE]
    first = int(skip_s * RATE)
    gaps = [(b, e) for b, e in gaps if b >= first]
    froms = [first, *(e for _, e in gaps)]
    for begin, end in zip(froms, [*(b for b, _ in gaps), len(sound)], strict=True):
        for start in range(begin, max(end - rest, begin + 1), length):
            if end - start >= _SHORTEST_S * RATE:
                yield sound[start : min(start + length, end)]


def spread(paths: list[str], most: int) -> list[str]:
    """At most so many of them, evenly over the list."""
    if len(paths) <= most:
        return paths
    return [paths[i * len(paths) // most] for i in range(most)]


def chosen(source: Source, paths: list[str], known: set[str]) -> Iterator[tuple[str, str, str]]:
    """(path, speaker, text or "") of the files that are wanted and not yet had."""
    of_speaker: dict[str, list[str]] = defaultdict(list)
    matches = {}
    for path in paths:
        if (match := re.fullmatch(source.pattern, path)) and path not in known:
            matches[path] = match.groupdict()
            of_speaker[source.speaker + match["speaker"]].append(path)
    for speaker, mine in sorted(of_speaker.items()):
        for path in spread(mine, source.per_speaker):
            yield path, speaker, (matches[path].get("text") or "")


def collect(source: Source, root: Path, out: Path, known: set[str]) -> Iterator[Row]:
    """Writes the recordings of one source and says what they are; finished files are kept."""
    clone = Clone(root, source)
    said = {}
    for name in source.texts:
        for line in clone.read(name).decode().splitlines():
            stem, _, text = line.partition("\t")
            said[stem] = text
    (out / source.folder).mkdir(parents=True, exist_ok=True)
    for path, speaker, text in chosen(source, clone.paths(), known):
        stem = f"{text}_{Path(path).stem}" if text else Path(path).stem
        sound, native = decoded(clone.read(path))
        for number, part in enumerate(parts(sound, source.skip_s)):
            found = spoken(part) if source.label == "speech" else (part, 0.0)
            if found is None:
                continue
            kept, onset_s = found
            name = f"{source.folder}/{source.speaker}{stem}-{number}.flac"
            scale = 0.9 / max(float(np.abs(kept).max()), 0.9)  # only what would clip is lowered
            soundfile.write(out / name, kept * scale, RATE, subtype="PCM_16")
            yield dict(zip(COLUMNS, (
                f"train/{name}", source.label, _KINDS[source.label], speaker,
                f"{len(kept) / RATE:.3f}", f"{onset_s:.3f}", said.get(stem, text), str(native),
                source.repository, path, source.licence, ""), strict=True))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=Path, required=True, help="folder of clones")
    add_audio(parser)
    arguments = parser.parse_args()
    out = cache_folder() / "more" / "train"
    had = {(row["source_repo"], row["source_path"]) for row in _read(arguments.audio / "train")}
    finished: dict[Source, list[Row]] = {source: [] for source in SOURCES}
    for row in _read(out):
        for source in SOURCES:
            same = row["source_repo"] == source.repository
            if same and re.fullmatch(source.pattern, row["source_path"]):
                finished[source].append(row)
    for source, rows in finished.items():
        if not rows:
            known = {path for repository, path in had if repository == source.repository}
            known = known if not source.skip_s else set()
            rows += collect(source, arguments.repositories, out, known)
        print(f"{source.repository}: {len(rows)} recordings", flush=True)
        _write(out, [row for rows in finished.values() for row in rows])


def _read(folder: Path) -> list[Row]:
    if not (folder / "manifest.csv").exists():
        return []
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _write(folder: Path, rows: list[Row]) -> None:
    partial = folder / "manifest.part"
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(folder / "manifest.csv")


if __name__ == "__main__":
    main()
