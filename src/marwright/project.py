"""A project, the engine, and how a name in a recipe is found: by its form.

`mlp` and `torchvision/resnet18` are the engine's; `train/digits.py`, `train/digits.py:load` and
`ranker.net:build` are the project's; so nobody's file can replace another's. A source file is named
by a path: below `marwright/` it lies where the engine is installed, any other in the project.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

# The folder that the package lies in.
ENGINE = Path(__file__).resolve().parent.parent
PACKAGE = "marwright/"
# What `import marwright` offers beside its rooms: the module that defines it, and the name there
# where that is another one. A key follows them to there.
OFFERED = {
    "Card": "marwright.archive.card",
    "ImageSamples": "marwright.training.samples",
    "MarwrightError": "marwright.recipe.errors",
    "Packed": "marwright.archive.types",
    "TableSamples": "marwright.training.samples",
    "TextSamples": "marwright.training.samples",
    "TrainJob": "marwright.training.script",
    "VerifyReport": "marwright.archive.types",
    "inspect": "marwright.archive.card:read_card",
    "pack": "marwright.archive.pack",
    "train": "marwright.cli.script",
    "verify": "marwright.archive.verify",
}
COMMANDS = "marwright.cli."
CONFIGURATION, TABLE = "pyproject.toml", "tool.marwright"
_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
# A name of the engine's; a Python file below the project's root; a module and its function.
ENGINES_NAME = "[a-z][a-z0-9_]*"
OWN_NAME = (
    rf"({_IDENTIFIER}/)*{_IDENTIFIER}\.py(:{_IDENTIFIER})?"
    rf"|{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}"
)


def find_root(folder: Path) -> Path | None:
    """Return the project that a folder is in: it, or the nearest above, whose `pyproject.toml` has
    a `[tool.marwright]`.

    Raises `ValueError` naming a `pyproject.toml` that is not TOML.
    """
    for one in (folder, *folder.parents):
        try:
            text = (one / CONFIGURATION).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if "marwright" in text:
            # It takes a while to import, and most files are not ours.
            import tomllib

            try:
                tools = tomllib.loads(text).get("tool")
            except ValueError as error:
                raise ValueError(f"{one / CONFIGURATION}: not TOML: {error}") from None
            if isinstance(tools, dict) and "marwright" in tools:
                return one
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A function in a file: what a name in a recipe says."""

    file: str
    function: str


def named(name: str, room: str, function: str) -> Named:
    """Return where a name leads; `room` is the engine's for such things, as in `train/models`.

    `function` is what is called where the name does not say. A name is as `ENGINES_NAME` or
    `OWN_NAME` have it.
    """
    where, _, own = name.partition(":")
    if where.endswith(".py"):
        return Named(file=where, function=own or function)
    if own:
        return Named(file=f"{where.replace('.', '/')}.py", function=own)
    return Named(file=f"{PACKAGE}{room}/{where}.py", function=function)


def is_engines(path: str) -> bool:
    """Whether a source file is the engine's."""
    return path.startswith(PACKAGE)


def place(path: str, root: Path) -> Path:
    """Return where a source file lies."""
    return (ENGINE if is_engines(path) else root) / path


def module_name(path: str) -> str:
    """Return the name that a source file is imported by."""
    return path.removesuffix(".py").replace("/", ".")


def load_module(path: str, root: Path) -> ModuleType:
    """Import a source file: for a process that runs a project's code. Raises whatever it raises.

    By its name where that leads to it; a project may hold both `train.py` and `train/digits.py`,
    and then by its place.
    """
    file, name = place(path, root), module_name(path)
    if not is_engines(path) and not _leads_to(name, file, root):
        name = re.sub(r"\W", "_", path)
        if getattr(sys.modules.get(name), "__file__", None) != str(file):
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]
    return importlib.import_module(name)


def enter(root: Path) -> None:
    """Make this process one that runs a project's code: it works in the root, where modules are
    found first.

    Not for a process that people start: a project may have a `report.py`, or a `json/`.
    """
    os.chdir(root)
    # Behind everything else, because nothing but the package needs it.
    others = [path for path in sys.path if path not in ("", str(ENGINE), str(root))]
    sys.path[:] = [str(root), *others, str(ENGINE)]


def _leads_to(name: str, file: Path, root: Path) -> bool:
    """Whether a name would be imported from a file below the root; nothing is run to tell."""
    top, *inner = name.split(".")
    if str(root) not in sys.path or top in sys.builtin_module_names:
        return False
    # A script or a test may have imported another of that name.
    known = sys.modules.get(top)
    places = [getattr(known, "__file__", None), *getattr(known, "__path__", ())]
    if known is not None and not any(
        place is not None and Path(place).is_relative_to(root) for place in places
    ):
        return False
    spec = PathFinder.find_spec(top, [str(root)])
    for part in inner:
        # `train.py` stands before a folder `train/` that is no package.
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(part, [*spec.submodule_search_locations])
    return spec is not None and spec.origin is not None and Path(spec.origin).samefile(file)
