"""Makes weights by recipe.toml, from public sources; README tells which of them ship.

    python -m models.interruption.remake --repositories FOLDER    # some hours of two cores
    python -m models.interruption.remake --tiny --audio FOLDER    # minutes, worth nothing

Steps whose parents are done run beside each other, in at most so many processes. What a step made
lies in the cache (`PARLEY_CACHE`), with a stamp of its command and of all that it came from: the
same call goes on where it stopped, and what another recipe left there is refused. A change of the
code is not noticed: after one, name another cache. The files come to `--out`. Exit status: 0 made,
1 a step failed or a source is missing (each is named).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path

from models.interruption import recipe
from models.interruption.cache import audio_folder, cache_folder
from models.interruption.data import collect, interviews, recordings
from models.interruption.recipe import Recipe, Start, Step

_ROOT = Path(__file__).parents[2]
_FILE = "models/interruption/interruption.onnx"
_SHOWN = 20  # last lines of what a failed step printed


class RemakeError(RuntimeError):
    """Says what is missing or which step failed."""


@dataclass(frozen=True)
class Stamp:
    """What a step is: its command with no folder of this machine in it, and its parents' stamps."""

    command: tuple[str, ...]
    parents: tuple[str, ...]
    sources: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        told = json.dumps([self.command, self.parents, self.sources])
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def stamps(made: Recipe) -> dict[str, str]:
    """By step; of one that starts from a published file, its hash counts too."""
    found: dict[str, str] = {}
    for step in made.order:
        parents = tuple(found[name] for name in dict.fromkeys(step.parents()))
        sources = (step.sha256,) if isinstance(step, Start) else ()
        found[step.name] = Stamp(tuple(step.command()), parents, sources).digest
    return found


@dataclass
class Remaking:
    """One run of a recipe. `places` as `recipe.PLACES` has them, as folders; `slots`: processes."""

    made: Recipe
    root: Path
    places: Mapping[str, str]
    slots: int
    environment: Mapping[str, str] = field(default_factory=dict)
    until: str | None = None  # a step: it and what it needs, nothing else

    def __post_init__(self) -> None:
        needed = self.made.needed(self.until) if self.until else self.made.steps.keys()
        self.order = [step for step in self.made.order if step.name in needed]
        self._stamps = stamps(self.made)
        self._kept = self.root / "recipe"
        self._kept.mkdir(parents=True, exist_ok=True)
        self._free = threading.BoundedSemaphore(self.slots)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def run(self) -> None:
        """Raises RemakeError for the first step that fails; those beside it are ended."""
        self.check()
        sorter = TopologicalSorter({s.name: s.parents() for s in self.order})
        sorter.prepare()
        doing: dict[Future[None], str] = {}
        with ThreadPoolExecutor(len(self.order)) as pool:
            try:
                while sorter.is_active():
                    ready = set(sorter.get_ready())
                    for step in self.order:
                        if step.name in ready:
                            doing[pool.submit(self._do, step)] = step.name
                    done, _ = wait(doing, return_when=FIRST_COMPLETED)
                    for one in done:
                        one.result()
                        sorter.done(doing.pop(one))
            except BaseException:
                self._end()
                raise

    def check(self) -> None:
        """Raises RemakeError where something in the cache was made by another recipe."""
        for step in self.order:
            noted = self._noted(step)
            if noted and noted["stamp"] != self._stamps[step.name]:
                raise RemakeError(
                    f"{step.name} in {self.root} was made by another recipe: remove what it made "
                    f"({step.result()}) and {self._note(step)}, or name another PARLEY_CACHE"
                )

    def _note(self, step: Step) -> Path:
        return self._kept / f"{step.name}.json"

    def _noted(self, step: Step) -> dict[str, object] | None:
        path = self._note(step)
        return json.loads(path.read_text()) if path.exists() else None

    def _result(self, step: Step) -> Path:
        below = self.root / step.result().format_map(self.places)  # as it is where it is absolute
        return below if below.exists() else Path(self.places["files"]) / step.result()

    def _do(self, step: Step) -> None:
        noted = self._noted(step)
        if noted and noted["done"] and self._result(step).exists():
            _say(f"{step.name}: as it was")
            return
        self._write(step, done=False)
        if isinstance(step, Start):
            _published(step, Path(self.places["files"]))
        command = [sys.executable, *step.command(self.places)[1:]]
        count = self.slots if step.shared() else 1
        _say(f"{step.name}: begins")
        began = time.monotonic()
        parts = [["--worker", f"{i}/{count}"] if count > 1 else [] for i in range(count)]
        with ThreadPoolExecutor(count) as pool:
            ends = [
                pool.submit(self._process, step, i, [*command, *part])
                for i, part in enumerate(parts)
            ]
            for end in ends:
                end.result()
        if not self._result(step).exists():
            raise RemakeError(f"{step.name} ended well, and there is no {step.result()}")
        self._write(step, done=True, took_s=time.monotonic() - began)
        _say(f"{step.name}: done after {time.monotonic() - began:.0f} s")

    def _process(self, step: Step, number: int, command: list[str]) -> None:
        log = self._kept / f"{step.name}-{number}.log"
        with self._free, log.open("wb") as file:
            if self._ended:
                return
            process = subprocess.Popen(
                command, cwd=_ROOT, env={**os.environ, **self.environment},
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self._running.add(process)
            status = process.wait()
            self._running.discard(process)
        if status and not self._ended:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-_SHOWN:])
            raise RemakeError(f"{step.name} failed with {status}; the end of {log}:\n{last}")

    def _write(self, step: Step, *, done: bool, took_s: float = 0.0) -> None:
        note = {"stamp": self._stamps[step.name], "done": done, "took_s": round(took_s, 1)}
        self._note(step).write_text(json.dumps(note | {"command": step.command()}))

    def _end(self) -> None:
        self._ended = True
        for process in list(self._running):
            process.terminate()


