"""Run one stale step in a child process, and take over what it made."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from marwright.archive.types import VerifyReport
from marwright.files import sync
from marwright.pipeline.isa import level_environment
from marwright.pipeline.keys import KeyMaker, Parts, digest
from marwright.pipeline.layout import Layout
from marwright.pipeline.state import Output, Record, changed_outputs, write_record
from marwright.pipeline.status import Status, differences, input_path
from marwright.pipeline.step import Progress, Step
from marwright.project import ENGINE
from marwright.recipe.errors import MachineError, MarwrightError
from marwright.recipe.types import Recipe, canonical

# All that a step gets of the environment. Variables that choose kernels, threads, flags of Python
# or of torch would change what comes out without being in any key.
_ENVIRONMENT = (
    "PATH", "HOME", "TMPDIR", "TEMP", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH",
    "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "TORCH_HOME", "XDG_CACHE_HOME", "HF_HOME", "HTTP_PROXY",
    "HTTPS_PROXY", "NO_PROXY", "MARWRIGHT_TENSORBOARD", "MARWRIGHT_TORCHRUN", "GLOO_SOCKET_IFNAME",
    "NCCL_SOCKET_IFNAME",
)  # fmt: skip
# The recipe decides: threads change the last bits of weights.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LOG_TAIL = 12


class StepError(MarwrightError):
    """A step failed; `exit_code` is that of the error in its process."""

    def __init__(self, message: str, exit_code: int, log: Path) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.log = log


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """A step that was run: its record, seconds of wall and CPU time, the peak of its memory."""

    record: Record
    seconds: float
    cpu_seconds: float
    peak_kib: int


def run_step(
    status: Status,
    recipe: Recipe,
    inputs: dict[str, str],
    layout: Layout,
    lock: int,
    progress: Progress,
) -> StepRun:
    """Run a step, move its outputs into place, publish and record them, in this order.

    `inputs` maps names to SHA-256; `lock` is the descriptor of the model's lock, which the child
    holds too, so that nobody starts while it still runs. A failure or a kill at any point leaves
    old or new complete files, and a record only for complete ones. Raises `StepError`.
    """
    step, folder = status.step, layout.folder(recipe.name)
    out, failed = folder / f".{step.name}.out", layout.failed(recipe.name, step.name)
    resume = layout.resume(recipe.name, step.name)
    assert status.parts is not None
    for stale in (out, failed):
        shutil.rmtree(stale, ignore_errors=True)
    out.mkdir(parents=True)
    task = {
        "module": step.module,
        "root": str(layout.root),
        "recipe": canonical(recipe),
        "inputs": {n: (input_path(step, recipe, n, layout), sha) for n, sha in inputs.items()},
        "out": str(out),
        "failed": str(failed),
        "resume": str(resume),
        "made": _only_judged_anew(status, recipe, layout),
        "key": resume_key(status),
    }
    log = folder / "log" / f"{step.name}.log"
    started = time.monotonic()
    event = _run_child(task, recipe, layout.root, log, lock, progress)
    if not out.exists():
        raise MachineError(
            f"{out.parent.relative_to(layout.root)} has gone while it was built (removed by hand, "
            "or by another program?): run the same command again"
        )
    if "result" not in event:
        raise _step_error(event, log)
    _require_unchanged(status, recipe, inputs, layout, log)
    record = _take_over(status, recipe, out, layout, event["result"])
    clear_resume(step, recipe.name, layout)
    return StepRun(
        record=record,
        seconds=time.monotonic() - started,
        cpu_seconds=event["cpu_seconds"],
        peak_kib=event["peak_kib"],
    )


def resume_key(status: Status) -> str:
    """Return the digest of all that a step's outputs depend on, less what only judges them."""
    assert status.parts is not None
    return digest(_unjudged(status.step, status.parts))


def _unjudged(step: Step, parts: Parts) -> Parts:
    judging = {f"recipe {name}" for name in step.judged_by}
    return {name: part for name, part in parts.items() if name not in judging}


def _only_judged_anew(status: Status, recipe: Recipe, layout: Layout) -> dict[str, str]:
    """Return the outputs of a step's last run, where only what judges them has changed since."""
    step, record = status.step, status.record
    assert status.parts is not None
    if not step.judged_by or record is None:
        return {}
    if _unjudged(step, record.parts) != _unjudged(step, status.parts):
        return {}
    if changed_outputs(record, layout.root, rehash=True):
        return {}
    return {name: str(layout.root / layout.output(recipe.name, name)) for name in step.outputs}


def _require_unchanged(
    status: Status, recipe: Recipe, inputs: dict[str, str], layout: Layout, log: Path
) -> None:
    """Refuse what was made while its sources were edited: which of them ran is not known."""
    keys = KeyMaker(layout)
    now = keys.parts(status.step, recipe, inputs)
    assert status.parts is not None
    if changed := [*differences(status.parts, now)]:
        raise StepError(
            f"{'; '.join(changed)} while it ran, so what it made is not used; run it again",
            MarwrightError.exit_code,
            log,
        )


