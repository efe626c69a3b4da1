"""What the shipped weights are made by: recipe.toml as a graph of steps, in order.

    python -m models.interruption.recipe check
    python -m models.interruption.recipe show    # each step with its parents and its command

A step is a command line, or several that share its work. `remake` runs them all.
"""

from __future__ import annotations

import argparse
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.interruption.data.splits import Side

RECIPE = Path(__file__).with_name("recipe.toml")
PLACES = {name: name.upper() for name in ("audio", "repositories", "files", "whisper")}
"""Folders that differ between machines: `{audio}` in an argument stands for one."""

Share = Annotated[float, Field(ge=0, le=1)]
Pair = tuple[float, float, float]


class RecipeError(ValueError):
    """The recipe makes no sense; says which step and why."""


class Step(BaseModel):
    """What all kinds of steps have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    module: ClassVar[str]  # below models.interruption
    not_flags: ClassVar[frozenset[str]] = frozenset({"name", "round", "note", "unknown"})

    name: str
    round: int | None = None  # of those that LESSONS.md tells of
    note: str = ""
    unknown: tuple[str, ...] = ()  # what nobody wrote down

    def parents(self) -> tuple[str, ...]:
        """Names of the steps whose results it reads."""
        raise NotImplementedError

    def result(self) -> str:
        """Where its result lies below the cache."""
        raise NotImplementedError

    def shared(self) -> bool:
        """Can its command be run by several processes, each with `--worker I/N`?"""
        return False

    def command(self, places: Mapping[str, str] = PLACES) -> list[str]:
        """`python` and its arguments, each field as a flag."""
        return ["python", "-m", f"models.interruption.{self.module}", *self.flags(places)]

    def flags(self, places: Mapping[str, str]) -> list[str]:
        return [
            word
            for field, value in self
            if field not in self.not_flags and value is not None
            for word in (f"--{field.replace('_', '-')}", *_words(value))
        ]


def _words(value: Any) -> Iterator[str]:
    for one in value if isinstance(value, tuple) else (value,):
        yield f"{one:g}" if isinstance(one, float) else str(one)


class Prepared(Step):
    """Weights, recordings, made voices, or what teachers say of clips."""

    program: str  # the module
    arguments: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    makes: str
    workers: bool = False

    def shared(self) -> bool:
        return self.workers

    def parents(self) -> tuple[str, ...]:
        return self.after

    def result(self) -> str:
        return self.makes

    def command(self, places: Mapping[str, str] = PLACES) -> list[str]:
        words = [one.format_map(places) for one in self.arguments]
        return ["python", "-m", f"models.interruption.{self.program}", *words]


class BuiltSet(Step):
    """Scenes for training."""

    module = "data.build"

    shards: int
    scenes: int | None = None
    seed: int | None = None
    ear_every: int | None = None
    side: Side = Side.TRAIN
    only: tuple[str, ...] | None = None
    after: tuple[str, ...]
    not_flags = Step.not_flags | {"after"}

    def shared(self) -> bool:
        return True

    def parents(self) -> tuple[str, ...]:
        return self.after

    def result(self) -> str:
        return f"{self.name}/{self.side}-{self.shards - 1:03d}.npz"

    def flags(self, places: Mapping[str, str]) -> list[str]:
        return ["--audio", places["audio"], "--name", self.name, *super().flags(places)]


class PartOfSet(Step):
    """Some shards of a set."""

    module = "data.part"

    of: str
    every: int

    def parents(self) -> tuple[str, ...]:
        return (self.of,)

    def result(self) -> str:
        return f"{self.name}/train-000.npz"

    def flags(self, places: Mapping[str, str]) -> list[str]:
        return ["--name", self.name, *super().flags(places)]


class _Run(Step):
    """A network below `runs`."""

    def result(self) -> str:
        return f"runs/{self.name}/best.pt"

    def flags(self, places: Mapping[str, str]) -> list[str]:
        return ["--run", self.name, *super().flags(places)]


class Start(_Run):
    """A network made of a published file."""

    module = "train.resume"

    commit: str  # whose models/interruption/interruption.onnx is FILES/COMMIT.onnx
    sha256: str
    data: str
    not_flags = Step.not_flags | {"commit", "sha256"}

    def parents(self) -> tuple[str, ...]:
        return (self.data,)

    def flags(self, places: Mapping[str, str]) -> list[str]:
        return ["--onnx", f"{places['files']}/{self.commit}.onnx", *super().flags(places)]


class Train(_Run):
    """A training; the fields are those of `train.Options`."""

    module = "train"

    data: tuple[str, ...] = Field(min_length=1)
    held_out: tuple[str, ...] | None = None
    from_run: str | None = None
    taught_by: tuple[str, ...] | None = None
    taught: Share | None = None
    taught_ending: float | None = None
    left_out: tuple[int, int] | None = None
    width: int | None = None
    memory: int | None = None
    dilations: tuple[int, ...] | None = None
    pair: Pair | None = None
    rate: float | None = None
    bend: Share | None = None
    dropout: Share | None = None
    epochs: int
    stop_after: int | None = None
    batch: int | None = None
    threads: int | None = None
    seed: int | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Train:
        if (self.taught is None) != (self.taught_by is None):
            raise ValueError("taught and taught_by go together")
        if self.left_out and not 0 <= self.left_out[0] < self.left_out[1]:
            raise ValueError("left_out: no fold {} of {}".format(*self.left_out))
        return self

    def parents(self) -> tuple[str, ...]:
        first = (self.from_run,) if self.from_run else ()
        return (*first, *(self.taught_by or ()), *self.data, *(self.held_out or ()))


class Blend(_Run):
    """A mean of the weights of two runs: `share` is the second's."""

    module = "train.blend"

    of: tuple[str, str]
    share: Share = 0.5

    def parents(self) -> tuple[str, ...]:
        return self.of


