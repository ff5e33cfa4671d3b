"""The Python modules that a recipe names: read, and never run, because they may import torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marwright.project import Named, place
from marwright.recipe.errors import RecipeError
from marwright.recipe.paths import root_of, shown
from marwright.recipe.regular import MOST_TEXT, read_regular
from marwright.recipe.suggest import suggestion
from marwright.recipe.syntax import syntax_tree

# TorchServe falls back to its own handler of the same name on any ImportError inside ours.
STOCK_HANDLERS = frozenset(
    {"base_handler", "contractions", "dali_handler", "dali_image_classifier", "densenet_handler",
     "distributed", "image_classifier", "image_segmenter", "object_detector", "request_envelope",
     "text_classifier", "text_handler", "trt_llm_handler", "unit_tests", "vision_handler",
     "vllm_handler"}
)  # fmt: skip


def _parsed(path: Path, key: str, file: str) -> ast.Module:
    """Return the syntax tree of a source file that a recipe names.

    Parsed and not imported, because it may import torch.
    """
    source = place(file, root_of(path))
    try:
        return syntax_tree(read_regular(source, MOST_TEXT), source.name)
    except OSError as error:
        raise RecipeError(f"{shown(path)}: {key}: {file}: {error.strerror}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RecipeError(f"{shown(path)}: {key}: {file} is not Python: {error}") from None


def function_of(path: Path, key: str, what: Named) -> ast.FunctionDef:
    """Return the function that a recipe names under `key`; refuse a file without it."""
    for node in _parsed(path, key, what.file).body:
        if isinstance(node, ast.FunctionDef) and node.name == what.function:
            return node
    raise RecipeError(f"{shown(path)}: {key}: {what.file} has no `{what.function}` function")


# What a handler must define, and the line that does it.
_HANDLER_LINES = {
    "service": "service = Service(read=..., answer=...)",
    "handle": "handle = service.handle",
}


def check_handler(path: Path, file: str) -> None:
    """Refuse a handler that does not define what the pipeline and TorchServe call."""
    key = "[serve] handler"
    defined = defined_names(_parsed(path, key, file))
    for name, line in _HANDLER_LINES.items():
        if name not in defined:
            raise RecipeError(f"{shown(path)}: {key}: {file} has no `{name}`: add `{line}`")


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


def check_params(
    path: Path, section: str, params: Mapping[str, Any], function: ast.FunctionDef
) -> None:
    """Hold a table of a recipe against the signature of the function that it is given to."""
    arguments = function.args
    known = [argument.arg for argument in arguments.kwonlyargs]
    for name in params:
        if name not in known and arguments.kwarg is None:
            raise RecipeError(
                f"{shown(path)}: [{section}] {name}: unknown key{suggestion(name, known)}"
            )
    for name, default in zip(known, arguments.kw_defaults, strict=True):
        if default is None and name not in params:
            raise RecipeError(f"{shown(path)}: [{section}] {name}: required, but missing")
