"""`marwright doctor` outside of a checkout: which extras are complete, and the others' pip lines.

An extra that nobody installed is nothing wrong. Wrong is what is there and does not work.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from marwright.cli.doctor import (
    LACKING,
    TRY_DEVICE,
    TRY_ONNXRUNTIME,
    TRY_TORCH,
    TRY_TORCHSERVE,
    Row,
    device_row,
    disk_row,
    java_row,
    ports_row,
    python_row,
    try_all,
)
from marwright.project import ENGINE
from marwright.recipe.errors import MissingError
from marwright.recipe.extras import DISTRIBUTIONS, EXTRAS, check_torch, installs

_TRIES = {
    "torchvision": TRY_TORCH,
    "torch": TRY_DEVICE,
    "onnxruntime": TRY_ONNXRUNTIME,
    "torchserve": TRY_TORCHSERVE,
}


def rows_outside() -> list[Row]:
    """Every row, in the order in which they are shown."""
    there = [name for name in _TRIES if version_of(name)]
    if {"torch", "torchvision"} <= {*there}:
        there.remove("torch")
    tried = dict(zip(there, try_all([_TRIES[name] for name in there]), strict=True))
    rows = [
        python_row("install one of these, and marwright with it"),
        Row("marwright", version_of("marwright") or "unknown", str(ENGINE)),
        *(extra_row(extra) for extra in EXTRAS),
        *broken_rows(tried),
    ]
    if torch := tried.get("torchvision", tried.get("torch")):
        rows.append(device_row(torch))
    java = java_row()
    if java.problem and "torchserve" not in there:
        java = replace(java, note=f"TorchServe runs on it: {installs('serve')}", problem="", fix="")
    fix = "marwright clean removes what was built in a project; pip cache purge what pip keeps"
    return [*rows, java, disk_row(Path.cwd(), fix),
            ports_row("marwright stop, or marwright serve --port n")]  # fmt: skip


def extra_row(extra: str) -> Row:
    """What is installed of an extra, and what installs the rest. One of torch has its range."""
    names = [DISTRIBUTIONS.get(module, module) for module in EXTRAS[extra]]
    there = {name: version_of(name) for name in names}
    lacking = [name for name in names if not there[name]]
    found = ", ".join(f"{name} {number}" for name, number in there.items() if number)
    name = f"[{extra}]"
    try:
        if extra == "torch":
            check_torch()
    except MissingError as error:
        problem, _, fix = str(error).rpartition(": ")
        return Row(name, "out of range", found, problem, fix)
    if not lacking:
        return Row(name, "complete", found)
    rest = f"without {', '.join(lacking)}: {installs(extra)}"
    in_part, none = LACKING
    return Row(name, in_part, f"{found}; {rest}") if found else Row(name, none, rest)


def broken_rows(tried: dict[str, dict[str, object]]) -> Iterator[Row]:
    """Each package that is installed and does not work."""
    for name, outcome in tried.items():
        if "failed" in outcome:
            problem = f"installed, and does not work: {outcome['failed']}"
            fix = f"{Path(sys.executable).name} -m pip install --force-reinstall {name}"
            yield Row(name, version_of(name), "", problem, fix)


def version_of(name: str) -> str:
    """Return the installed version of a distribution; nothing where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
