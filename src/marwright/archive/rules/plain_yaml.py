"""YAML as SnakeYAML and PyYAML both read it: plain values only, and every oddity a problem.

TorchServe reads its YAML files with SnakeYAML, and its worker reads the same files again with
PyYAML; what only one of them takes, or takes otherwise, is no file to ship.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

# In bytes; reading takes a second for so many.
LIMIT = 64 << 10
# Of an int of Java.
MOST = 2**31 - 1
# SnakeYAML's, of levels and of aliases.
SNAKEYAML_LIMIT = 50

_TAG = "tag:yaml.org,2002:"
_TEXT, _MERGE = f"{_TAG}str", f"{_TAG}merge"
_NUMBERS = {f"{_TAG}int", f"{_TAG}float"}
# No sets, whose order changes from run to run, and nothing else that only Python has.
_NOT_PLAIN = {f"{_TAG}{kind}" for kind in ("set", "omap", "pairs", "binary")}
# `1:1:1:…`, in base 60, takes minutes when it is long.
_LONGEST_NUMBER = 100

_OTHERWISE = "which can stop the whole server: write keys and values, as `batchSize: 1`"

# What PyYAML's constructors raise for text that only looks like a number or a date.
_NO_VALUE = (yaml.YAMLError, ValueError, LookupError, AttributeError, ArithmeticError, TypeError)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

# The key, with those above it, and what is wrong.
Problem = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainYaml:
    """A file's top-level values, what is wrong with it, and where each key stands, as an index."""

    values: dict[str, Any]
    problems: list[Problem]
    places: dict[str, int]

    def lines(self, problems: Iterable[Problem]) -> list[str]:
        """Return problems as lines, in the order in which their keys stand in the file."""
        # What was merged in stands nowhere itself.
        last = self.places.get("<<", 0)
        ordered = sorted(problems, key=lambda problem: self.places.get(problem[0], last))
        return [f"{name}: {line}" for name, line in dict.fromkeys(ordered)]


def read_plain_yaml(
    data: bytes, strict: Collection[str] = ("",), otherwise: str = _OTHERWISE
) -> PlainYaml:
    """Read a file that is a mapping; values that cannot be read are left out, with a problem.

    `strict` are the mappings, by their path, of which TorchServe takes every key for text; numbers
    and dates may be keys of others. `otherwise` says what comes of a file that is no mapping, and
    what to write. Raises `RefusedError` when nothing in it can be read.
    """
    loader, root = _parsed(data, otherwise)
    places: dict[str, int] = {}
    problems = [*_key_problems(root, "", places, strict)]
    values, unreadable = _values(loader, root, strict)
    return PlainYaml(values=values, problems=[*problems, *unreadable], places=places)


class RefusedError(Exception):
    """Nothing in the file can be read."""


