"""What you ship answers as your PyTorch model does, or you are told which layer does not."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marwright.cli.script import train as train
    from marwright.recipe.errors import MarwrightError as MarwrightError
    from marwright.training.samples import ImageSamples as ImageSamples
    from marwright.training.samples import TableSamples as TableSamples
    from marwright.training.samples import TextSamples as TextSamples
    from marwright.training.script import TrainJob as TrainJob

# Where each name is defined: it is imported when it is first used.
_DEFINED = {
    "ImageSamples": "marwright.training.samples",
    "MarwrightError": "marwright.recipe.errors",
    "TableSamples": "marwright.training.samples",
    "TextSamples": "marwright.training.samples",
    "TrainJob": "marwright.training.script",
    "train": "marwright.cli.script",
}
__all__ = sorted(_DEFINED)


def __getattr__(name: str) -> Any:
    if name not in _DEFINED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_DEFINED[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
