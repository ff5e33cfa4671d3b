"""Build models: run what is stale, in order, one model failing without the others."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.keys import KeyMaker
from pipeline.layout import Layout
from pipeline.plan import STEPS
from pipeline.state import changed_outputs, read_record
from pipeline.status import output_digests, status_of, statuses
from pipeline.step import Step
from recipes.errors import MarwrightError
from recipes.types import Recipe

if TYPE_CHECKING:
    from pipeline.display import Display


_NOTICE_SIGNALS_S = 0.2


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a model: the steps that ran, with their seconds, or the error."""

    model: str
    ran: dict[str, float] = field(default_factory=dict)
    error: MarwrightError | None = None
    failed_step: str = ""


def build(
    recipes: dict[str, Recipe], steps: tuple[Step, ...], layout: Layout, *, jobs: int = 1
) -> list[Outcome]:
    """Bring models up to the last of `steps`; returns what ran and what failed.

    A build in which nothing is stale takes no lock, starts nothing and imports nothing heavy.
    """
    keys = KeyMaker(layout)
    stale = []
    outcomes = {name: Outcome(model=name) for name in recipes}
    for name, recipe in recipes.items():
        with told(outcomes[name]):
            found = [*statuses(recipe, steps, layout, keys)]
            clear_failures((s.step for s in found if s.state == "current"), name, layout)
            if any(s.state != "current" for s in found):
                stale.append(recipe)
    keys.save_cache()
    if stale:
        from concurrent.futures import ThreadPoolExecutor, wait

        from pipeline.display import Display
        from pipeline.interrupt import ending_at_once

        # Not as a context: an interrupted build must not wait for the steps that run.
        pool = ThreadPoolExecutor(max_workers=jobs)
        with Display() as display, ending_at_once(display.close):
            running = [pool.submit(build_model, r, steps, layout, display) for r in stale]
            # Waking up now and then, because a signal that comes just before a thread begins to
            # wait for a lock is only seen when that wait ends.
            while wait(running, timeout=_NOTICE_SIGNALS_S).not_done:
                pass
            outcomes |= {(outcome := future.result()).model: outcome for future in running}
        pool.shutdown()
    return list(outcomes.values())


def build_model(
    recipe: Recipe, steps: tuple[Step, ...], layout: Layout, display: Display
) -> Outcome:
    """Build one model under its lock, judging each step once those before it are done."""
    from pipeline.build_log import note_step
    from pipeline.report import draw_failed
    from pipeline.run_step import StepError, forget, run_step, sweep

    outcome = Outcome(model=recipe.name)
    with told(outcome), locked(recipe.name, layout, display.say) as lock:
        sweep(recipe.name, layout)
        made: dict[str, str] = {}
        for step in steps:
            if not step.applies(recipe):
                forget(step, recipe.name, layout)
                continue
            outcome.failed_step = step.name
            # Made anew: sources may have changed while we waited, or while a step ran.
            keys = KeyMaker(layout)
            inputs = {name: made[name] for name in step.inputs if name in made}
            status = status_of(step, recipe, layout, keys, inputs)
            record = status.record
            if status.state == "current":
                clear_failures([step], recipe.name, layout)
            else:
                with display.step(recipe.name, step.name, status.reasons) as shown:
                    try:
                        run = run_step(status, recipe, inputs, layout, lock, shown.progress)
                    except StepError:
                        try:
                            draw_failed(recipe, layout.failed(recipe.name, step.name))
                        # Whatever the step left there: why it failed must be told.
                        except Exception as error:  # noqa: BLE001
                            display.say(f"{recipe.name}: no page of what failed: {error}")
                        raise
                    shown.done(run.record.note)
                record = run.record
                outcome.ran[step.name] = run.seconds
                note_step(layout, recipe.name, run)
            assert record is not None
            made |= output_digests(step, record, recipe, layout)
        outcome.failed_step = ""
    return outcome


def clear_failures(current: Iterable[Step], model: str, layout: Layout) -> None:
    """Remove what steps left when they failed, once they are current again."""
    for step in current:
        if (failed := layout.failed(model, step.name)).exists():
            import shutil

            shutil.rmtree(failed, ignore_errors=True)


@contextmanager
def told(outcome: Outcome) -> Iterator[None]:
    """Keep a person's error for the end: one model that fails stops no other."""
    try:
        yield
    except MarwrightError as error:
        outcome.error = error
    except OSError as error:
        # A full disk, a folder without permission, a file where a folder belongs.
        outcome.error = MarwrightError(str(error))


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
