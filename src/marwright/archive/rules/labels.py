"""`index_to_name.json`, held against what TorchServe's `load_label_mapping` takes."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from marwright.archive.container.types import Unreadable
from marwright.archive.names import printable
from marwright.archive.rules.handler import is_stock, parse_handler
from marwright.archive.rules.python import parse
from marwright.archive.rules.stock import WITHOUT_PAYLOAD
from marwright.recipe.entry import module_classes

LABELS = "index_to_name.json"
_OWN = "ts.torch_handler"


class _NotJson(ValueError):
    """What no reader of JSON takes."""


def label_findings(
    handler: str, read: Callable[[str], bytes | None]
) -> tuple[list[str], list[str]]:
    """Return what keeps the handler from reading its label map, and what is worth a note.

    `read` gives a member or None. A handler that reads the map itself may take what it likes, as
    long as it is JSON. Where that cannot be told, what TorchServe's code would fail on is a note.
    """
    try:
        data = read(LABELS)
    except Unreadable as error:
        return [], [f"{error}; not looked at"]
    if data is None:
        return [], []
    stock = is_stock(handler, lambda name: read(name) is not None)
    surely = True if stock else _inherits(handler, read)
    if stock and handler in WITHOUT_PAYLOAD:
        return [], []
    try:
        mapping, doubled = _mapping(data)
    except ValueError as error:
        line = f'{LABELS}: {error}: write {{"0": "name", …}} in UTF-8'
        if surely:
            return [line], []
        if surely is None and _reads_itself(handler, read) and not isinstance(error, _NotJson):
            return [], []
        return [], [f"{line}, if the handler reads it so"]
    if surely is None:
        return [], []
    notes = [f"{LABELS}: {printable(key)} stands in it twice, and the last counts"
             for key in doubled]  # fmt: skip
    gap = next((n for n in range(max(len(mapping), 1)) if str(n) not in mapping), None)
    if gap is not None:
        notes.append(f'{LABELS}: has no "{gap}", and TorchServe looks for the classes "0", "1", …')
    return [], notes


def _mapping(data: bytes) -> tuple[dict[str, Any], list[str]]:
    """Read a map as TorchServe does; returns it with the keys that are there twice.

    Raises `ValueError` for what it refuses.
    """
    doubled: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        times = Counter(key for key, _ in found)
        doubled.extend(key for key, n in times.items() if n > 1)
        return dict(found)

    try:
        value = json.loads(data.decode(), object_pairs_hook=pairs)
    except UnicodeDecodeError:
        raise _NotJson("not UTF-8") from None
    except json.JSONDecodeError as error:
        what = "begins with a byte order mark" if data.startswith(b"\xef\xbb\xbf") else str(error)
        raise _NotJson(f"not JSON: {what}") from None
    except RecursionError:
        raise _NotJson("not JSON: nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"a {_called(value)}, and TorchServe takes an object of classes only")
    names = value.get("object_type_names")
    if isinstance(names, list):
        return {str(n): name for n, name in enumerate(names)}, doubled
    for key, name in value.items():
        last = name[-1] if isinstance(name, list) and name else name
        if not isinstance(last, str):
            raise ValueError(
                f"{printable(key)} is a {_called(name)}, and a name is a string, or a list that "
                "ends with one"
            )
    return value, doubled


def _called(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return {"dict": "object", "str": "string", "NoneType": "null", "bool": "true or false"}.get(
        type(value).__name__, type(value).__name__
    )


def _inherits(handler: str, read: Callable[[str], bytes | None]) -> bool | None:
    """Whether a handler surely passes its map to TorchServe's code; None if it names no such code.

    Another module, which it imports, may.
    """
    source = read(parse_handler(handler).file)
    if source is None:
        return None
    try:
        tree = parse(source, handler)
    except ValueError:
        # Another rule says so.
        return None
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
        if f"{getattr(node, 'module', '')}.{alias.name}".strip(".").startswith(_OWN)
    }
    if not names:
        return None
    classes = [*module_classes(tree)]
    if len(classes) != 1 or parse_handler(handler).function:
        return False
    [node] = classes
    bases = {ast.unparse(base) for base in node.bases}
    if not any(base in names or base.rpartition(".")[0] in names for base in bases):
        return False
    own = [
        method
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name == "initialize"
    ]
    return not own or any(_initialises(statement) for statement in own[-1].body)


def _reads_itself(handler: str, read: Callable[[str], bytes | None]) -> bool:
    """Whether a handler names the map, and not TorchServe's function that reads it."""
    source = read(parse_handler(handler).file) or b""
    return LABELS.encode() in source and b"load_label_mapping" not in source


def _initialises(statement: ast.stmt) -> bool:
    """Whether a statement is a call of somebody else's `initialize`."""
    call = statement.value if isinstance(statement, (ast.Expr, ast.Assign, ast.Return)) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "initialize"
    )