class Export(Step):
    """The file that is served."""

    module = "export"

    run: str
    pair: Pair | None = None
    int8: str | None = None
    threshold: Share
    threshold_origin: str

    def parents(self) -> tuple[str, ...]:
        return (self.run, *((self.int8,) if self.int8 else ()))

    def result(self) -> str:
        return "interruption.onnx"

    def flags(self, places: Mapping[str, str]) -> list[str]:
        return [*super().flags(places), "--out", f"{places['files']}/{self.result()}"]


class OwnVoice(Step):
    """What knows the agent's own voice again, beside the file of this checkout."""

    module = "train.own_voice"

    data: tuple[str, ...] = Field(min_length=1)  # steps that make calls with echo
    steps: int
    wrong: float | None = None
    threads: int | None = None
    seed: int | None = None
    sha256: str

    not_flags = Step.not_flags | {"sha256"}

    def parents(self) -> tuple[str, ...]:
        return self.data

    def result(self) -> str:
        return "own_voice.npz"

    def flags(self, places: Mapping[str, str]) -> list[str]:
        return [*super().flags(places), "--out", f"{places['files']}/{self.result()}"]


class Tiny(BaseModel):
    """The same graph in minutes, to see that every step of it works: steps that are left out, and
    what others have instead of their own, by table and, of those that are prepared, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    without: tuple[str, ...] = ()
    prepared: dict[str, dict[str, Any]] = {}
    sets: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    own_voice: dict[str, Any] = {}


KINDS: dict[str, type[Step]] = {
    "prepared": Prepared,
    "sets": BuiltSet,
    "parts": PartOfSet,
    "starts": Start,
    "runs": Train,
    "blends": Blend,
}
"""Tables of recipe.toml; `export` and `own_voice` are one step each."""
_SETS, _RUNS = (BuiltSet, PartOfSet), (Start, Train, Blend)
_SINGLE: dict[str, type[Step]] = {"export": Export, "own_voice": OwnVoice}
_S = TypeVar("_S", bound=BaseModel)


class Recipe:
    """All steps by name. Raises RecipeError where a step is wrong, misses a parent or is its own
    ancestor, or where the published file needs it not."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        if strange := tables.keys() - KINDS.keys() - _SINGLE.keys() - {"tiny"}:
            raise RecipeError(f"unknown tables: {sorted(strange)}")
        self._tables = tables
        self._tiny = _checked(Tiny, "tiny", tables.get("tiny", {}))
        self.steps: dict[str, Step] = {}
        for kind, model in KINDS.items():
            for name, fields in tables.get(kind, {}).items():
                if name in self.steps:
                    raise RecipeError(f"{name}: two steps have this name")
                self.steps[name] = _checked(model, name, {"name": name, **fields})
        self.export = _checked(Export, "export", {"name": "export", **tables.get("export", {})})
        self.steps["export"] = self.export
        if "own_voice" in tables:
            told = {"name": "own_voice", **tables["own_voice"]}
            self.steps["own_voice"] = _checked(OwnVoice, "own_voice", told)
        for step in self.steps.values():
            self._check_parents(step)
        self.order = self._ordered()
        needed = set().union(*(self._ancestors(end) | {end} for end in _SINGLE.keys() & self.steps))
        if idle := self.steps.keys() - needed:
            raise RecipeError(f"steps that no file needs: {sorted(idle)}")

    def tiny(self) -> Recipe:
        """The same graph, made in minutes."""
        tables: dict[str, Any] = {}
        for kind, told in self._tables.items():
            if kind in ("sets", "runs"):
                tables[kind] = {name: one | getattr(self._tiny, kind) for name, one in told.items()}
            elif kind == "prepared":
                tables[kind] = {
                    name: _without(one | self._tiny.prepared.get(name, {}), self._tiny.without)
                    for name, one in told.items()
                    if name not in self._tiny.without
                }
            elif kind == "own_voice":
                tables[kind] = told | self._tiny.own_voice
            elif kind != "tiny":
                tables[kind] = told
        if "sets" in tables:
            tables["sets"] = {
                name: _without(one, self._tiny.without) for name, one in tables["sets"].items()
            }
        return Recipe(tables)

    def _check_parents(self, step: Step) -> None:
        for parent in step.parents():
            if parent not in self.steps:
                raise RecipeError(f"{step.name}: there is no step {parent}")
        for kind, names in _references(step).items():
            for name in names:
                if not isinstance(self.steps[name], _SETS if kind == "set" else _RUNS):
                    raise RecipeError(f"{step.name}: {name} is no {kind}")

    def _ordered(self) -> list[Step]:
        """Parents before children, else as in the file."""
        places = {name: i for i, name in enumerate(self.steps)}
        sorter = TopologicalSorter({name: step.parents() for name, step in self.steps.items()})
        try:
            sorter.prepare()
        except CycleError as error:
            raise RecipeError(f"steps need each other: {' <- '.join(error.args[1])}") from error
        found: list[Step] = []
        ready: list[str] = []
        while sorter.is_active():
            ready = sorted([*ready, *sorter.get_ready()], key=lambda name: places[name])
            name = ready.pop(0)
            found.append(self.steps[name])
            sorter.done(name)
        return found

    def needed(self, name: str) -> set[str]:
        """The step and all that it comes from. Raises RecipeError where there is no such step."""
        if name not in self.steps:
            raise RecipeError(f"there is no step {name}")
        return self._ancestors(name) | {name}

    def _ancestors(self, name: str) -> set[str]:
        found: set[str] = set()
        ahead = list(self.steps[name].parents())
        while ahead:
            one = ahead.pop()
            if one not in found:
                found.add(one)
                ahead += self.steps[one].parents()
        return found


