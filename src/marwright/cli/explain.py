"""`make explain`: for every step, whether it is current, and if not, which input changed."""

from __future__ import annotations

from marwright.pipeline.keys import KeyMaker
from marwright.pipeline.layout import Layout
from marwright.pipeline.plan import STEPS
from marwright.pipeline.status import statuses
from marwright.recipe.errors import MarwrightError
from marwright.recipe.types import Recipe


def explain(recipes: dict[str, Recipe], layout: Layout) -> int:
    """Print the state of each model's steps; returns 0, or the code of the last error."""
    keys, code = KeyMaker(layout), 0
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
