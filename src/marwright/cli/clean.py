"""`make clean`: removes what was built, unless something is at work on it."""

from __future__ import annotations

import shutil

from marwright.cli.alone import project_lock
from marwright.pipeline.layout import Layout
from marwright.recipe.errors import MarwrightError
from marwright.serve.folders import Home, shell_server, short_folder
from marwright.serve.foreground import HOME
from marwright.serve.process import read_record

PLACES = ("build", "model_store", "dist")


def clean(layout: Layout) -> int:
    """Remove build/, model_store/ and dist/; returns 0.

    Raises `MarwrightError` when a build, a server or another command works on them.
    """
    # First, as a server says more than that somebody is at work.
    _require_no_server(layout)
    with project_lock(layout.root, alone=True):
        print("clean: removing build/, model_store/ and dist/")
        for name in PLACES:
            path = layout.root / name
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.exists():
                shutil.rmtree(path)
    return 0


def _require_no_server(layout: Layout) -> None:
    # One whose `make serve` was killed lives on, and reads what it has extracted there.
    home = Home(path=(layout.root / HOME).absolute())
    if (record := read_record(home)) is not None:
        raise MarwrightError(
            f"nothing was removed: a server runs, port {record.ports.inference}: `make stop`, then "
            "`make clean`"
        )
    shell = home.path / "shell" / "tmp"
    if shell.parent.exists() and (pid := shell_server(short_folder(shell))) is not None:
        raise MarwrightError(
            f"nothing was removed: the server of `torchserve --start` runs, pid {pid}: "
            "`torchserve --stop`, then `make clean`"
        )
