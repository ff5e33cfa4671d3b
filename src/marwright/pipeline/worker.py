"""One of several processes that train together: started by torchrun, the path of its task last."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import msgspec

from marwright.pipeline.child import end_with_parent
from marwright.pipeline.machine import machine_error
from marwright.pipeline.step import Job
from marwright.pipeline.steps.train import take_part
from marwright.pipeline.torchrun import EVENTS
from marwright.project import enter
from marwright.recipe.errors import MarwrightError
from marwright.recipe.types import Recipe


def main(path: Path) -> int:
    """Take part in the training that a task describes. Returns the exit code."""
    end_with_parent()
    task = json.loads(path.read_bytes())
    enter(Path(task["root"]))
    recipe = msgspec.convert(task["recipe"], Recipe)
    # Whoever writes appends one line at once.
    with (path.parent / EVENTS).open("a", buffering=1, encoding="utf-8") as events:

        def tell(**event: Any) -> None:
            events.write(json.dumps(event) + "\n")

        job = Job(
            recipe=recipe,
            root=Path(task["root"]),
            inputs={name: Path(file) for name, file in task["inputs"].items()},
            out=Path(task["out"]),
            failed=Path(task["failed"]),
            resume=Path(task["resume"]),
            key=task["key"],
            progress=lambda done, total, text: tell(progress=[done, total, text]),
        )
        try:
            take_part(job)
        # Whatever it is: the process that waits for this one has nothing else to go by.
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            rank = os.environ["RANK"]
            if refused := machine_error(error, job.out):
                # One process of many, perhaps of one machine of many.
                tell(error=f"process {rank}: {refused}", exit_code=refused.exit_code)
            elif isinstance(error, MarwrightError):
                tell(error=str(error), exit_code=error.exit_code)
            else:
                tell(crash=f"{type(error).__name__}: {error}", rank=rank)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
