"""Copies of this project to measure and to break, so that the checkout stays as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOMS = ("recipes", "handlers", "train", "archive", "report", "pipeline")


def copy_project(root: Path, folder: Path, models: Collection[str] | None = None) -> Path:
    """Copy the rooms to a new folder; with `models`, only those recipes."""
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / room, folder / room, ignore=ignored)
    for recipe in (folder / "recipes").glob("*.toml"):
        if models is not None and recipe.stem not in models:
            recipe.unlink()
    return folder


def set_value(project: Path, model: str, key: str, value: object) -> None:
    """Change `key = …` in a recipe; it must be there."""
    path = project / "recipes" / f"{model}.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in lines]
    assert changed != lines or f"{key} = {value}" in lines, f"{path.name} has no {key}"
    path.write_text("\n".join(changed) + "\n", encoding="utf-8")


def command(*arguments: str) -> list[str]:
    """Return `python -m pipeline …` for this environment's Python."""
    return [sys.executable, "-m", "pipeline", *arguments]


def run(project: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run `python -m pipeline …`; returns what it printed. Exits with its errors if it fails."""
    done = subprocess.run(
        command(*arguments), cwd=project, env={**os.environ, **(env or {})},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
