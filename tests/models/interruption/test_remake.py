"""The recipe is run: in minutes on the recordings that the repository has, and with made steps."""

import csv
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from gateway.engines.interruption.model import INTERFACE
from gateway.engines.onnx import FrameModel
from models.interruption import recipe, remake
from models.interruption.data.nonverbal import RATE, tones
from models.interruption.data.splits import Side, side_of_group
from models.interruption.recipe import PLACES, Recipe
from models.interruption.remake import RemakeError, Remaking, stamps

ROOT = Path(__file__).parents[3]
RECORDINGS = ROOT / "tests" / "recordings"
EXPORT = {"run": "b", "threshold": 0.5, "threshold_origin": ""}
SMALL: dict[str, Any] = {
    "sets": {"s": {"shards": 1, "after": []}},
    "runs": {"b": {"data": ["s"], "from_run": "a", "epochs": 1}, "a": {"data": ["s"], "epochs": 2}},
    "export": EXPORT,
}


def recordings_by_other_names(folder: Path) -> Path:
    """The repository's recordings as the recipe wants them, half of their people renamed to such as
    may be heard in training: all of them are held out by their own names."""
    train = folder / "train"
    (train / "conversation_ami").mkdir(parents=True)
    (train / "conversation_ami" / "segments.csv").write_text("path,speaker\n")
    columns = ("path", "label", "speaker", "onset_s", "text", "note", "source_repo", "source_path")
    with (RECORDINGS / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if "conversation" not in row["path"]]
    names = (f"person_{number}" for number in itertools.count())
    with (train / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for number, row in enumerate(rows):
            kind = Path(row["path"]).parent.name
            name = next(
                one for one in names
                if (side_of_group(f"{kind}/{one}") is Side.TRAIN) == (number % 2 == 0)
            )  # fmt: skip
            (train / kind).mkdir(exist_ok=True)
            shutil.copy(RECORDINGS / row["path"], train / kind / f"{name}.flac")
            path = f"train/{kind}/{name}.flac"
            writer.writerow(
                (path, row["label"], name, row["onset_s"], row["text"], "0.10 s", "", path)
            )
        (train / "music").mkdir()
        for side in Side:
            name = next(one for one in names if side_of_group(f"music/{one}") is side)
            path = f"train/music/{name}.flac"
            soundfile.write(folder / path, 0.5 * tones(np.random.default_rng(1)), RATE)
            writer.writerow((path, "music", name, "0", "", "", "", path))
    return folder


def test_the_whole_recipe_is_run_in_tiny_form(tmp_path: Path) -> None:
    """As a person would: one command, of which a second call finds everything done."""
    audio = recordings_by_other_names(tmp_path / "audio")
    command = [sys.executable, "-m", "models.interruption.remake", "--tiny", "--processes", "2",
               "--audio", str(audio)]  # fmt: skip
    environment = os.environ | {"PARLEY_CACHE": str(tmp_path)}

    def called() -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = called()
    made = tmp_path / "interruption" / "files"
    file = made / "interruption.onnx"
    assert f"{file}: sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in said
    assert f"{made / 'own_voice.npz'}: sha256" in said

    model = FrameModel(file, interface=INTERFACE)
    heard, _ = model.run(np.zeros((1, 4000), np.int16), model.blank_state()[None])
    assert heard.shape == (1, 10)
    assert ((heard > 0) & (heard < 1)).all()

    again = called()
    assert "begins" not in again
    assert again.count("as it was") == len(recipe.load().tiny().order)


class Pretended:
    """Steps that write what they are to make, and the order in which they did."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.fails: set[str] = set()
        pretended = self

        def command(step: recipe.Step, places: Mapping[str, str] = PLACES) -> list[str]:
            if places is PLACES:
                return ["python", step.name]
            status = int(step.name in pretended.fails)
            target, order = root / step.result(), root / "order"
            told = (
                f"import pathlib, sys; p = pathlib.Path({str(target)!r}); "
                f"p.parent.mkdir(parents=True, exist_ok=True); p.write_text(''); "
                f"open({str(order)!r}, 'a').write({step.name!r} + chr(10)); "
                f"print('the reason'); sys.exit({status})"
            )
            return ["python", "-c", told]

        for kind in (recipe.BuiltSet, recipe.Train, recipe.Export):
            monkeypatch.setattr(kind, "command", command)

    def run(self, tables: dict[str, Any] = SMALL) -> list[str]:
        """Names of the steps whose processes ran."""
        order = self.root / "order"
        order.unlink(missing_ok=True)
        places = {name: str(self.root) for name in PLACES}
        Remaking(Recipe(tables), self.root, places, 2).run()
        return order.read_text().split() if order.exists() else []


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    return Pretended(tmp_path, monkeypatch)


def test_steps_run_after_their_parents_and_those_that_share_their_work_in_every_process(
    pretended: Pretended,
) -> None:
    assert pretended.run() == ["s", "s", "a", "b", "export"]


def test_what_is_done_is_not_done_again_and_a_failure_names_its_step_and_the_reason(
    pretended: Pretended,
) -> None:
    pretended.fails = {"b"}
    with pytest.raises(RemakeError, match=r"(?s)b failed with 1; the end of .*the reason"):
        pretended.run()
    pretended.fails.clear()
    assert pretended.run() == ["b", "export"]
    assert pretended.run() == []


def test_what_another_recipe_made_is_refused_before_anything_runs(pretended: Pretended) -> None:
    pretended.run()
    note = pretended.root / "recipe" / "s.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"stamp": "other"}))
    with pytest.raises(RemakeError, match=r"s in .* was made by another recipe: remove"):
        pretended.run()


def test_a_stamp_changes_with_the_command_and_with_what_a_step_comes_from() -> None:
    now = stamps(Recipe(SMALL))
    more = stamps(Recipe({**SMALL, "sets": {"s": {"shards": 2, "after": []}}}))
    assert all(now[name] != more[name] for name in now)
    seeded = {**SMALL["runs"], "b": {**SMALL["runs"]["b"], "seed": 5}}
    other = stamps(Recipe({**SMALL, "runs": seeded}))
    assert {name for name in now if now[name] != other[name]} == {"b", "export"}


def test_repositories_that_are_missing_are_all_named(tmp_path: Path) -> None:
    gone = remake.missing(tmp_path)
    assert len(gone) >= 7
    assert all("github.com/" in line and " at " in line for line in gone)


def test_a_published_file_is_read_from_history_and_its_hash_is_checked(tmp_path: Path) -> None:
    step = next(one for one in recipe.load().order if isinstance(one, recipe.Start))
    path = tmp_path / f"{step.commit}.onnx"
    path.write_bytes(b"something else")
    with pytest.raises(RemakeError, match=r"has sha256 .*, not "):
        remake._published(step, tmp_path)
