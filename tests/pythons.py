"""Pythons in which only some of what is installed here is there, and this engine."""

from __future__ import annotations

import os
import re
import tomllib
import venv
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from marwright.project import ENGINE
from tests.projects import ROOT


@cache
def everything() -> frozenset[str]:
    """Return the names of all distributions that are installed here."""
    return frozenset(canonicalize_name(one.metadata["Name"]) for one in distributions())


def base() -> set[str]:
    """Return what `pip install marwright` installs, without any extra, and all that it needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found, waiting = set[str](), [Requirement(line) for line in project["dependencies"]]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found.add(name)
            waiting += [Requirement(line) for line in distribution(name).requires or []]
    return found


def make_python(folder: Path, names: Iterable[str]) -> Path:
    """Make an environment in which these distributions are installed, as links; returns its Python.

    `marwright` lies there as in an editable installation, without its metadata.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    [packages] = folder.glob("lib/python3*/site-packages")
    for name in set(names) - {"marwright", "pip", "setuptools"}:
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            place = Path(str(distribution(name).locate_file(top)))
            # Several share a folder, as nvidia/ is of many.
            if not (packages / top).exists():
                (packages / top).symlink_to(place)
    (packages / "marwright.pth").write_text(f"{ENGINE}\n", encoding="utf-8")
    return folder / "bin/python"


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would add to a Python's path."""
    return {k: v for k, v in os.environ.items() if not re.match("PYTHON|VIRTUAL_ENV", k)}
