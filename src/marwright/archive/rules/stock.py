"""What TorchServe's own handlers want of an archive, told without running them."""

from __future__ import annotations

from pathlib import Path

from marwright.archive.rules.handler import STOCK
from marwright.archive.rules.python import MOST_SOURCE
from marwright.recipe.entry import module_classes
from marwright.recipe.regular import read_regular
from marwright.recipe.syntax import syntax_tree

# They bring what they serve, or are told by model-config.yaml.
WITHOUT_PAYLOAD = frozenset({"trt_llm_handler", "vllm_handler"})
# What `BaseHandler.initialize` knows without a model's source.
_SUFFIXES = (".pt", ".onnx", ".so")


def stock_problems(handler: str, model_file: Path | None, payload: Path | None) -> list[str]:
    """Say what would keep a handler of TorchServe's own from loading a model.

    `model_file` is Python that was parsed before. Other handlers load as they like: none.
    """
    if handler not in STOCK or handler in WITHOUT_PAYLOAD:
        return []
    if model_file is not None:
        return [*_model_file_problems(handler, model_file)]
    if payload is None:
        return [f"--handler {handler}: needs --serialized-file, or --model-file, or both"]
    if payload.suffix not in _SUFFIXES:
        return [
            f"--serialized-file {payload}: without --model-file, {handler} loads TorchScript that "
            f"is called .pt, or one of {', '.join(_SUFFIXES[1:])}"
        ]
    return []


def _model_file_problems(handler: str, file: Path) -> list[str]:
    if "." in file.stem:
        return [f"--model-file {file}: {handler} imports it by its name, up to the first dot"]
    tree = syntax_tree(read_regular(file, MOST_SOURCE), file.name)
    classes = sorted({node.name for node in module_classes(tree)})
    if len(classes) != 1:
        found = ", ".join(classes) or "none"
        return [f"--model-file {file}: {handler} needs exactly one class in it; it has {found}"]
    return []
