"""`parity-zoo`: every classification architecture of torchvision through trace, export and a quick
look of the gate.

The table is written after each architecture, so a run that was stopped goes on where it was. Each
stage is a process of its own. When those that run take more memory than they may, the youngest is
stopped and runs again alone; what is too much even then has failed. What is exported goes at each
end; of a stage that has no result the log stays, in `build/parity-zoo/`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from marwright.archive.types import from_json, read_json, to_json
from marwright.cli.alone import alone
from marwright.files import write_bytes
from marwright.parity.types import ZooRow
from marwright.pipeline.layout import Layout
from marwright.pipeline.run_step import step_environment
from marwright.recipe.errors import MarwrightError, UsageError
from marwright.recipe.extras import require

TABLE = "docs/reference/parity-zoo.json"
PAGE = "docs/reference/parity-zoo.md"
# Often: a process that exports takes a gigabyte more within a second.
_POLL_S = 0.05

# Takes a stage and what it is about, or `names`; see the module for what it prints.
_COMMAND = (sys.executable, "-m", "marwright.parity.zoo")

Table = dict[str, ZooRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many at once, on how many threads each, and in how much memory together.

    `reserve_gib` must be free of that for a further one to begin; a stage takes `longest_s` at
    most.
    """

    jobs: int
    threads: int
    memory_gib: float
    reserve_gib: float = 3.0
    longest_s: float = 3600


@dataclass(slots=True, kw_only=True)
class _Running:
    """One stage of an architecture: what it exports to, logs to and prints to."""

    name: str
    stage: str
    folder: Path
    log: Path
    printed: Path
    process: subprocess.Popen[bytes]
    made: ZooRow | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def memory_gib(self) -> float:
        try:
            return float(psutil.Process(self.process.pid).memory_info().rss / 2**30)
        except psutil.Error:
            return 0.0


def parity_zoo(
    layout: Layout,
    names: Iterable[str],
    limits: Limits,
    *,
    again: bool,
    command: Sequence[str] = _COMMAND,
) -> int:
    """Run what does not stand in the table as passed, or all of it again.

    `command` runs a stage. Returns 1 if any architecture that was asked for does not pass; one
    that was not run is one of them. Raises `UsageError` for a name that torchvision does not know,
    and for a table that cannot be read; `MarwrightError` when another run is filling it.
    """
    # In the processes that it starts, their lack would be a row of the table.
    require("torch", "torchvision", "sklearn", "onnxruntime")
    known = _architectures(command)
    wanted = list(dict.fromkeys(names)) or known
    if unknown := sorted(set(wanted) - set(known)):
        raise UsageError(f"{', '.join(unknown)}: no classification architecture of torchvision")
    console = Console(highlight=False, soft_wrap=True)
    place = layout.root / layout.build / "parity-zoo"
    with alone(place, "another parity-zoo"):
        table = _read(layout.root / TABLE)
        todo = [name for name in wanted if again or name not in table or not table[name].ok]
        for row in _shown(_run_all(todo, place, limits, command), len(todo), console):
            table[row.name] = row
            _write(table, known, layout.root)
        _write(table, known, layout.root)
    failed = [name for name in wanted if name not in table or not table[name].ok]
    console.print(f"{len(wanted) - len(failed)} of {len(wanted)} pass; the table: {PAGE}")
    return 1 if failed else 0


