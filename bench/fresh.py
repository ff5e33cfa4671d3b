"""A new user's two commands, on a fresh clone with nothing of ours cached."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from bench.project import table

TITLE = "A fresh clone"


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Clone, run the README's two commands, and time them; the set-up is in the first."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
    environment = {**os.environ, "UV_CACHE_DIR": str(folder / "uv"), "PIP_NO_CACHE_DIR": "1"}
    for name in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        environment.pop(name, None)
    rows: list[tuple[object, ...]] = []
    ok = True
    for words in (["make", "setup"], ["make", "train", "archive"], ["make", "test"]):
        started = time.monotonic()
        done = subprocess.run(words, cwd=clone, env=environment, check=False)
        ok = ok and done.returncode == 0
        seconds = time.monotonic() - started
        rows.append((f"`{' '.join(words)}`", f"{seconds:.0f} s", done.returncode))
    note = "`make setup` is the part of `make train archive` that downloads and installs."
    return ok, f"{table(('command', 'wall time', 'exit code'), rows)}\n\n{note}"
