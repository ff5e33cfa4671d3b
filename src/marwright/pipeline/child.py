"""One step in a fresh process: `python -m marwright.pipeline.child EVENTS_FD`, its task on stdin.

Fresh, because what a process did before can change what a trace is called, how memory is laid
out and which threads run; and so that a step that dies takes nothing with it. Events go to the
given file descriptor as JSON lines: progress, then one result or one error. Standard output and
error are the step's log.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import msgspec

from marwright.files import sha256_file
from marwright.pipeline.machine import machine_error
from marwright.pipeline.step import Job
from marwright.project import enter
from marwright.recipe.errors import MarwrightError, VerifyError
from marwright.recipe.extras import check_torch
from marwright.recipe.types import Recipe


def main(descriptor: int) -> int:
    """Run the task that the first line of stdin describes. Returns the exit code."""
    task = json.loads(sys.stdin.readline())
    enter(Path(task["root"]))
    end_with_parent()
    with os.fdopen(descriptor, "w", buffering=1, encoding="utf-8") as events:

        def send(**event: Any) -> None:
            events.write(json.dumps(event) + "\n")

        try:
            note = _run(task, lambda done, total, text: send(progress=[done, total, text]))
        except Exception as error:
            known = machine_error(error, Path(task["out"]))
            if known is None and isinstance(error, MarwrightError):
                known = error
            if known is None:
                raise
            # Where the disk is full there is no log either.
            with contextlib.suppress(OSError):
                traceback.print_exc()
            send(error=str(known), exit_code=known.exit_code)
            return known.exit_code
        used = resource.getrusage(resource.RUSAGE_SELF)
        peak = used.ru_maxrss if sys.platform == "linux" else used.ru_maxrss // 1024
        send(result=note, peak_kib=peak, cpu_seconds=used.ru_utime + used.ru_stime)
    return 0


def _run(task: dict[str, Any], progress: Any) -> str:
    check_torch()
    root = Path(task["root"])
    # Not read from its file, which may have been edited since the key was made.
    recipe = msgspec.convert(task["recipe"], Recipe)
    inputs = {}
    for name, (path, expected) in task["inputs"].items():
        inputs[name] = root / path
        # What is read is what the key says, or nothing is made of it.
        if sha256_file(inputs[name]) != expected:
            raise VerifyError(f"{path}: changed since it was made; run the same command again")
    job = Job(
        recipe=recipe,
        root=root,
        inputs=inputs,
        out=Path(task["out"]),
        failed=Path(task["failed"]),
        resume=Path(task["resume"]),
        key=task["key"],
        made={name: Path(path) for name, path in task["made"].items()},
        progress=progress,
    )
    note: str = importlib.import_module(task["module"]).run(job)
    return note


def end_with_parent() -> None:
    """End when the parent does: it holds the other end of stdin open as long as it lives."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
