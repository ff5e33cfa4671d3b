"""`make explain`: for every step, whether it is current, and if not, which input changed."""

from __future__ import annotations

from pipeline.keys import KeyMaker
from pipeline.layout import Layout
from pipeline.plan import STEPS
from pipeline.status import statuses
from recipes.types import Recipe


def explain(recipes: dict[str, Recipe], layout: Layout) -> int:
    """Print the state of each model's steps; returns 0."""
    keys = KeyMaker(layout)
    for name, recipe in recipes.items():
        print(name)
        for status in statuses(recipe, STEPS, layout, keys):
            first, *others = status.reasons or (_current(status.record),)
            print(f"  {status.step.name:<8} {status.state:<8} {first}")
            for reason in others:
                print(f"  {'':<17} {reason}")
    return 0


def _current(record: object) -> str:
    return str(getattr(record, "note", ""))
