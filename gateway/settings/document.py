"""YAML text -> plain values, each with its line. Strict and bounded; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from gateway.settings.mistake import Place

DEPTH_MAX: Final = 32
"""Levels in a file; the deepest option lies on the sixth."""

VALUES_MAX: Final = 100_000
"""Values in a file, an anchor's counted wherever it is used: a few lines of anchors of anchors make
billions."""

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"


class DocumentError(Exception):
    """The text is no document of ours. The message never shows what stands there: it may be a
    secret."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


@dataclass(slots=True)
class Document:
    """The values, and the line of each (counted from 1)."""

    values: Any
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int | None:
        """The line of what stands at `place`; of what it would stand in, if it is not there."""
        for depth in range(len(place), 0, -1):
            if (line := self.lines.get(place[:depth])) is not None:
                return line
        return None


def parse(text: str) -> Document:
    """Read one YAML document. Raises DocumentError.

    Keys are text, whatever YAML takes them for (`no`, `1`); so are dates and times. Merge keys
    (`<<`) work. A key that stands twice, an anchor inside itself and tags are refused.
    """
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentError("a character that YAML does not allow", line) from None
    except yaml.YAMLError as error:
        # only problem and place: the context would show the line, and secrets with it
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "malformed"
        for ours in _NAMING_PROBLEMS:
            if problem.startswith(ours):
                problem = _NAMING_PROBLEMS[ours]
        raise DocumentError(problem, mark.line + 1 if mark else None) from None
    except RecursionError:
        raise DocumentError("nested too deeply") from None
    if node is None:
        return Document(None)
    builder = _Builder()
    return Document(builder.build(node, ()), builder.lines)


_NAMING_PROBLEMS: Final = {
    "found undefined alias": "an alias (*name) without its anchor (&name); text that begins with "
    "* needs quotes",
    "found duplicate anchor": "an anchor (&name) that stands twice; text that begins with & needs "
    "quotes",
    "found undefined tag handle": "a tag (!name); text that begins with ! needs quotes",
    "expected a single document": "a second document (---)",
    "but found another document": "a second document (---)",
    "expected <block end>": "what stands here fits neither the lines above nor their indentation",
    "did not find expected key": "what stands here fits neither the lines above nor their "
    "indentation",
    "expected '<document start>'": "expected a mapping of sections, `server:` and so on",
    "mapping values are not allowed here": "a colon that fits nowhere: text with `: ` needs "
    "quotes, or the indentation is not that of the lines above",
    "found character '\\t'": "a tab: YAML is indented by spaces",
    "found unexpected end of stream": "the file ends inside of quotes",
    "while scanning a quoted scalar": "the file ends inside of quotes",
    "found character": "text that begins with @, ` or % needs quotes",
    "expected chomping": "text that begins with | or > needs quotes",
    "expected alphabetic": "an alias (*name) or an anchor (&name) without a name; text that begins "
    "with * or & needs quotes",
    "could not find expected ':'": "a name without a colon behind it",
    "found unknown escape": "a backslash inside of double quotes: write two, or use single quotes",
    "expected the node content": "expected a value",
    "expected ',' or '}'": "a brace without its }, or text with `: ` that needs quotes",
    "expected ',' or ']'": "a bracket without its ], or text with `: ` that needs quotes",
}
"""PyYAML's words that repeat what stands in the file, or say too little -> ours."""


class _Builder:
    """Turns a tree of nodes into values."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self._open: set[int] = set()  # nodes that we are inside of
        self._members_of: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = {}
        self._values = 0
        self._scalars = yaml.SafeLoader("")

    def build(self, node: yaml.Node, place: Place) -> Any:
        line = _line(node)
        self.lines.setdefault(place, line)
        self._values += 1
        if self._values > VALUES_MAX:
            raise DocumentError(f"more than {VALUES_MAX} values", line)
        if len(place) > DEPTH_MAX:
            raise DocumentError("nested too deeply", line)
        if id(node) in self._open:
            raise DocumentError("an anchor that contains itself", line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, place)
            assert isinstance(node, yaml.SequenceNode)
            if node.tag != f"{_TAG}seq":
                raise _tagged(node)
            return [self.build(one, (*place, str(i))) for i, one in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        built = {}
        for key, (key_node, value_node) in self._members(node).items():
            self.lines[*place, key] = _line(key_node)
            built[key] = self.build(value_node, (*place, key))
        return built

    def _members(self, node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """What stands in a mapping; its own come before merged ones, earlier before later ones."""
        if (known := self._members_of.get(id(node))) is not None:
            return known
        if node.tag != f"{_TAG}map":
            raise _tagged(node)
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        merges = 0
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merges += 1
                several = isinstance(value_node, yaml.SequenceNode)
                merged += value_node.value if several else [value_node]
                key = "<<"
            else:
                key = self._key(key_node)
            if key in own or merges > 1:
                raise DocumentError(f"the key {key[:64]!r} stands twice", _line(key_node))
            if key_node.tag != _MERGE:
                own[key] = (key_node, value_node)
        self._open.add(id(node))
        for source in merged:
            if not isinstance(source, yaml.MappingNode):
                raise DocumentError("`<<` takes a mapping, such as *anchor", _line(source))
            if id(source) in self._open:
                raise DocumentError("an anchor that contains itself", _line(source))
            for key, pair in self._members(source).items():
                own.setdefault(key, pair)
        self._open.discard(id(node))
        self._members_of[id(node)] = own
        return own

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise DocumentError("expected a name before the colon", _line(node))
        self._scalar(node)  # its tag is one of ours
        if not node.value:
            raise DocumentError("expected a name before the colon", _line(node))
        name: str = node.value
        return name

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        tag, text = node.tag.removeprefix(_TAG), str(node.value)
        try:
            match tag:
                case "null":
                    return None
                case "bool":
                    return self._scalars.construct_yaml_bool(node)
                case "int" if ":" not in text:  # 10:30 would be 630
                    return self._scalars.construct_yaml_int(node)
                case "float" if ":" not in text:
                    return self._scalars.construct_yaml_float(node)
                case "str" | "timestamp" | "value" | "merge" | "int" | "float":
                    return text
        except (ValueError, KeyError):
            pass
        raise _tagged(node)


def _tagged(node: yaml.Node) -> DocumentError:
    return DocumentError(
        "a tag (!name) that means nothing here; text that begins with ! needs quotes", _line(node)
    )


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1
