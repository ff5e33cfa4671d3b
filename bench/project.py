"""Copies of this project to measure and to break, so that the checkout stays as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

# What a project of its own is made of, and the engine, so that a copy of it may be broken too.
COPIED = ("archive", "src")


def copy_project(root: Path, folder: Path, models: Collection[str] | None = None) -> Path:
    """Copy the project and the engine to a new folder; with `models`, only those recipes."""
    for part in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / part, folder / part, ignore=ignored)
    for part in ("config.properties", "pyproject.toml"):
        shutil.copyfile(root / part, folder / part)
    for recipe in (folder / "archive").glob("*.toml"):
        if models is not None and recipe.stem not in models:
            recipe.unlink()
    return folder


def set_value(project: Path, model: str, key: str, value: object) -> None:
    """Change `key = …` in a recipe; it must be there."""
    path = project / "archive" / f"{model}.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in lines]
    assert changed != lines or f"{key} = {value}" in lines, f"{path.name} has no {key}"
    path.write_text("\n".join(changed) + "\n", encoding="utf-8")


def command(*arguments: str) -> list[str]:
    """Return `python -m marwright …` for this environment's Python."""
    return [sys.executable, "-m", "marwright", *arguments]


def environment(project: Path, **more: str) -> dict[str, str]:
    """Return an environment in which the engine is a project's copy of it, where it has one."""
    source = project / "src"
    path = {"PYTHONPATH": str(source)} if source.is_dir() else {}
    return {**os.environ, **path, **more}


def run(project: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run `python -m marwright …`; returns what it printed. Exits with its errors if it fails."""
    done = subprocess.run(
        command(*arguments), cwd=project, env=environment(project, **(env or {})),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
