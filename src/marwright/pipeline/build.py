"""Build models: run what is stale, in order, one model failing without the others."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from marwright.pipeline.keys import KeyMaker
from marwright.pipeline.layout import Layout
from marwright.pipeline.machine import machine_error
from marwright.pipeline.plan import STEPS
from marwright.pipeline.state import changed_outputs, read_record
from marwright.pipeline.status import inputs_of, output_digests, parent_of, status_of, statuses
from marwright.pipeline.step import Step
from marwright.pipeline.steps.train import STEP as TRAIN
from marwright.recipe.errors import MarwrightError
from marwright.recipe.extras import missing
from marwright.recipe.types import Recipe

if TYPE_CHECKING:
    from concurrent.futures import Future

    from marwright.pipeline.display import Display, Volume


_NOTICE_SIGNALS_S = 0.2


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a model: the steps that ran, with their seconds, or the error."""

    model: str
    ran: dict[str, float] = field(default_factory=dict)
    error: MarwrightError | None = None
    failed_step: str = ""


def build(
    recipes: dict[str, Recipe],
    steps: tuple[Step, ...],
    layout: Layout,
    *,
    jobs: int = 1,
    volume: Volume = "plain",
) -> list[Outcome]:
    """Bring models up to the last of `steps`; returns what ran and what failed.

    A build in which nothing is stale takes no lock, starts nothing and imports nothing heavy.
    """
    keys = KeyMaker(layout)
    outcomes = {name: Outcome(model=name) for name in recipes}
    # In this order: what a recipe starts from comes before it.
    goals = with_parents(recipes, steps, layout, outcomes)
    stale = []
    for name, (recipe, wanted) in goals.items():
        with told(outcomes[name]):
            found = [*statuses(recipe, wanted, layout, keys)]
            clear_failures((s.step for s in found if s.state == "current"), name, layout)
            if any(s.state != "current" for s in found):
                stale.append(name)
    keys.save_cache()
    if stale:
        from concurrent.futures import ThreadPoolExecutor, wait

        from marwright.pipeline.display import Display
        from marwright.pipeline.interrupt import ending_at_once

        # Not as a context: an interrupted build must not wait for the steps that run.
        pool = ThreadPoolExecutor(max_workers=jobs)
        running: dict[str, Future[Outcome]] = {}
        trained = {name: Trained() for name in stale}
        with Display(volume) as display, ending_at_once(display.close):
            for name in stale:
                recipe, wanted = goals[name]
                # Taken up in this order, so whoever is waited for has a thread already.
                before = trained.get(recipe.model.parent or "")
                running[name] = pool.submit(
                    _build_after, before, trained[name], recipe, wanted, layout, display
                )
            # Waking up now and then, because a signal that comes just before a thread begins to
            # wait for a lock is only seen when that wait ends.
            while wait(running.values(), timeout=_NOTICE_SIGNALS_S).not_done:
                pass
            outcomes |= {name: future.result() for name, future in running.items()}
        pool.shutdown()
    return [
        outcomes[name]
        for name in outcomes
        if name in recipes or outcomes[name].ran or outcomes[name].error
    ]


def with_parents(
    recipes: dict[str, Recipe],
    steps: tuple[Step, ...],
    layout: Layout,
    outcomes: dict[str, Outcome],
) -> dict[str, tuple[Recipe, tuple[Step, ...]]]:
    """Return recipes with the steps that are wanted of them, each after what it starts from.

    What is only started from is trained and no more. A recipe whose parent cannot be read is left
    out, and its outcome says why.
    """
    goals: dict[str, tuple[Recipe, tuple[Step, ...]]] = {}

    def add(recipe: Recipe, wanted: tuple[Step, ...]) -> None:
        if recipe.name in goals:
            return
        if recipe.model.parent is not None:
            parent = recipes.get(recipe.model.parent) or parent_of(recipe, layout)
            add(parent, steps if parent.name in recipes else (TRAIN,))
        goals[recipe.name] = (recipe, wanted)
        outcomes.setdefault(recipe.name, Outcome(model=recipe.name))

    for recipe in recipes.values():
        with told(outcomes[recipe.name]):
            add(recipe, steps)
    return goals


