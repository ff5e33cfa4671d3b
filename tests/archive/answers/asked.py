"""Asking a handler over an export that gives what the checkpoint gives."""

from __future__ import annotations

from pathlib import Path

import msgspec

from marwright.archive.answers.check import Model, check_answers
from marwright.archive.model_config import handler_options
from marwright.archive.types import AnswersReport
from marwright.recipe.types import Recipe
from marwright.training.types import Meta, Splits
from tests.archive.proven import Proven


def checked(
    made: Proven,
    handler: str = "",
    *,
    recipe: Recipe | None = None,
    meta: Meta | None = None,
    splits: Splits | None = None,
    exports: dict[str, Model] | None = None,
) -> AnswersReport:
    """Check a handler over an export that gives what the checkpoint gives."""
    recipe = recipe or made.recipe
    if handler:
        recipe = msgspec.structs.replace(
            recipe, serve=msgspec.structs.replace(recipe.serve, handler=handler)
        )
    return check_answers(
        recipe,
        Path(),
        meta or made.meta,
        splits or made.splits,
        exports or {"model.onnx": made.model},
        handler_options(recipe),
    )


def said(report: AnswersReport) -> str:
    """Return the first problem, less the file's name before it."""
    assert not report.ok
    assert report.problems
    assert all(text.startswith("handlers/strange.py: ") for text in report.problems)
    return report.problems[0].removeprefix("handlers/strange.py: ")
