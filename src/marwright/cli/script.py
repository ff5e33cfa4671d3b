"""`marwright.train(__file__)`: what makes a training script run alone."""

from __future__ import annotations

import sys
from pathlib import Path

from marwright.cli import main, streams
from marwright.pipeline.layout import Layout
from marwright.project import find_root
from marwright.recipe.errors import MarwrightError, UsageError
from marwright.recipe.load import load_recipes


def train(file: str | Path) -> None:
    """Train and trace the models whose `[train] script` is `file`, as `marwright train` does.

    It is a script's last line, and does nothing where that is imported. Raises `UsageError` for a
    file that no recipe names, and `SystemExit` with the exit code of a training that failed.
    """
    script = Path(file).resolve()
    caller = sys._getframe(1).f_globals
    own = caller.get("__file__")
    if caller.get("__name__") != "__main__" and own and Path(own).resolve() == script:
        return
    streams.settle()
    try:
        root, models = _models(script)
    except MarwrightError as error:
        print(f"marwright: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    code = main.main(["train", "--project", str(root), "--model", ",".join(models)])
    if code := streams.end(code):
        raise SystemExit(code)


def _models(script: Path) -> tuple[Path, list[str]]:
    """Return the project of a script, and the models that it trains."""
    root = find_root(script.parent)
    if root is None:
        raise UsageError(
            f"{script}: is in no project: neither beside nor above it is a pyproject.toml with a "
            "[tool.marwright]"
        )
    recipes, _ = load_recipes(Layout(root=root).recipes)
    models = [
        name for name, recipe in recipes.items()
        if recipe.train is not None and (root / recipe.train.run.file).resolve() == script
    ]  # fmt: skip
    if not models:
        place = script.relative_to(root).as_posix()
        raise UsageError(
            f'{place}: no recipe names it: add [train] script = "{place}" to archive/<model>.toml'
        )
    return root, models
