"""Completion scripts for shells, made from the parser of the command line: `gateway completion`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

SHELLS: Final = ("bash", "zsh", "fish")

Values = Literal["none", "file", "any"] | tuple[str, ...]
"""What follows an option: nothing, a file, something that nobody can guess, or one of these."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option or a positional argument (without `flags`)."""

    flags: tuple[str, ...]
    help: str
    values: Values


@dataclass(frozen=True, slots=True)
class Command:
    """A command, by the words that lead to it: () is `gateway` itself, ("keys", "new") one in it.
    `inner` has the commands in it, with their help."""

    words: tuple[str, ...]
    options: tuple[Option, ...] = ()
    inner: dict[str, str] = field(default_factory=dict)

    @property
    def at(self) -> str:
        """How the scripts name the place: " keys new"."""
        return "".join(f" {word}" for word in self.words)

    def choices(self) -> Iterator[tuple[str, str]]:
        """What may stand next, with its help."""
        yield from self.inner.items()
        for option in self.options:
            if not option.flags and isinstance(option.values, tuple):
                yield from ((value, "") for value in option.values)
        for option in self.options:
            for flag in option.flags:
                yield flag, option.help

    @property
    def files(self) -> bool:
        """Whether a positional argument is a file."""
        return any(not one.flags and one.values == "file" for one in self.options)


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> list[Command]:
    """The parser's command and all that are in it."""
    options: list[Option] = []
    inner: dict[str, str] = {}
    below: list[Command] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {one.dest: one.help or "" for one in action._choices_actions}
            for name, sub in action.choices.items():
                inner[name] = helps.get(name, "")
                below += commands(sub, (*words, name))
        elif action.help is not argparse.SUPPRESS:
            options.append(_option(action))
    return [Command(words, tuple(options), inner), *below]


def _option(action: argparse.Action) -> Option:
    values: Values = "any"
    if action.nargs == 0:
        values = "none"
    elif action.choices is not None:
        values = tuple(str(one) for one in action.choices)
    elif action.type is Path:
        values = "file"
    text = " ".join((action.help or "").replace("%%", "%").split())
    return Option(tuple(action.option_strings), text, values)


def script(
    parser: argparse.ArgumentParser, shell: str, names: Mapping[str, Iterable[str]] | None = None
) -> str:
    """The script for one of SHELLS. `names`: of places such as " models fetch", what may stand
    there that the parser does not know."""
    known = [
        replace(one, options=(Option((), "", tuple(given)), *one.options))
        if (given := (names or {}).get(one.at))
        else one
        for one in commands(parser)
    ]
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](known)


_BASH: Final = """\
# bash completion of gateway. Use it with:  source <(gateway completion bash)
_gateway() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} at= words= i
    if [[ $current == = ]]; then  # bash parts a word at "="
        current=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$at ${COMP_WORDS[i]}" in
            @PLACES@) at="$at ${COMP_WORDS[i]}" ;;
        esac
    done
    COMPREPLY=()
    case "$at $before" in
@VALUES@
    esac
    case "$at" in
@WORDS@
    esac
    COMPREPLY+=($(compgen -W "$words" -- "$current"))
}
_gateway_files() {
    local IFS=$'\\n'  # names may have spaces
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$1"))
}
complete -F _gateway gateway
"""

_ZSH: Final = """\
#compdef gateway
# zsh completion of gateway. Use it with:  source <(gateway completion zsh)
_gateway() {
    local at= word before=${words[CURRENT-1]}
    local -a found
    for word in "${(@)words[2,CURRENT-1]}"; do
        case "$at $word" in
            (@PLACES@) at="$at $word" ;;
        esac
    done
    case "$at $before" in
@VALUES@
    esac
    case "$at" in
@WORDS@
    esac
    _describe gateway found
}
if [[ "${funcstack[1]}" == _gateway ]]; then _gateway "$@"; else compdef _gateway gateway; fi
"""

_FISH: Final = """\
# fish completion of gateway. Use it with:  gateway completion fish | source
function __gateway_at
    set -l at ''
    for word in (commandline -opc)[2..-1]
        if contains -- "$at $word" @PLACES@
            set at "$at $word"
        end
    end
    test "$at" = "$argv[1]"
end
complete -c gateway -f
@WORDS@
"""


def _bash(known: Sequence[Command]) -> str:
    lines = []
    for command in known:
        files = '[[ $current == -* ]] || _gateway_files "$current"; ' if command.files else ""
        words = shlex.quote(" ".join(word for word, _ in command.choices()))
        lines.append(f'        "{command.at}") {files}words={words} ;;')

    def one_of(values: Sequence[str]) -> str:
        return f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(values))} -- "$current"))'

    values = _by_values(known, '_gateway_files "$current"', one_of)
    cases = (f"        {places}) {what}; return ;;" for what, places in values)
    return _filled(_BASH, "|".join(_places(known)), "\n".join(cases), "\n".join(lines))


def _zsh(known: Sequence[Command]) -> str:
    lines = []
    for command in known:
        files = "[[ $PREFIX == -* ]] || _files; " if command.files else ""
        described = " ".join(
            shlex.quote(f"{word}:{text}" if text else word) for word, text in command.choices()
        )
        lines.append(f'        ("{command.at}") {files}found=({described}) ;;')
    values = _by_values(known, "_files", lambda some: f"compadd -- {shlex.join(some)}")
    cases = (f"        ({places}) {what}; return ;;" for what, places in values)
    return _filled(_ZSH, "|".join(_places(known)), "\n".join(cases), "\n".join(lines))


def _fish(known: Sequence[Command]) -> str:
    lines = []
    for command in known:
        place = f'__gateway_at "{command.at}"'
        begin = f"complete -c gateway -n {_fish_word(place)}"
        for word, text in command.inner.items():
            lines.append(f"{begin} -a {_fish_word(word)} -d {_fish_word(text)}")
        for option in command.options:
            takes = ""
            if isinstance(option.values, tuple):
                takes = f" -a {_fish_word(' '.join(option.values))}"
            elif option.values == "file":
                takes = " -F"
            if not option.flags:
                lines += [f"{begin}{takes}"] if takes else []
                continue
            if option.values != "none":  # -x: and no files
                takes = f" -r{takes}" if option.values == "file" else f" -x{takes}"
            flags = " ".join(
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                for flag in option.flags
            )
            lines.append(f"{begin} {flags}{takes} -d {_fish_word(option.help)}")
    return _filled(_FISH, " ".join(_places(known)), "", "\n".join(lines))


def _fish_word(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _places(known: Sequence[Command]) -> Iterator[str]:
    """Where one can be, but for the beginning."""
    return (f'"{command.at}"' for command in known if command.words)


def _by_values(
    known: Sequence[Command], files: str, one_of: Callable[[Sequence[str]], str]
) -> Iterator[tuple[str, str]]:
    """What to do after options with a value, and after which (alternatives of a shell's `case`)."""
    places: dict[str, list[str]] = {}
    for command in known:
        for option in command.options:
            if not option.flags or option.values == "none":
                continue
            what = ":"
            if isinstance(option.values, tuple):
                what = one_of(option.values)
            elif option.values == "file":
                what = files
            places.setdefault(what, []).extend(f'"{command.at} {flag}"' for flag in option.flags)
    return ((what, "|".join(some)) for what, some in places.items())


def _filled(template: str, places: str, values: str, words: str) -> str:
    return (
        template.replace("@PLACES@", places).replace("@VALUES@", values).replace("@WORDS@", words)
    )
