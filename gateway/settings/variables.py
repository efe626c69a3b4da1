"""Environment variables, and `${...}` in the text of a file. Pure: `read` is handed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.settings.mistake import Mistake, Place

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE: Final = "file:"


class Variables:
    """The environment. NAME may also be given as NAME_FILE: the path of a file that holds it.

    `read` returns a file's text, or raises OSError or ValueError (not text, too large).
    """

    def __init__(self, environ: Mapping[str, str], read: Callable[[str], str]) -> None:
        self._environ = environ
        self._read = read
        self._from_files: dict[str, str | None] = {}
        self.mistakes: list[Mistake] = []

    def get(self, name: str) -> str | None:
        """The value; None if there is none. An empty variable counts as none."""
        value = self._environ.get(name)
        path = self._environ.get(f"{name}_FILE")
        if not path:
            return value or None
        if name in self._from_files:
            return self._from_files[name]
        place = (f"{name}_FILE",)
        found: str | None = None
        if value:
            self.mistakes.append(Mistake(place, f"{name} is set too; expected one of the two"))
        else:
            found = self.file(path, place)
        self._from_files[name] = found
        return found

    def lack(self, name: str) -> str:
        """Why `get` found nothing."""
        return "is set, but empty" if name in self._environ else "is not set"

    def file(self, path: str, place: Place) -> str | None:
        """The text of a file that holds a secret, without the line end; None (and a mistake) if
        it cannot be used."""
        try:
            text = self._read(path)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            self.mistakes.append(Mistake(place, f"the file {path} cannot be read: {reason}"))
            return None
        except ValueError as error:
            self.mistakes.append(Mistake(place, f"the file {path} {error}"))
            return None
        if not text.strip():
            self.mistakes.append(Mistake(place, f"the file {path} is empty"))
            return None
        return text.rstrip("\r\n")


class Interpolation:
    """Replaces `${NAME}`, `${NAME:-default}` and `${file:PATH}` in a tree of values.

    `sources` says from where each replaced value came, so that no message has to show it.
    """

    def __init__(self, variables: Variables) -> None:
        self._variables = variables
        self.sources: dict[Place, str] = {}
        self.mistakes: list[Mistake] = []

    def of(self, value: Any, place: Place = ()) -> Any:
        """`value` with everything replaced."""
        if isinstance(value, dict):
            replaced = {}
            for key, item in value.items():
                name = self._text(key, (*place, key)) if "$" in key else key
                if name in replaced:
                    self.mistakes.append(Mistake((*place, key), "stands twice once it is replaced"))
                replaced[name] = self.of(item, (*place, name))
            return replaced
        if isinstance(value, list):
            return [self.of(item, (*place, str(i))) for i, item in enumerate(value)]
        if isinstance(value, str) and "$" in value:
            return self._text(value, place)
        return value

    def _text(self, text: str, place: Place) -> str:
        def replace(match: re.Match[str]) -> str:
            inside, closed = match.groups()
            if inside is None:
                return "${"
            if not closed:
                self._wrong(place, "`${` without its `}` ($${ is a literal ${)")
                return ""
            self.sources[place] = match.group()
            if inside.startswith(_FILE):
                path = inside.removeprefix(_FILE)
                if not path:
                    self._wrong(place, "expected a path in ${file:PATH}")
                    return ""
                before = len(self._variables.mistakes)
                found = self._variables.file(path, place)
                self.mistakes += self._variables.mistakes[before:]
                del self._variables.mistakes[before:]
                return found or ""
            name, colon, default = inside.partition(":-")
            if not _NAME.fullmatch(name):
                self._wrong(place, "expected ${NAME}, ${NAME:-default} or ${file:PATH}")
                return ""
            if (found := self._variables.get(name)) is not None:
                return found
            if not colon:
                self._wrong(
                    place,
                    f"the environment variable {name} {self._variables.lack(name)} "
                    f"(use ${{{name}:-default}} for a default)",
                )
            return default

        return _REFERENCE.sub(replace, text)

    def _wrong(self, place: Place, text: str) -> None:
        self.mistakes.append(Mistake(place, text))