def _shown(rows: Iterator[ZooRow], total: int, console: Console) -> Iterator[ZooRow]:
    """Pass rows on, with a line for each and a bar of all."""
    columns = ("{task.description}", BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *(TextColumn(c, markup=False) if isinstance(c, str) else c for c in columns),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("parity-zoo", total=total)
        for row in rows:
            yield row
            bar.advance(task)
            said = "passes" if row.ok else f"FAILS: {row.cause}"
            console.print(f"{row.name:<20} {row.seconds:6.0f} s  {said}", markup=False)


def _read(path: Path) -> Table:
    """Return the rows of earlier runs, which took hours: a damaged file is not written over."""
    try:
        return from_json(path.read_bytes(), Table)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(
            f"{TABLE}: {error}; `git checkout {TABLE}` brings the committed one back, and without "
            "the file all begin anew"
        ) from None


def _architectures(command: Sequence[str]) -> list[str]:
    """Ask torchvision, in a process of its own: this one stays small."""
    done = subprocess.run(
        [*command, "names"],
        env=step_environment(1), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise MarwrightError(
            "the names of torchvision's architectures cannot be had: "
            f"{_last_line(done.stderr)}; `make doctor` says what is wrong with the installation"
        )
    return done.stdout.split()


def _last_line(log: str) -> str:
    return (log.strip().splitlines() or ["nothing said"])[-1]


def _run_all(
    names: list[str], place: Path, limits: Limits, command: Sequence[str]
) -> Iterator[ZooRow]:
    """Yield a row for each architecture as it ends."""
    waiting, alone, running = list(names), list[str](), list[_Running]()

    def start(name: str, stage: str, made: ZooRow | None = None) -> None:
        running.append(_start(name, stage, place, limits.threads, command, made))

    try:
        while waiting or alone or running:
            used = sum(each.memory_gib for each in running)
            if waiting and len(running) < limits.jobs and _fits(running, used, limits):
                start(waiting.pop(0), "make")
            elif alone and not waiting and not running:
                start(alone.pop(0), "make")
            if used > limits.memory_gib:
                youngest = max(running, key=lambda each: each.started)
                running.remove(youngest)
                _stop(youngest)
                if running:
                    alone.append(youngest.name)
                else:
                    yield _failed(youngest, f"takes more than {limits.memory_gib:g} GiB")
            for each in list(running):
                if each.process.poll() is None:
                    if time.monotonic() - each.started > limits.longest_s:
                        running.remove(each)
                        _stop(each)
                        yield _failed(each, f"{each.stage} took longer than {limits.longest_s:g} s")
                    continue
                running.remove(each)
                row = _ended(each)
                if row.ok and each.stage == "make":
                    start(each.name, "gate", row)
                else:
                    yield row
            time.sleep(_POLL_S)
    finally:
        for each in running:
            _stop(each)


def _fits(running: list[_Running], used: float, limits: Limits) -> bool:
    return not running or used + limits.reserve_gib < limits.memory_gib


def _start(
    name: str, stage: str, place: Path, threads: int, command: Sequence[str], made: ZooRow | None
) -> _Running:
    folder = place / name
    if stage == "make":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    log, printed = place / f"{name}.log", folder / f"{stage}.json"
    with log.open("wb") as err, printed.open("wb") as out:
        process = subprocess.Popen(
            [*command, stage, name, str(folder), str(threads)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            env=step_environment(threads),
        )  # fmt: skip
    return _Running(
        name=name, stage=stage, folder=folder, log=log, printed=printed, process=process, made=made
    )


def _stop(running: _Running) -> None:
    running.process.kill()
    running.process.wait()
    shutil.rmtree(running.folder)


def _ended(running: _Running) -> ZooRow:
    """Return the row of a stage that ended; of both stages once the gate is through."""
    row = read_json(running.printed, ZooRow)
    if row is None:
        said = _last_line(running.log.read_text(errors="replace"))
        row = _failed(running, f"{running.stage} ended with {running.process.returncode}: {said}")
    else:
        running.log.unlink()
        row = _with_making(row, running.made)
    if running.stage == "gate" or not row.ok:
        # What was exported takes gigabytes; what is wrong stands in the row.
        shutil.rmtree(running.folder)
    return row


def _failed(running: _Running, cause: str) -> ZooRow:
    seconds = time.monotonic() - running.started
    row = ZooRow(name=running.name, ok=False, cause=cause, seconds=seconds)
    return _with_making(row, running.made)


def _with_making(row: ZooRow, made: ZooRow | None) -> ZooRow:
    if made is None:
        return row
    return msgspec.structs.replace(
        row,
        seconds=row.seconds + made.seconds,
        peak_mib=max(row.peak_mib, made.peak_mib),
    )


def _write(table: Table, known: list[str], root: Path) -> None:
    """Write the table, as data and as a page."""
    write_bytes(root / TABLE, to_json(dict(sorted(table.items()))))
    passed = sum(name in table and table[name].ok for name in known)
    lines = [
        "# The parity zoo",
        "",
        "`marwright parity-zoo` takes every classification architecture of torchvision",
        "from random weights through trace, ONNX export and a quick look of the parity gate, and",
        "writes this page. A quick look compares fewer inputs than the gate of a recipe does, at",
        "batches of 1, 2 and 4, and does not search for worse ones. [Parity](parity.md) explains",
        "the columns. What was not run counts as failed.",
        "",
        "A row was made with the torch, torchvision and onnxruntime that `requirements.lock` named",
        "when it was run; `--again` makes rows anew.",
        "",
        f"{passed} of {len(known)} pass.",
        "",
        "| architecture | result | error | of float32 | limit used | at the edges | signal "
        "| inputs | GFLOP | seconds | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_line(name, table.get(name)) for name in known),
    ]
    causes = [f"- `{n}`: {_cause(table[n])}" for n in known if n in table and not table[n].ok]
    if causes:
        lines += ["", "## What failed", "", *causes]
    write_bytes(root / PAGE, ("\n".join(lines) + "\n").encode())


def _line(name: str, row: ZooRow | None) -> str:
    if row is None:
        return f"| {name} | not run |" + " |" * 9
    result = "passes" if row.ok else "**fails**"
    if row.inputs == 0:
        measured = [""] * 7
    else:
        measured = [
            f"{row.error:.1e}", f"{row.float32:.1e}", f"{100 * row.ratio:.0f} %",
            f"{100 * row.far_ratio:.0f} %", f"{row.signal:.2g}", str(row.inputs),
            f"{row.gflop:.3g}",
        ]  # fmt: skip
    cells = [name, result, *measured, f"{row.seconds:.0f}", f"{row.peak_mib} MiB"]
    return "| " + " | ".join(cells) + " |"


def _cause(row: ZooRow) -> str:
    where = row.divergence
    if where is None:
        return row.cause
    return f"{row.cause}. First diverging node: `{where.node}` ({where.op}), {where.how}"
