"""`make explain`: for every step, whether it is current, and if not, which input changed."""

from __future__ import annotations

import json

from marwright.pipeline.keys import KeyMaker
from marwright.pipeline.layout import Layout
from marwright.pipeline.plan import STEPS
from marwright.pipeline.status import statuses
from marwright.recipe.errors import MarwrightError
from marwright.recipe.types import Recipe


def explain(recipes: dict[str, Recipe], layout: Layout, *, as_json: bool = False) -> int:
    """Print the state of each model's steps; returns 0, or the code of the last error."""
    keys, code = KeyMaker(layout), 0
    if as_json:
        return _as_json(recipes, layout, keys)
    for name, recipe in recipes.items():
        print(name)
        try:
            for status in statuses(recipe, STEPS, layout, keys):
                note = status.record.note if status.record else ""
                first, *others = status.reasons or (note,)
                print(f"  {status.step.name:<8} {status.state:<8} {first}")
                for reason in others:
                    print(f"  {'':<17} {reason}")
        except MarwrightError as error:
            print(f"  {error}")
            code = error.exit_code
    return code


def _as_json(recipes: dict[str, Recipe], layout: Layout, keys: KeyMaker) -> int:
    """Print a JSON object: of each model its steps, each with its state and what changed."""
    found: dict[str, object] = {}
    code = 0
    for name, recipe in recipes.items():
        try:
            found[name] = [
                {"step": one.step.name, "state": one.state, "reasons": [*one.reasons]}
                for one in statuses(recipe, STEPS, layout, keys)
            ]
        except MarwrightError as error:
            found[name], code = {"error": str(error)}, error.exit_code
    print(json.dumps(found, ensure_ascii=False, indent=2))
    return code
