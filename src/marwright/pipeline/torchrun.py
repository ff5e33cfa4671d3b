"""A training by several processes: torchrun starts them, and what they tell is passed on."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from marwright.pipeline.step import Job
from marwright.project import ENGINE
from marwright.recipe.errors import TrainError
from marwright.recipe.types import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

# What torchrun is told where the processes are on several machines: its own options.
OPTIONS = "MARWRIGHT_TORCHRUN"
# Beside what a step makes; only its outputs are taken from there.
TASK, EVENTS = ".task.json", ".events"
_POLL = 0.05


class ProcessError(TrainError):
    """One of the processes failed; `exit_code` is that of its error."""

    def __init__(self, message: str, exit_code: int = TrainError.exit_code) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def train_together(job: Job) -> None:
    """Train with as many processes as the recipe says, and wait for them.

    Raises `ProcessError` with what went wrong in the one that failed.
    """
    task, events = job.out / TASK, job.out / EVENTS
    paths = {name: str(path) for name, path in job.inputs.items()}
    written = {
        "recipe": canonical(job.recipe), "root": str(job.root), "inputs": paths,
        "out": str(job.out), "failed": str(job.failed), "resume": str(job.resume), "key": job.key,
    }  # fmt: skip
    task.write_text(json.dumps(written), encoding="utf-8")
    events.touch()
    # Nothing is ever written to it: it ends when this process does, and the others then end too.
    torchrun = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *_options(job),
         "-m", "marwright.pipeline.worker", str(task)],
        cwd=job.root, env=_environment(os.environ), stdin=subprocess.PIPE,
    )  # fmt: skip
    assert torchrun.stdin is not None
    failures: list[dict[str, Any]] = []
    with torchrun.stdin, events.open(encoding="utf-8") as told:
        ended, rest = False, ""
        while not ended:
            # First whether it runs, then what it has told: all of it, once it does not.
            ended = torchrun.poll() is not None
            *lines, rest = (rest + told.read()).split("\n")
            for event in map(json.loads, lines):
                if "progress" in event:
                    job.progress(*event["progress"])
                else:
                    failures.append(event)
            time.sleep(0 if ended else _POLL)
    if torchrun.returncode:
        raise _error(failures, torchrun.returncode)


def _options(job: Job) -> list[str]:
    if OPTIONS in os.environ:
        return shlex.split(os.environ[OPTIONS])
    # They meet in a file: a port would be open to the whole network.
    return [
        f"--nproc-per-node={job.recipe.fit.processes}", "--rdzv-backend=c10d",
        "--rdzv-conf=store_type=file", f"--rdzv-endpoint={job.out / '.rendezvous'}",
    ]  # fmt: skip


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    # Nor is the working folder where the launcher's and torch's own modules are found.
    own = {**own, "PYTHONPATH": str(ENGINE), "PYTHONSAFEPATH": "1"}
    if OPTIONS in own:
        return own
    return {**own, "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


def _error(failures: list[dict[str, Any]], code: int) -> ProcessError:
    # One that fails makes the others fail, which lose their connection to it: what a person can
    # mend comes first, then what was first.
    for failure in sorted(failures, key=lambda failure: "crash" in failure):
        if "error" in failure:
            return ProcessError(failure["error"], failure["exit_code"])
        told = f"process {failure['rank']} of those that trained together ended with "
        return ProcessError(f"{told}{failure['crash']}: the log has its traceback")
    return ProcessError(
        f"torchrun ended with {code} and no process said why: the log may; out of memory?"
    )