class _Loader(yaml.SafeLoader):
    """The safe loader, stopping before levels, aliases or a number get out of hand."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.level = -1
        self.aliases = 0
        self.without_alias: set[int] = set()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        is_alias, aliases = self.check_event(yaml.AliasEvent), self.aliases
        self.level += 1
        if self.level > SNAKEYAML_LIMIT:
            raise RefusedError(f"more than {SNAKEYAML_LIMIT} levels, which TorchServe refuses: "
                                "use fewer")  # fmt: skip
        node = super().compose_node(parent, index)
        self.level -= 1
        self.aliases += is_alias
        if is_alias and (self.aliases > SNAKEYAML_LIMIT or id(node) not in self.without_alias):
            raise RefusedError(f"more than {SNAKEYAML_LIMIT} aliases, or one to what holds one, "
                                "and such files can grow without end: write them out")  # fmt: skip
        if self.aliases == aliases:
            self.without_alias.add(id(node))
        if node and node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            raise RefusedError(f"line {node.start_mark.line + 1}: a number of {len(node.value)} "
                                "characters: quote it if it is text")  # fmt: skip
        return node


_Loader.yaml_constructors = {
    tag: make for tag, make in _Loader.yaml_constructors.items() if tag not in _NOT_PLAIN
}


def _parsed(data: bytes, otherwise: str) -> tuple[_Loader, yaml.MappingNode]:
    """Return the mapping that the file is, and the loader that gives its values."""
    if len(data) > LIMIT:
        raise RefusedError(f"{len(data)} bytes, where {LIMIT} are plenty: put data in other files")
    try:
        loader = _Loader(data.decode())
        root = loader.get_node() if loader.check_node() else None
        more = loader.check_node()
    # Not only YAMLError: "\U00110000" fails in Python itself.
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:
        raise RefusedError(_explained(error, data)) from None
    if more:
        raise RefusedError("more than one document, which TorchServe refuses: keep one")
    if isinstance(root, yaml.MappingNode) and root.tag == f"{_TAG}map":
        return loader, root
    if isinstance(root, yaml.MappingNode):
        raise RefusedError(f"the tag {plain(root.tag)} asks for no plain mapping: remove it")
    kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
    raise RefusedError(f"{kind if root and root.value else 'empty'}, {otherwise}")


def _explained(error: Exception, data: bytes) -> str:
    if isinstance(error, UnicodeDecodeError):
        line = data.count(b"\n", 0, error.start)
        return f"line {line + 1}: not UTF-8: save the file as UTF-8"
    if isinstance(error, yaml.reader.ReaderError):
        line = data.decode().count("\n", 0, error.position)
        return f"line {line + 1}: not YAML: a control character: remove it"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: not YAML: {_reason(error)}"
    return f"not YAML: {_reason(error)}"


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        return ", ".join(filter(None, (error.context, error.problem)))[:200]
    return str(error)[:200]


def _values(
    loader: _Loader, root: yaml.MappingNode, strict: Collection[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the top-level values that can be read, and why others cannot."""
    values, problems = {}, []
    try:
        loader.flatten_mapping(root)
    except yaml.MarkedYAMLError as error:
        problems.append(("<<", f"{_reason(error)}: write a mapping"))
    for key, value in root.value:
        if problem := _key_problem(key, "", strict):
            problems.append((_named(key, ""), problem))
            continue
        try:
            values[key.value] = loader.construct_object(value, deep=True)
        except _NO_VALUE as error:
            problem = f"cannot be read: {_reason(error)}: write a plain value, and text in quotes"
            problems.append((_named(key, ""), problem))
    return values, problems


def _key_problems(
    node: yaml.Node, path: str, places: dict[str, int], strict: Collection[str]
) -> Iterator[Problem]:
    """Yield which keys, at any depth, stand twice or are no text; note where each one stands."""
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _key_problems(child, path, places, strict)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        name, line = _named(key, path), key.start_mark.line + 1
        places[name] = key.start_mark.index
        if problem := _key_problem(key, path, strict):
            yield name, problem
        elif first := lines.get((key.tag, key.value)):
            yield (
                name,
                f"in lines {first} and {line}, of which the last silently wins: keep one",
            )
        else:
            lines[key.tag, key.value] = line
        yield from _key_problems(value, name, places, strict)


def _key_problem(key: yaml.Node, path: str, strict: Collection[str]) -> str:
    # Deeper down a handler may well want numbers, but nobody means `on` to be true.
    text_only = path in strict
    allowed = {_TEXT, _MERGE} if text_only else {_TEXT, _MERGE, *_NUMBERS, f"{_TAG}timestamp"}
    if isinstance(key, yaml.ScalarNode) and key.tag in allowed:
        return ""
    kind = plain(key.tag.removeprefix(_TAG))
    stops = ", which can stop the whole server" if text_only else ""
    return f"YAML reads this key as {kind}, not as text{stops}: put it in quotes"


def _named(key: yaml.Node, path: str) -> str:
    name = plain(key.value) if isinstance(key, yaml.ScalarNode) else "?"
    return f"{path}.{name}" if path else name


def whole_problem(value: Any, least: int, other: str, less: str = "", most: int = MOST) -> str:
    """Say why TorchServe would not take a value as the whole number that it must be, or nothing.

    `other` is what it does with what is no number, and `less` with a number below the `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        digits = re.fullmatch(r"([0-9]{1,9})(\.0)?", str(value))
        instead = f"a bare {int(digits[1])}" if digits else f"a whole number, {least} or more"
        return f"{shown(value)} is not a whole number, and TorchServe {other}: write {instead}"
    if value > most:
        return f"{shown(value)} is too large for TorchServe: write {most} at most"
    if value >= least:
        return ""
    does = f", and TorchServe {less}" if less else ""
    return f"{shown(value)} is less than {least}{does}: write {least} or more"


def plain(text: str) -> str:
    """Return a text as it can stand in a problem's line."""
    return text if text.isprintable() and 0 < len(text) <= 60 else _SHORT.repr(text)


def shown(value: Any) -> str:
    """Return a value as YAML would have it, short enough for a line."""
    text = _SHORT.repr(value)
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)