def _without(step: dict[str, Any], gone: tuple[str, ...]) -> dict[str, Any]:
    return step | {"after": [name for name in step.get("after", ()) if name not in gone]}


def _references(step: Step) -> dict[str, tuple[str, ...]]:
    """Those parents of a step of which it says what they are."""
    match step:
        case Train():
            first = (step.from_run,) if step.from_run else ()
            sets = (*step.data, *(step.held_out or ()))
            return {"set": sets, "run": (*first, *(step.taught_by or ()))}
        case Start():
            return {"set": (step.data,)}
        case PartOfSet():
            return {"set": (step.of,)}
        case Blend():
            return {"run": step.of}
        case Export():
            return {"run": (step.run,), "set": (step.int8,) if step.int8 else ()}
        case _:
            return {}


def _checked(model: type[_S], name: str, fields: Mapping[str, Any]) -> _S:
    """The fields as told; `name` says whose they are in the error."""
    try:
        return model.model_validate(fields)
    except ValueError as error:
        raise RecipeError(f"{name}: {error}") from error


def load(path: Path = RECIPE) -> Recipe:
    """Raises RecipeError, also where the file is no TOML."""
    try:
        return Recipe(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: {error}") from error


def shown(recipe: Recipe) -> str:
    """The graph in order, a step's command below its name and its parents."""
    lines = []
    for number, step in enumerate(recipe.order, start=1):
        parents = f" <- {' '.join(dict.fromkeys(step.parents()))}" if step.parents() else ""
        of_round = f" (round {step.round})" if step.round is not None else ""
        lines.append(f"{number}. {step.name}{of_round}{parents}")
        lines += [f"   # {step.note}"] if step.note else []
        lines += [f"   # unknown: {one}" for one in step.unknown]
        lines.append(f"   {shlex.join(step.command())}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["show", "check"])
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    arguments = parser.parse_args()
    try:
        recipe = load(arguments.recipe)
    except RecipeError as error:
        raise SystemExit(f"{arguments.recipe}: {error}") from error
    if arguments.what == "show":
        print(shown(recipe))
    else:
        unknown = sum(len(step.unknown) for step in recipe.order)
        print(f"{len(recipe.order)} steps, in order; {unknown} things about them are unknown")


if __name__ == "__main__":
    main()
