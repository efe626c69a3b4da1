"""The recipe of the published file: whether it is one, and what is refused."""

import copy
import hashlib
import importlib
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gateway.engines.interruption import own_voice
from models.interruption import recipe
from models.interruption.cache import PUBLISHED
from models.interruption.recipe import OwnVoice, Recipe, RecipeError, Start, Train
from models.interruption.train.train import Options, options

EXPORT = {"run": "b", "threshold": 0.5, "threshold_origin": ""}
SMALL: dict[str, Any] = {
    "sets": {"s": {"shards": 1, "after": []}},
    "runs": {
        "b": {"data": ["s"], "from_run": "a", "epochs": 1},
        "a": {"data": ["s"], "epochs": 2, "pair": [4, 0.5, -1]},
    },
    "export": EXPORT,
}


def changed(table: str, name: str, **told: Any) -> dict[str, Any]:
    tables = copy.deepcopy(SMALL)
    tables.setdefault(table, {}).setdefault(name, {}).update(told)
    return tables


def test_steps_come_after_what_they_need() -> None:
    made = Recipe(SMALL)
    assert [step.name for step in made.order] == ["s", "a", "b", "export"]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (changed("runs", "b", epoch=3), "epoch"),
        (changed("runs", "b", from_run="c"), "b: there is no step c"),
        (changed("runs", "b", from_run="s"), "b: s is no run"),
        (changed("runs", "b", data=["a"]), "b: a is no set"),
        (changed("runs", "a", from_run="b"), "need each other"),
        (changed("runs", "a", bend=1.5), "bend"),
        (changed("runs", "b", taught_by=["a"]), "go together"),
        (changed("runs", "b", left_out=[4, 4]), "no fold 4 of 4"),
        (changed("runs", "idle", data=["s"], epochs=1), "no file needs: ['idle']"),
        (changed("blends", "a", of=["b", "b"]), "a: two steps"),
        ({**SMALL, "tiny": {"some": 1}}, "tiny: "),
        ({**SMALL, "own_voice": {"data": ["s"], "steps": 1}}, "own_voice: "),
        ({**SMALL, "sums": {}}, "unknown tables: ['sums']"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_by_the_step_that_is_wrong(
    tables: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError) as error:
        Recipe(tables)
    assert said in str(error.value)


def test_the_recipe_begins_with_the_published_file_and_made_what_knows_the_agents_voice() -> None:
    steps = recipe.load().steps
    published, own = steps["published"], steps["own_voice"]
    assert isinstance(published, Start)
    assert isinstance(own, OwnVoice)
    assert hashlib.sha256(PUBLISHED.read_bytes()).hexdigest() == published.sha256
    assert hashlib.sha256(own_voice.WEIGHTS.read_bytes()).hexdigest() == own.sha256


def test_every_field_of_a_training_is_one_of_its_options() -> None:
    told = Train.model_fields.keys() - Train.not_flags
    assert told <= {one.name for one in fields(Options)}


def test_every_training_of_the_recipe_is_understood_by_the_command() -> None:
    for step in recipe.load().order:
        if isinstance(step, Train):
            asked = options(step.command()[3:])
            assert asked.run == step.name
            for name in Train.model_fields.keys() - Train.not_flags:
                if (value := getattr(step, name)) is not None:
                    assert getattr(asked, name) == value, f"{step.name}: {name}"


def test_every_command_of_the_recipe_has_its_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    helps: dict[str, str] = {}
    for step in recipe.load().order:
        _, _, name, *words = step.command()
        if name not in helps:
            package = name in {"models.interruption.train", "models.interruption.export"}
            module = importlib.import_module(f"{name}.__main__" if package else name)
            monkeypatch.setattr(sys, "argv", [name, "--help"])
            if name == "models.interruption.data.downloads":  # has no flags
                helps[name] = ""
                continue
            with pytest.raises(SystemExit):
                module.main()
            helps[name] = capsys.readouterr().out
        for flag in (word for word in words if word.startswith("--")):
            assert flag in helps[name], f"{step.name}: {name} has no {flag}"


def test_what_is_shown_names_each_step_its_parents_and_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe", "show"])
    recipe.main()
    shown = capsys.readouterr().out
    assert "next <- published mean" in shown
    assert "python -m models.interruption.train --run tuned --data c --held-out held-out" in shown


def test_the_tiny_form_is_the_same_graph_without_what_has_to_be_cloned() -> None:
    whole = recipe.load()
    tiny = whole.tiny()
    assert {*whole.steps} - {*tiny.steps} == {"recordings", "collect", "interviews"}
    assert [s.name for s in tiny.order] == [s.name for s in whole.order if s.name in tiny.steps]
    assert not any("REPOSITORIES" in word for step in tiny.order for word in step.command())
    assert tiny.steps["voices"].command()[3:] == ["--count", "24", "--short", "6"]
    assert options(tiny.steps["tuned"].command()[3:]).batch == 32


def test_work_that_can_be_shared_is_known() -> None:
    shared = {step.name for step in recipe.load().order if step.shared()}
    assert {"voices", "teachers", "c"} <= shared
    assert not {"tuned", "export", "collect"} & shared


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.toml"
    path.write_text("[runs.a]\nepochs = \n")
    monkeypatch.setattr(sys, "argv", ["recipe", "check", "--recipe", str(path)])
    with pytest.raises(SystemExit, match=r"other\.toml"):
        recipe.main()
