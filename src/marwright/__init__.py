"""What you ship answers as your PyTorch model does, or you are told which layer does not.

from marwright import pack, verify

packed = pack(model_name="kittens", version="1.0", handler="kittens.py", serialized_file="k.pt")
assert verify(packed.path).ok

Nothing prints, and what a person can mend is raised as a `MarwrightError`. Each name is imported
when it is first used: this module by itself imports nothing.
"""

from __future__ import annotations

# As type checkers read it; `typing` itself takes most of the time that this would.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from marwright.archive.card import Card
    from marwright.archive.card import read_card as inspect
    from marwright.archive.pack import pack
    from marwright.archive.types import Packed, VerifyReport
    from marwright.archive.verify import verify
    from marwright.cli.script import train
    from marwright.recipe.errors import MarwrightError
    from marwright.training.samples import ImageSamples, TableSamples, TextSamples
    from marwright.training.script import TrainJob

# Where each is defined is in `marwright.project.OFFERED`, which keys go by too.
__all__ = [
    "Card",
    "ImageSamples",
    "MarwrightError",
    "Packed",
    "TableSamples",
    "TextSamples",
    "TrainJob",
    "VerifyReport",
    "inspect",
    "pack",
    "train",
    "verify",
]


# To type checkers it would make any name one of ours.
if not TYPE_CHECKING:

    def __getattr__(name):
        from importlib import import_module

        from marwright.project import OFFERED

        if name not in OFFERED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, attribute = OFFERED[name].partition(":")
        globals()[name] = value = getattr(import_module(module), attribute or name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
