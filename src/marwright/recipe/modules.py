"""The Python modules that a recipe names: read, and never run, because they may import torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marwright.project import Named, place
from marwright.recipe.entry import entry_fault, entry_of
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


def check_handler(path: Path, file: str) -> None:
    """Refuse a handler that neither the pipeline nor TorchServe could call."""
    key = "[serve] handler"
    tree = _parsed(path, key, file)
    entry = entry_of(tree)
    if entry.is_service and not entry.is_function:
        raise RecipeError(
            f"{shown(path)}: {key}: {file} has no `handle`: add `handle = service.handle`"
        )
    if (fault := entry_fault(tree)) is not None:
        where = f"{file}:{fault.line}:" if fault.line else file
        raise RecipeError(f"{shown(path)}: {key}: {where} {fault.text}: {fault.remedy}")


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