def step_environment(threads: int) -> dict[str, str]:
    """Return all that a process that computes gets of the environment."""
    chosen = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    chosen |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    # What is read and printed must not depend on the terminal's encoding either.
    chosen |= {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
    chosen |= {"PYTHONPATH": str(ENGINE)}
    return chosen | level_environment()


def _run_child(
    task: dict[str, Any],
    recipe: Recipe,
    root: Path,
    log: Path,
    lock: int,
    progress: Progress,
) -> dict[str, Any]:
    """Return the child's last event; without one, what is known of its end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    last: dict[str, Any] = {}
    with log.open("wb") as log_file, os.fdopen(read_end, encoding="utf-8") as events:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "marwright.pipeline.child", str(write_end)],
            cwd=root, env=step_environment(recipe.training.threads), stdin=subprocess.PIPE,
            stdout=log_file, stderr=log_file, pass_fds=(write_end, lock),
        )  # fmt: skip
        os.close(write_end)
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(task).encode() + b"\n")
            child.stdin.flush()
            for line in events:
                last = json.loads(line)
                if "progress" in last:
                    progress(*last["progress"])
        except BrokenPipeError:
            # It died before it read its task: its log says why.
            last = {}
        except BaseException:
            child.kill()
            raise
        finally:
            child.wait()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
    ended_well = "result" in last or "error" in last
    return last if ended_well else {"returncode": child.returncode}


def _step_error(event: dict[str, Any], log: Path) -> StepError:
    if "error" in event:
        return StepError(event["error"], event["exit_code"], log)
    code = event["returncode"]
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    hint = "; out of memory?" if code == -9 else ""
    tail = "\n".join(f"    {line}" for line in lines[-_LOG_TAIL:])
    return StepError(f"its process {how}{hint}\n{tail}".rstrip(), 1, log)


def _take_over(status: Status, recipe: Recipe, out: Path, layout: Layout, note: str) -> Record:
    """Sync the outputs, rename them into place, publish the archive, and record all of it last."""
    step, model = status.step, recipe.name
    assert status.parts is not None
    # From here on the old record is untrue. Without one the step is stale, never damaged.
    layout.record(model, step.name).unlink(missing_ok=True)
    made = [n for n in (*step.outputs, *step.optional_outputs) if (out / n).exists()]
    assert set(step.outputs) <= set(made), f"{step.name} made {made}"
    for name in made:
        sync(out / name)
    for name in made:
        (out / name).replace(layout.root / layout.output(model, name))
    for name in set(step.optional_outputs) - set(made):
        (layout.root / layout.output(model, name)).unlink(missing_ok=True)
    sync(layout.folder(model))
    if step.publishes:
        _publish(recipe, layout)
    record = Record(
        step=step.name,
        key=digest(status.parts),
        parts=status.parts,
        outputs={path: Output.of(layout.root / path) for path in layout.outputs(model, step, made)},
        note=note,
    )
    write_record(record, layout.record(model, step.name))
    shutil.rmtree(out)
    return record


def _publish(recipe: Recipe, layout: Layout) -> None:
    from marwright.archive.store import publish

    mar, verified = (
        layout.root / layout.output(recipe.name, name) for name in ("model.mar", "verify.json")
    )
    report = msgspec.json.decode(verified.read_bytes(), type=VerifyReport)
    publish(mar, report, layout.store_target(recipe.name))


def forget(step: Step, model: str, layout: Layout) -> None:
    """Remove what a step made while it applied. To be called under the model's lock."""
    # First the record: without one the outputs are nobody's.
    layout.record(model, step.name).unlink(missing_ok=True)
    shutil.rmtree(layout.failed(model, step.name), ignore_errors=True)
    clear_resume(step, model, layout)
    for name in step.all_outputs:
        (layout.root / layout.output(model, name)).unlink(missing_ok=True)


def clear_resume(step: Step, model: str, layout: Layout) -> None:
    """Remove what a step would go on from. To be called under the model's lock."""
    resume = layout.resume(model, step.name)
    if resume.exists():
        shutil.rmtree(resume, ignore_errors=True)
        with contextlib.suppress(OSError):
            # Of other steps something may be there.
            resume.parent.rmdir()


def sweep(model: str, layout: Layout) -> None:
    """Remove what killed builds left half done. To be called under the model's lock."""
    folder = layout.folder(model)
    for out in folder.glob(".*.out"):
        shutil.rmtree(out)
    store = layout.store_target(model)
    for place, pattern in ((folder, ".*.tmp"), (folder / "state", ".*.tmp"),
                           (folder / "resume", "*/.*.tmp"),
                           (store.parent, f".{store.name}.*.tmp")):  # fmt: skip
        for half in place.glob(pattern):
            half.unlink()
