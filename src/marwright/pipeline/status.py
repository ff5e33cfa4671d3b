"""Which steps are current, and for the others: why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from marwright.pipeline.keys import KeyMaker, Parts, digest
from marwright.pipeline.layout import Layout
from marwright.pipeline.state import Record, changed_outputs, read_record
from marwright.pipeline.step import Step
from marwright.pipeline.steps.train import STEP as TRAIN
from marwright.recipe.errors import VerifyError
from marwright.recipe.load import load_recipe
from marwright.recipe.paths import recipe_file
from marwright.recipe.types import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A step of one model.

    `waits` means that an earlier step is stale: whether this one is depends on what that makes.
    `parts` are those of the key that it would have now; None while it waits.
    """

    step: Step
    state: Literal["current", "stale", "waits"]
    reasons: tuple[str, ...] = ()
    parts: Parts | None = None
    record: Record | None = None


def status_of(
    step: Step, recipe: Recipe, layout: Layout, keys: KeyMaker, inputs: dict[str, str]
) -> Status:
    """Judge one step whose inputs exist; `inputs` maps their names to SHA-256."""
    record = read_record(layout.record(recipe.name, step.name))
    parts = keys.parts(step, recipe, inputs)
    if record is None:
        return Status(step=step, state="stale", reasons=("never built",), parts=parts)
    reasons: tuple[str, ...] = ()
    if record.key != digest(parts):
        reasons = tuple(differences(record.parts, parts))
    elif not set(layout.outputs(recipe.name, step, step.outputs)) <= record.outputs.keys():
        reasons = ("its outputs have other names now",)
    else:
        reasons = tuple(changed_outputs(record, layout.root, rehash=False))
    state: Literal["current", "stale"] = "stale" if reasons else "current"
    return Status(step=step, state=state, reasons=reasons, parts=parts, record=record)


def statuses(
    recipe: Recipe, steps: tuple[Step, ...], layout: Layout, keys: KeyMaker
) -> Iterator[Status]:
    """Judge a model's steps in order; what reads the outputs of a stale step waits."""
    made: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for step in steps:
        if not step.applies(recipe):
            continue
        pending = [unknown[name] for name in step.inputs if name in unknown]
        if step.of_parent(recipe) and not _is_current(parent_of(recipe, layout), layout, keys):
            pending.append(f"train of {recipe.model.parent}")
        if pending:
            unknown |= dict.fromkeys(step.all_outputs, step.name)
            reasons = (f"waits for {', '.join(dict.fromkeys(pending))}",)
            yield Status(step=step, state="waits", reasons=reasons)
            continue
        inputs = inputs_of(step, recipe, layout, made)
        status = status_of(step, recipe, layout, keys, inputs)
        if status.state == "current":
            assert status.record is not None
            made |= output_digests(step, status.record, recipe, layout)
        else:
            unknown |= dict.fromkeys(step.all_outputs, step.name)
        yield status


def parent_of(recipe: Recipe, layout: Layout) -> Recipe:
    """Return the recipe that this one starts from. Raises `RecipeError` when it cannot be read."""
    assert recipe.model.parent is not None
    return load_recipe(recipe_file(layout.recipes, recipe.model.parent))


def _is_current(recipe: Recipe, layout: Layout, keys: KeyMaker) -> bool:
    return all(status.state == "current" for status in statuses(recipe, (TRAIN,), layout, keys))


def inputs_of(step: Step, recipe: Recipe, layout: Layout, made: dict[str, str]) -> dict[str, str]:
    """Return what a step reads, by name: the digests of what was `made`, and of its parent's.

    Raises `VerifyError` where the parent has not been trained.
    """
    inputs = {name: made[name] for name in step.inputs if name in made}
    if wanted := step.of_parent(recipe):
        parent = parent_of(recipe, layout)
        record = read_record(layout.record(parent.name, TRAIN.name))
        if record is None:
            raise VerifyError(
                f"{recipe.name} starts from {parent.name}, which is not trained: "
                f"make train MODEL={parent.name}"
            )
        theirs = output_digests(TRAIN, record, parent, layout)
        inputs |= {name: theirs[other] for name, other in wanted.items()}
    return inputs


def input_path(step: Step, recipe: Recipe, name: str, layout: Layout) -> str:
    """Return the path of an input, relative to the root: its own model's, or the parent's."""
    wanted = step.of_parent(recipe)
    if name in wanted and recipe.model.parent is not None:
        return layout.output(recipe.model.parent, wanted[name])
    return layout.output(recipe.name, name)


def output_digests(step: Step, record: Record, recipe: Recipe, layout: Layout) -> dict[str, str]:
    """Return the digests of what a step made, by name, for the steps that read it."""
    paths = {name: layout.output(recipe.name, name) for name in step.all_outputs}
    return {n: record.outputs[p].sha256 for n, p in paths.items() if p in record.outputs}


def differences(old: Parts, new: Parts) -> Iterator[str]:
    """Say which parts of a key differ, sorted by name."""
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"{name}: new"
        elif name not in new:
            yield f"{name}: gone"
        elif old[name] != new[name]:
            shown = name.startswith(("recipe", "package", "python", "device"))
            yield f"{name}: {old[name]!r} → {new[name]!r}" if shown else f"{name}: changed"
