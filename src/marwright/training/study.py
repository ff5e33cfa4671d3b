"""A study: a recipe and its variants, each trained with several seeds, on the same splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from marwright.project import enter
from marwright.recipe.errors import ExportError, TrainError
from marwright.recipe.types import OWN, Recipe, canonical, varied
from marwright.training.record import Studied, StudyReport, TrainReport

if TYPE_CHECKING:
    from marwright.training.run import Ready
    from marwright.training.types import Checkpoint

# Called in another process, so that it can be pickled.
Before = Callable[[Recipe, "Ready"], None]


def variants_of(recipe: Recipe) -> dict[str, Recipe]:
    """Return what is studied, by name: the recipe itself, then its variants, any metric allowed."""
    # Side by side are the seeds, each in one process.
    plain: dict[str, Any] = {
        recipe.key("training.minimum_metric"): "any", recipe.key("training.seed"): 0,
    }  # fmt: skip
    if recipe.train is None:
        plain["fit.processes"] = 1
    return {
        name: varied(recipe, {**settings, **plain})
        for name, settings in {OWN: {}, **recipe.study.variants}.items()
    }


def study(
    recipe: Recipe,
    root: Path,
    parents: Mapping[str, Checkpoint | None],
    progress: Callable[[int, int, str], None],
    *,
    key: str,
    jobs: int,
    environment: Mapping[str, str],
    before: Before,
) -> StudyReport:
    """Train every variant with every seed, on the test split once each.

    `parents` are what the variants start from, by name; `key` says what is studied; `environment`
    is all that their processes get of it; `before` is called for each variant with all that its
    first epoch begins with, before anything is trained, and may raise. A metric below the recipe's
    minimum is a finding here, and no error. Raises `TrainError` as soon as one cannot be trained.
    """
    variants, seeds = variants_of(recipe), range(recipe.study.seeds)
    seeded = recipe.key("training.seed")
    total = len(variants) * len(seeds)
    # A forked torch may hang: its threads do not come along.
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_begin, initargs=(dict(environment), root)
    ) as pool:
        try:
            _try_first(pool, variants, root, parents, before, lambda what: progress(0, total, what))
            running = {
                name: [
                    pool.submit(
                        _trained, canonical(varied(variant, {seeded: seed})), root,
                        parents[name],
                    )
                    for seed in seeds
                ]
                for name, variant in variants.items()
            }  # fmt: skip
            trials = {future: name for name, futures in running.items() for future in futures}
            for done, future in enumerate(as_completed(trials), start=1):
                future.result()
                progress(done, total, trials[future])
        except BaseException as error:
            # Those that wait would be trained for nothing.
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise TrainError("a training was killed: out of memory? fewer --jobs") from error
            raise
        found = {name: [future.result() for future in futures] for name, futures in running.items()}
    first = found[OWN][0]
    return StudyReport(
        task=recipe.task,
        key=key,
        splits=first.splits,
        start=first.start,
        seeds=len(seeds),
        samples=first.samples,
        variants=[
            Studied(
                name=name,
                settings=recipe.study.variants.get(name, {}),
                metrics=[trial.metrics for trial in trials],
                epochs=[trial.epochs for trial in trials],
            )
            for name, trials in found.items()
        ],
    )


def _try_first(
    pool: ProcessPoolExecutor,
    variants: Mapping[str, Recipe],
    root: Path,
    parents: Mapping[str, Checkpoint | None],
    before: Before,
    say: Callable[[str], None],
) -> None:
    """Call `before` for each variant; an `ExportError` says which of them it is of."""
    say("trying the export of the untrained networks")
    tried = {
        name: pool.submit(_tried, canonical(variant), root, parents[name], before)
        for name, variant in variants.items()
    }
    for name, future in tried.items():
        try:
            future.result()
        except ExportError as error:
            raise error if name == OWN else ExportError(f'variant "{name}": {error}') from error


class Trial(Struct, frozen=True, kw_only=True):
    """What one training came to. `start` is the digest of the weights that it started from."""

    metrics: dict[str, float]
    epochs: int
    samples: int
    splits: dict[str, str]
    start: str


def _begin(environment: dict[str, str], root: Path) -> None:
    """Be as a step's process is. Before torch is imported, which reads some of it then."""
    os.environ.clear()
    os.environ.update(environment)
    enter(root)


def _tried(values: dict[str, Any], root: Path, parent: Checkpoint | None, before: Before) -> None:
    from marwright.training.run import prepare

    recipe = msgspec.convert(values, Recipe)
    before(recipe, prepare(recipe, root, parent))


def _trained(values: dict[str, Any], root: Path, parent: Checkpoint | None) -> Trial:
    """Train once."""
    from tempfile import TemporaryDirectory

    from marwright.training.fitted import Kept
    from marwright.training.run import train
    from marwright.training.types import REPORT

    recipe = msgspec.convert(values, Recipe)
    with TemporaryDirectory() as folder, TemporaryDirectory() as own:
        kept = Kept(folder=Path(own))
        meta = train(recipe, root, Path(folder), lambda *_: None, parent=parent, kept=kept).meta
        report = msgspec.json.decode((Path(folder) / REPORT).read_bytes(), type=TrainReport)
    return Trial(
        metrics=meta.metrics,
        epochs=meta.epochs,
        samples=meta.split_sizes["test"],
        splits=meta.splits,
        start=report.start.digest if report.start else "",
    )
