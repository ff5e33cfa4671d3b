"""What TorchServe makes of a manifest's `handler`, told from the source without running it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from marwright.archive.names import printable
from marwright.archive.rules.python import parse
from marwright.archive.rules.root_names import taken
from marwright.recipe.entry import entry_fault
from marwright.recipe.modules import STOCK_HANDLERS

# Those of TorchServe's own modules that torch-model-archiver takes by name.
STOCK = frozenset(
    {"base_handler", "dali_image_classifier", "image_classifier", "image_segmenter",
     "object_detector", "text_classifier", "trt_llm_handler", "vllm_handler"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A module by its dotted name, and the function in it; None for `handle` or a class."""

    module: str
    function: str | None

    @property
    def file(self) -> str:
        """The member that the module is read from."""
        return f"{self.module.replace('.', '/')}.py"


def parse_handler(text: str) -> Handler:
    """Read `handler` as TorchServe's loader does: `.py` is dropped, and so are folders."""
    module, _, function = text.partition(":")
    return Handler(module=module.removesuffix(".py").rpartition("/")[2], function=function or None)


def is_stock(text: str, has: Callable[[str], bool]) -> bool:
    """Whether this is a handler of TorchServe's own, as no member has its name."""
    return text in STOCK and not has(parse_handler(text).file)


def handler_problems(text: str, read: Callable[[str], bytes | None]) -> list[str]:
    """Say why TorchServe could not, or would not, run the handler; `read` gives a member or None.

    Lines begin with the member or with the handler.
    """
    handler = parse_handler(text)
    if is_stock(text, lambda name: read(name) is not None):
        return []
    source = read(handler.file)
    if source is None:
        return [f"handler {printable(text)}: {handler.file} is not in the archive"]
    if handler.module in STOCK_HANDLERS:
        return [
            f"{handler.file}: has the name of TorchServe's own {handler.module}, which silently "
            "takes its place when an import in it fails: rename it"
        ]
    if taken(handler.module):
        # Said of the archive's root.
        return []
    package = f"{handler.file.removesuffix('.py')}/__init__.py"
    if read(package) is not None:
        return [f"{handler.file}: Python would import {package} in its place: rename one of them"]
    try:
        tree = parse(source, handler.file)
    except ValueError as error:
        return [str(error)]
    fault = entry_fault(tree, handler.function)
    return [] if fault is None else [f"{handler.file}: {fault.text}"]
