"""Completion of the command line, in a real bash."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import pytest

from gateway.cli.completion import SHELLS, commands, script
from gateway.cli.main import main
from tests.services import needed
from tests.terminal import terminal

# What readline would do for a line with the cursor at its end.
ASK = """
source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9
read -ra COMP_WORDS <<<"$3"
[[ $2 == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_gateway gateway "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def printed(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["completion", shell])
    assert not ended.value.code
    return capsys.readouterr().out


def asked(folder: Path, text: str, line: str) -> list[str]:
    """What bash offers for `line`. Its own words are parted at "=" too."""
    file = folder / "gateway.bash"
    file.write_text(text)
    return subprocess.run(
        [needed("bash"), "--norc", "-c", ASK, "bash", str(file), line, line.replace("=", " = ")],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.split("\n")[:-1]


def test_bash_offers_what_may_stand_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed("bash", capsys)
    (tmp_path / "my config.yaml").write_text("")

    assert {"serve", "usage", "top", "completion", "--version"} <= set(
        asked(tmp_path, text, "gateway ")
    )
    assert asked(tmp_path, text, "gateway se") == ["serve"]
    assert asked(tmp_path, text, "gateway keys ") == ["new", "-h", "--help"]
    assert asked(tmp_path, text, "gateway usage --fo") == ["--format"]
    for line in ("gateway usage --format ", "gateway usage --by day --format="):
        assert asked(tmp_path, text, line) == ["table", "csv", "json"]
    assert asked(tmp_path, text, "gateway serve --config my") == ["my config.yaml"]
    assert asked(tmp_path, text, "gateway bargein analyse my") == ["my config.yaml"]
    assert asked(tmp_path, text, "gateway token --identity ") == [""]
    assert asked(tmp_path, text, "gateway completion z") == ["zsh"]
    assert asked(tmp_path, text, "gateway models fetch smart") == ["smart-turn"]


def test_bash_itself_completes_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.bash"
    file.write_text(printed("bash", capsys))
    environment = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "HOME": str(tmp_path)}
    command = [needed("bash"), "--norc", "--noprofile", "-i"]
    with terminal(command, environment=environment, folder=tmp_path) as shown:
        shown.type(f"source {file}; gateway() {{ printf 'ran:%s.\\n' \"$*\"; }}; echo read''y\n")
        shown.until("ready")
        shown.type("gateway us\t--form\tcs\t\n")
        shown.until("ran:usage --format csv.")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_the_script(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(shell, capsys)
    for word in ("serve", "analyse", "admin-port", "format", "csv"):
        assert word in text, word


def test_a_help_with_quotes_breaks_no_script() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--day", help="today's, 100%% of $(it) \\")
    (command,) = commands(parser)
    assert command.options[-1].help == "today's, 100% of $(it) \\"
    assert """'--day:today'"'"'s, 100% of $(it) \\'""" in script(parser, "zsh")
    assert "-d 'today\\'s, 100% of $(it) \\\\'" in script(parser, "fish")
