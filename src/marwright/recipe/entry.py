"""How a handler's module is entered, told from its source without running it.

A module offers a function `handle`, which of ours is that of a `Service`, or one class, as those
of TorchServe's own style are.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The methods that TorchServe calls of a class, and how they are written.
_METHODS = {
    "initialize": "def initialize(self, context):",
    "handle": "def handle(self, data, context):",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a module is entered by: `handle`, where it is a function; else its one class.

    `is_service` says whether it promises a `service`, whose `read` and `answer` can be called.
    """

    is_service: bool
    is_function: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why TorchServe would not enter a module: at which line, if at one, and what to write."""

    text: str
    remedy: str
    line: int | None = None


def entry_of(tree: ast.Module) -> Entry:
    """Return what a module is entered by, if it is sound."""
    names = defined_names(tree)
    return Entry(is_service="service" in names, is_function=bool({"handle", "*"} & names))


def entry_in(file: Path) -> Entry:
    """Return what a source file is entered by. Raises `SyntaxError` for what is no Python."""
    return entry_of(ast.parse(file.read_bytes(), filename=file.name))


def entry_fault(tree: ast.Module, function: str | None = None) -> Fault | None:
    """Say why TorchServe could not, or would not, enter a module.

    By its function `handle` or its one class; by `function`, where a manifest names one.
    """
    names = defined_names(tree)
    if (function or "handle") in names or "*" in names:
        return None
    if function:
        return Fault(
            text=f"has no {function}; TorchServe would look for a class instead, without a word",
            remedy=f"write `def {function}(data, context):`",
        )
    # As TorchServe sees it: the last class of a name, in `if` and `try` too.
    classes = {node.name: node for node in module_classes(tree)}
    if len(classes) != 1:
        found = ", ".join(sorted(classes)) or "none"
        return Fault(
            text=f"needs a function `handle`, or exactly one class; it has {found}",
            remedy="keep one here, and import the others from another file" if classes
            else "add `service = Service(read=..., answer=...)` and `handle = service.handle`, or "
            "a class with the methods `initialize` and `handle`",
            line=[*classes.values()][1].lineno if classes else None,
        )  # fmt: skip
    [node] = classes.values()
    methods = defined_names(ast.Module(body=node.body, type_ignores=[]))
    missing = [name for name in _METHODS if name not in methods]
    if missing and all(_is_object(base) for base in node.bases):
        return Fault(
            text=f"class {node.name} has no `{missing[0]}` method, which TorchServe calls",
            remedy=f"write `{_METHODS[missing[0]]}`, or derive it from "
            "ts.torch_handler.base_handler.BaseHandler",
            line=node.lineno,
        )
    return None


def module_classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """Yield the classes that a module defines when it is run, under `if` and `try` as well."""
    waiting: deque[ast.AST] = deque(tree.body)
    while waiting:
        node = waiting.popleft()
        if isinstance(node, ast.ClassDef):
            yield node
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            waiting += ast.iter_child_nodes(node)


def _is_object(base: ast.expr) -> bool:
    return isinstance(base, ast.Name) and base.id == "object"


def defined_names(tree: ast.Module) -> set[str]:
    """Return the names that a module defines when it is run, under `if` and `try` as well."""
    names = set()
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        # An annotation alone defines nothing, and the names of a comprehension stay in it.
        elif not (
            isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp))
            or (isinstance(node, ast.AnnAssign) and node.value is None)
        ):
            waiting += ast.iter_child_nodes(node)
    return names
