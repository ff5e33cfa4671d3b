"""What a step of the pipeline is: what it reads, what it makes, and what its code is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe

# (done, total, what to show beside the bar)
Progress = Callable[[int, int, str], None]


def _none(_: Recipe) -> tuple[str, ...]:
    return ()


def _nothing(_: Recipe) -> dict[str, str]:
    return {}


def _always(_: Recipe) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step, as its key sees it. All of it is torch-free; the work is `run` in the same module.

    sections: what it reads of the recipe, as `section` or `section.key`; `training` is `[fit]` or
        `[train]`.
    judged_by: what of the sections only decides whether what it made will do: what it goes on from
        after a failure, and what it made, is worth as much with another value.
    inputs: outputs of earlier steps that it reads, by file name.
    of_parent: outputs of the first step of the recipe that this one starts from, which it reads:
        their names here, and there.
    outputs: the files that it makes under `build/<model>/`.
    optional_outputs: files that it makes for some models only.
    sources: files of the project whose code it runs, beside the step's own module; their
        imports are followed.
    packed: files whose very bytes end up in an output; their imports are followed too.
    packages: distributions that matter without being imported by our code.
    publishes: whether `<model>.mar` goes into the model store once it is done; it then reads
        `model.mar` and makes a `verify.json`.
    committed: files of the project that it reads if they are there; their bytes count.
    reads_data: whether it opens the data set, so that the content of `[data] files` counts.
    on_device: whether its outputs depend on the class of device that it runs on.
    applies: whether there is such a step for a recipe; where there is none, nothing of it is
        run, listed or kept.
    """

    name: str
    sections: tuple[str, ...] = ()
    judged_by: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    of_parent: Callable[[Recipe], dict[str, str]] = _nothing
    outputs: tuple[str, ...]
    optional_outputs: tuple[str, ...] = ()
    sources: Callable[[Recipe], tuple[str, ...]] = _none
    packed: Callable[[Recipe], tuple[str, ...]] = _none
    packages: tuple[str, ...] = ()
    committed: Callable[[Recipe], tuple[str, ...]] = _none
    publishes: bool = False
    reads_data: bool = False
    on_device: bool = False
    applies: Callable[[Recipe], bool] = _always

    @property
    def all_outputs(self) -> tuple[str, ...]:
        """The files that it makes, and those that it may make."""
        return self.outputs + self.optional_outputs

    @property
    def module(self) -> str:
        """The module that declares the step and runs it."""
        return f"marwright.pipeline.steps.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a step, in a process of its own.

    `inputs` maps names to files whose digests have just been checked; outputs are written to
    `out`, an empty folder, from where the pipeline moves them; what a person should look at
    after a failure is written to `failed`. What is written to `resume` survives a kill, and is
    there when the step is run again; it is worth something only to the same `key`, which leaves
    out what only judges. `made` are the outputs of the last run, where nothing else has changed.
    """

    recipe: Recipe
    root: Path
    inputs: dict[str, Path]
    out: Path
    failed: Path
    resume: Path
    key: str
    progress: Progress = field(repr=False)
    made: dict[str, Path] = field(default_factory=dict)


def handler_file(recipe: Recipe) -> str:
    """Return the source file of the recipe's handler."""
    return recipe.serve.file
