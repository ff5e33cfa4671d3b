"""The functions of a workflow's handler, found in its source without running it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterator

from marwright.archive.names import printable
from marwright.archive.rules.python import parse
from marwright.archive.rules.root_names import taken
from marwright.recipe.entry import defined_names, module_classes
from marwright.recipe.suggest import suggestion

_Function = ast.FunctionDef | ast.AsyncFunctionDef
# Of names that are compared for hints: a stranger's files may hold thousands.
_MOST_PAIRS = 400


def function_problems(handler: str, source: bytes, names: Collection[str]) -> list[str]:
    """Say why TorchServe could not call the named functions of a handler, which is a member."""
    stem = handler.rpartition("/")[2].removesuffix(".py")
    if "." in stem or ":" in handler or not handler.endswith(".py"):
        return [f"{handler}: TorchServe imports it by its name: call it as in handler.py"]
    if problem := taken(stem):
        return [f"{handler}: {problem}"]
    try:
        tree = parse(source, handler)
    except ValueError as error:
        return [str(error)]
    defined = defined_names(tree)
    missing = [] if "*" in defined else [name for name in names if name not in defined]
    found = [*_unfit(tree, {*names}), *_missing(tree, missing)]
    return [f"{handler}: {problem}" for problem in found]


def hinted(words: Collection[str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each word with a suggestion, or with nothing where there are too many to compare."""
    few = len(words) * len(known) <= _MOST_PAIRS
    for word in words:
        yield word, suggestion(word, known) if few else ""


def _missing(tree: ast.Module, names: Collection[str]) -> Iterator[str]:
    classes = {node.name for node in module_classes(tree)}
    only = printable(min(classes)) if len(classes) == 1 else ""
    instead = f"; TorchServe would take its class {only}" if only else ""
    functions = [node.name for node in tree.body if isinstance(node, _Function)]
    for name, hint in hinted(names, functions):
        yield (f"has no function {name}{instead}: write `def {name}(data, context):`, or add a "
               f"model of that name to the spec{hint}")  # fmt: skip


def _unfit(tree: ast.Module, names: Collection[str]) -> Iterator[str]:
    """Say why functions cannot be called with data and context, where that can be told."""
    times = Counter(_bound(node) for node in ast.walk(tree))
    for node in tree.body:
        # Of a name that is bound twice, or decorated, the last word is not in the source.
        name = _bound(node)
        if name not in names or times[name] > 1:
            continue
        if isinstance(node, ast.ClassDef):
            yield f"{name} is a class, and TorchServe calls functions"
        elif isinstance(node, ast.AsyncFunctionDef):
            yield f"{name} is async, and TorchServe does not wait for it: write a plain `def`"
        elif isinstance(node, ast.FunctionDef) and not node.decorator_list and not _takes_two(node):
            yield f"{name} is called with two arguments: write `def {name}(data, context):`"


def _bound(node: ast.AST) -> str | None:
    """Return the name that a node itself gives a value."""
    if isinstance(node, (_Function, ast.ClassDef)):
        return node.name
    if isinstance(node, ast.alias):
        return node.asname or node.name
    return node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None


def _takes_two(function: ast.FunctionDef) -> bool:
    arguments = function.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    needed = positional - len(arguments.defaults)
    keyword_only = any(default is None for default in arguments.kw_defaults)
    return needed <= 2 and (positional >= 2 or arguments.vararg is not None) and not keyword_only