class Trained:
    """Tells those who start from a model once it is trained, or will not be."""

    def __init__(self) -> None:
        self._known = threading.Event()
        self._is_trained = False

    def tell(self, is_trained: bool) -> None:
        """Say it. What was said first stays true: what comes after training does not matter."""
        if not self._known.is_set():
            self._is_trained = is_trained
            self._known.set()

    def wait(self) -> bool:
        """Wait until it is known."""
        self._known.wait()
        return self._is_trained


def _build_after(
    before: Trained | None,
    own: Trained,
    recipe: Recipe,
    steps: tuple[Step, ...],
    layout: Layout,
    display: Display,
) -> Outcome:
    """Build a model once what it starts from is trained; not at all where that failed."""
    try:
        if before is not None and not before.wait():
            error = MarwrightError(
                f"not built: {recipe.model.parent}, which it starts from, is not trained"
            )
            return Outcome(model=recipe.name, error=error, failed_step=steps[0].name)
        return build_model(recipe, steps, layout, display, own)
    finally:
        own.tell(False)


def build_model(
    recipe: Recipe,
    steps: tuple[Step, ...],
    layout: Layout,
    display: Display,
    trained: Trained,
) -> Outcome:
    """Build one model under its lock, judging each step once those before it are done."""
    from marwright.pipeline.build_log import note_step
    from marwright.pipeline.report import draw_failed
    from marwright.pipeline.run_step import StepError, clear_resume, forget, run_step, sweep

    outcome = Outcome(model=recipe.name)
    places = (layout.folder(recipe.name), layout.store_target(recipe.name).parent)
    with told(outcome, *places), locked(recipe.name, layout, display.say) as lock:
        sweep(recipe.name, layout)
        made: dict[str, str] = {}
        for step in steps:
            if not step.applies(recipe):
                forget(step, recipe.name, layout)
                continue
            outcome.failed_step = step.name
            # Made anew: sources may have changed while we waited, or while a step ran.
            keys = KeyMaker(layout)
            inputs = inputs_of(step, recipe, layout, made)
            status = status_of(step, recipe, layout, keys, inputs)
            record = status.record
            if status.state == "current":
                clear_failures([step], recipe.name, layout)
                clear_resume(step, recipe.name, layout)
            else:
                with display.step(recipe.name, step.name, status.reasons) as shown:
                    try:
                        run = run_step(status, recipe, inputs, layout, lock, shown.progress)
                    except StepError:
                        try:
                            draw_failed(recipe, layout.failed(recipe.name, step.name))
                        # Whatever the step left there: why it failed must be told.
                        except Exception as error:  # noqa: BLE001
                            why = missing(error) or error
                            display.say(f"{recipe.name}: no page of what failed: {why}")
                        raise
                    shown.done(run.record.note)
                record = run.record
                outcome.ran[step.name] = run.seconds
                note_step(layout, recipe.name, run)
            assert record is not None
            made |= output_digests(step, record, recipe, layout)
            if step is TRAIN:
                trained.tell(True)
        outcome.failed_step = ""
    return outcome


def clear_failures(current: Iterable[Step], model: str, layout: Layout) -> None:
    """Remove what steps left when they failed, once they are current again."""
    for step in current:
        if (failed := layout.failed(model, step.name)).exists():
            import shutil

            shutil.rmtree(failed, ignore_errors=True)


@contextmanager
def told(outcome: Outcome, *places: Path) -> Iterator[None]:
    """Keep a person's error for the end: one model that fails stops no other.

    `places` are folders that are written to meanwhile.
    """
    try:
        yield
    except MarwrightError as error:
        outcome.error = error
    except (OSError, MemoryError, ModuleNotFoundError) as error:
        if (known := machine_error(error, *places)) is None:
            raise
        outcome.error = known


@contextmanager
def locked(model: str, layout: Layout, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the model's lock and return its descriptor: two builds of one model take turns.

    A kill releases it, once the step that was running has ended too.
    """
    folder = layout.folder(model)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{model}: waiting for another build of it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def damaged(model: str, layout: Layout) -> list[str]:
    """Re-hash every recorded output; returns a line for each that is not what was built."""
    records = [path for step in STEPS if (path := layout.record(model, step.name)).exists()]
    if not records:
        return []
    problems = []
    with locked(model, layout, print):
        for path in records:
            if record := read_record(path):
                problems += changed_outputs(record, layout.root, rehash=True)
    return problems
