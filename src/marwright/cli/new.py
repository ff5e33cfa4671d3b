"""`marwright new DIR` and `init`: a project that trains, proves and serves at once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from marwright.project import CONFIGURATION, TABLE, find_root
from marwright.recipe.errors import UsageError
from marwright.recipe.load import RESERVED_NAMES
from marwright.recipe.types import NAME_PATTERN

Kind = Literal["image", "table", "text"]
KINDS: tuple[Kind, ...] = ("image", "table", "text")
_TEMPLATES = Path(__file__).parent / "templates"
# What TorchServe is told in this engine's own repository, and in every project.
SERVER = Path(__file__).parents[1] / "serve" / "config.properties"


def new(folder: Path, kind: Kind, name: str | None) -> int:
    """Write a project into a new folder, say what is there, and what to do next; returns 0.

    Raises `UsageError` where the folder holds something, or no model can be called so.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is not empty: `marwright init` adds what is missing there")
    model = _model(folder, name)
    for path, content in _files(kind, model):
        _write(folder / path, content)
        print(f"  {path}")
    print(f"\n{folder}: a project of one model, {model}. Next:\n")
    print(f"  cd {_quoted(folder)}\n  make train archive\n  make serve")
    return 0


def init(folder: Path, kind: Kind, name: str | None) -> int:
    """Add what is missing to make a folder a project; nothing that is there is changed, but for the
    table that marks a project, which goes to the end of its pyproject.toml; returns 0.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; `marwright new` makes one")
    model = _model(folder, name)
    for path, content in _files(kind, model):
        there = folder / path
        if path == CONFIGURATION and there.exists():
            print(f"  {path}: {_marked(there)}")
        elif there.exists() or there.is_symlink():
            print(f"  {path}: is there, and stays")
        else:
            _write(there, content)
            print(f"  {path}: written")
    print(
        f"\n{folder}: a project; its model {model} is made by `marwright archive --model {model}`"
    )
    return 0


def _model(folder: Path, name: str | None) -> str:
    """Return the name of the first model: as given, or as the folder is called."""
    if name is None:
        plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore")
        name = re.sub(r"[^a-z0-9]+", "_", plain.decode().lower()).strip("_") or "model"
        name = f"model_{name}" if not name[0].isalpha() or name in RESERVED_NAMES else name
    if not re.fullmatch(NAME_PATTERN, name) or name in RESERVED_NAMES:
        raise UsageError(
            f"--name {name}: a model's name is of small letters, digits and _, begins with a "
            f"letter, and is none of {', '.join(sorted(RESERVED_NAMES))}"
        )
    return name


def _files(kind: Kind, model: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each file of a project, and what stands in it."""
    # Slow to import, and every command line reads this module's kinds.
    from importlib.metadata import version

    for part in ("common", kind):
        folder = _TEMPLATES / part
        for file in sorted(folder.rglob("*.in")):
            path = file.relative_to(folder).as_posix().removesuffix(".in").replace("NAME", model)
            text = file.read_text(encoding="utf-8").replace("@NAME@", model)
            yield path, text.replace("@VERSION@", version("marwright"))
    yield "config.properties", SERVER.read_text(encoding="utf-8")


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(content)


def _marked(file: Path) -> str:
    """Add the table that marks a project to a pyproject.toml; returns what was done."""
    try:
        found = find_root(file.parent)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if found is not None and found.samefile(file.parent):
        return "is there, and stays"
    with file.open("a", encoding="utf-8") as end:
        end.write(f"\n[{TABLE}]\n")
    return f"[{TABLE}] added at its end"


def _quoted(folder: Path) -> str:
    from shlex import quote

    return quote(str(folder))