def _published(step: Start, files: Path) -> None:
    """Puts a published file of this repository's history where the step looks for it."""
    path = files / f"{step.commit}.onnx"
    if not path.exists():
        shown = subprocess.run(
            ["git", "-C", str(_ROOT), "show", f"{step.commit}:{_FILE}"],
            capture_output=True, check=False,
        )  # fmt: skip
        if shown.returncode:
            raise RemakeError(
                f"{step.name}: {_FILE} of {step.commit} is not in this clone's history"
            )
        path.write_bytes(shown.stdout)
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != step.sha256:
        raise RemakeError(f"{path} has sha256 {found}, not {step.sha256}")


def missing(repositories: Path) -> list[str]:
    """What to clone: of each repository that is not below the folder, or has not the commit."""
    found = []
    kept = (one.origin for one in recordings.SOURCES if isinstance(one.origin, collect.Pinned))
    for source in dict.fromkeys((*kept, *collect.SOURCES, *interviews.SOURCES)):
        try:
            collect.Clone(repositories, source).paths()
        except (FileNotFoundError, subprocess.CalledProcessError):
            folder = repositories / source.repository.replace("/", "+")
            found.append(f"{folder}: github.com/{source.repository} at {source.commit}")
    return list(dict.fromkeys(found))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--audio", type=Path, default=audio_folder(), help="folder of recordings, "
                        "made where they are not there (default: $PARLEY_AUDIO, or audio in "
                        "$PARLEY_CACHE)")  # fmt: skip
    parser.add_argument("--repositories", type=Path, help="folder of clones, OWNER+NAME each")
    parser.add_argument("--whisper", help="faster-whisper model, folder or name (default: what "
                        "`gateway models fetch whisper-base` fetched)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder (default: files, below the cache)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--until", metavar="STEP", help="it and what it needs, nothing else")
    parser.add_argument("--tiny", action="store_true", help="in minutes, to see that it works")
    arguments = parser.parse_args()
    root = cache_folder()
    out: Path = arguments.out or root / "files"
    out.mkdir(parents=True, exist_ok=True)
    made = recipe.load()
    made = made.tiny() if arguments.tiny else made
    if any("{repositories}" in word for step in made.order for word in _told(step)):
        if arguments.repositories is None:
            parser.error("--repositories is needed")
        if gone := missing(arguments.repositories):
            raise SystemExit("clone these first:\n" + "\n".join(gone))
    try:
        places = {
            "audio": str(arguments.audio.resolve()),
            "repositories": str(arguments.repositories.resolve() if arguments.repositories else ""),
            "files": str(out.resolve()),
            "whisper": arguments.whisper or str(root.parent / "models" / "whisper-base"),
        }
        one_thread = {"OMP_NUM_THREADS": "1"}
        Remaking(made, root, places, arguments.processes, one_thread, arguments.until).run()
    except (RemakeError, recipe.RecipeError) as error:
        raise SystemExit(str(error)) from error
    for step in made.order:
        if (path := out / step.result()).exists():
            print(f"{path}: sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


def _told(step: Step) -> tuple[str, ...]:
    return step.arguments if isinstance(step, recipe.Prepared) else ()


if __name__ == "__main__":
    main()
