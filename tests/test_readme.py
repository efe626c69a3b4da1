"""README's agent without any key: short, and with names that this server has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from gateway.cli.main import _parser
from gateway.providers.local.chat import SMOLLM2
from gateway.upstreams.listing import modalities_of_name
from gateway.weights.fetch import WEIGHTS

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
PART = README.partition("## A whole agent without any key")[2].partition("\n## ")[0]
LINES_MAX = 10


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PART, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_agent_has_few_lines_and_names_what_local_models_stand_in_for() -> None:
    code = block("python")
    tree = ast.parse(code)
    assert len([line for line in code.splitlines() if line.strip()]) <= LINES_MAX
    named = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "/" in node.value
    ]
    assert {"stt", "chat", "tts"} == {kind for name in named for kind in modalities_of_name(name)}


def test_the_engines_are_named() -> None:
    assert {"`local/whisper:en`", f"`local/{SMOLLM2}`", "`local/kokoro`"} <= set(
        re.findall(r"`[^`\n]+`", PART)
    )


def test_its_commands_are_commands() -> None:
    lines = [line.partition("#")[0].split() for line in block("sh").splitlines()]
    commands = [line[1:] for line in lines if line[:1] == ["gateway"]]
    assert commands
    for command in commands:
        _parser().parse_args(command)


def test_all_that_its_models_need_is_installed() -> None:
    wanted = set(block("sh").split())
    for weights in WEIGHTS.values():
        if weights.standard:
            assert set(weights.install.split()) <= wanted
