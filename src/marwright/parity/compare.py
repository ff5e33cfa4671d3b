"""The gate between export and archive: every backend agrees with the checkpoint, or no archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import nn

from marwright.export.trace import BATCHES
from marwright.parity.backends import (
    Array,
    Run,
    eager_backend,
    onnx_backend,
    rank_of,
    traced_backend,
)
from marwright.parity.inputs import Group
from marwright.parity.texts import bare, is_text, trimmed
from marwright.parity.types import BackendName, Case, Kind, Tolerance
from marwright.parity.verdict.case import Fault, Trial, judge_trial, not_measured, where_of
from marwright.parity.verdict.checks import (
    checkpoint_faults,
    origin_faults,
    precision_faults,
)
from marwright.parity.verdict.judge import Expected, Judge, Measured, Yardstick, in_parts
from marwright.parity.verdict.task import flipped_margin
from marwright.parity.verdict.tolerance import Floats
from marwright.recipe.errors import ParityError
from marwright.recipe.types import DEFAULT_K_BF16

if TYPE_CHECKING:
    from marwright.recipe.types import Precision, Task

# Of each case, so many of its worst rows are kept for the report.
_KEPT = 2
# Fewer rows than this share may be off because rounding decides them; an export that is wrong is
# seldom wrong on so few.
_DOUBTFUL = 0.1

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A checkpoint, reloaded from disk, and the files that are held against it.

    `eager` is the float32 network in eval mode; `yardstick` the one that the traced module must
    equal, another one only in bf16. `int8` is the quantised ONNX file, if there is one. `origin` is
    the SHA-256 of the checkpoint's weights, which exports say they were made from; `opset` and
    `dynamic` are what the ONNX file was asked for.
    """

    eager: nn.Module
    yardstick: nn.Module
    traced: Path
    onnx: Path
    int8: Path | None = None
    precision: Precision = "fp32"
    origin: str = ""
    opset: int = 20
    dynamic: Mapping[int, tuple[str, int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to compare. All rows go through at the batch `serving`, and `singles` of them at each
    of `batches`; `chunk` is how many the checkpoint takes at once. `threads` are onnxruntime's.
    `k_bf16` takes the place of the tolerance's `k` for a traced module in bfloat16.
    """

    tolerance: Tolerance
    task: Task
    k_bf16: float = DEFAULT_K_BF16
    batches: tuple[int, ...] = BATCHES
    serving: int = 7
    singles: int = 64
    chunk: int = 32
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An input that was compared, `(*shape)`, and what came out, `(outputs,)`.

    `strange` says that NaN or infinity is where it should not be; `margin` over how much a label
    flipped, 0 where none did. What is quantised has no limit, and so the ratio -1.
    """

    kind: Kind
    backend: BackendName
    batch: int
    name: str
    row: Array
    strange: bool
    ratio: float
    error: float
    margin: float
    reference: Floats
    output: Floats


class Comparison:
    """Compares one candidate, group by group, and keeps what it finds.

    `real` are the rows that calibrate the tolerance: held-out samples, or what stands for them.
    `outputs` are those of `real` by backend, once it was compared; `failing` a batch of each case
    that failed. `notes` are for whoever reads the report.
    """

    def __init__(self, candidate: Candidate, real: Group, settings: Settings) -> None:
        self.candidate, self.settings, self.real = candidate, settings, real
        self.cases: list[Case] = []
        self.faults: list[Fault] = []
        self.found: list[Found] = []
        self.notes: list[str] = []
        self.samples: dict[Kind, int] = {}
        self.outputs: dict[BackendName, Floats] = {}
        self.failing: dict[BackendName, list[Array]] = {}
        eager = eager_backend(candidate.eager)
        same = candidate.yardstick is candidate.eager
        single = Yardstick(run=eager, tolerance=settings.tolerance)
        names: list[BackendName] = ["torchscript", "onnx", "onnx optimised"]
        names += [] if candidate.int8 is None else ["int8"]
        yardsticks = dict.fromkeys(names, single)
        if not same:
            # The same kernels round where eager torch does; a fused one rounds less often.
            yardsticks["torchscript"] = Yardstick(
                run=eager_backend(candidate.yardstick),
                tolerance=msgspec.structs.replace(settings.tolerance, k=settings.k_bf16),
                own=True,
            )
        logits = settings.task == "classification"
        self.judge = Judge(candidate.eager, yardsticks, real, settings.chunk, one_unit=logits)
        self._rank = rank_of(candidate.eager, real.rows[:1])
        self._add_once(checkpoint_faults(self.judge))
        files = {"torchscript": candidate.traced, "onnx": candidate.onnx}
        files |= {} if candidate.int8 is None else {"int8": candidate.int8}
        self._add_once(origin_faults(files, candidate.origin))

    def load(self, name: BackendName) -> Run:
        """Load a backend's file. Raises `ParityError` when its library cannot."""
        candidate, threads = self.candidate, self.settings.threads
        if name == "torchscript":
            return traced_backend(candidate.traced, self.real.rows[:2], rank=self._rank)
        if name == "int8":
            assert candidate.int8 is not None
            path, optimised = candidate.int8, True
        else:
            path, optimised = candidate.onnx, name == "onnx optimised"
        return onnx_backend(
            path,
            optimised=optimised,
            threads=threads,
            rank=self._rank,
            dtype="int64" if is_text(self.real.rows) else "float32",
        )

    def compare(self, groups: Sequence[Group], progress: Progress = lambda *_: None) -> None:
        """Run groups through every backend, at every batch size that is for their kind.

        One backend after another: each may be as large as the model.
        """
        others = [group for group in groups if group is not self.real]
        judged = self.judge.expect(others)
        self._add_once(checkpoint_faults(self.judge))
        if len(others) < len(groups):
            judged.insert(0, self.judge.calibrated)
        # What was once found goes first.
        judged.sort(key=lambda expected: expected.group.kind != "regression")
        trials = sum(len(self._batches(expected.group)) for expected in judged)
        total, done = trials * len(self.judge.calibrations), 0
        for group in (expected.group for expected in judged):
            self.samples[group.kind] = self.samples.get(group.kind, 0) + len(group.rows)
        for name in self.judge.calibrations:
            try:
                run = self.load(name)
            except ParityError as error:
                self._add_once([Fault(check="runs", backend=name, text=str(error))])
                continue
            for expected in judged:
                alone, kind = self._alone(run, expected.group), expected.group.kind
                for batch in self._batches(expected.group):
                    progress(done := done + 1, total, f"{name}: {kind} at batch {batch}")
                    self._try(name, run, expected, batch, alone)

    def _add_once(self, faults: Iterable[Fault]) -> None:
        """Keep faults of the model as a whole: once, however many groups are compared."""
        self.faults += [fault for fault in faults if fault not in self.faults]

    def _batches(self, group: Group) -> list[int]:
        serving = self.settings.serving
        if group.kind in ("held-out", "regression"):
            return sorted({1, serving, *self.settings.batches})
        if group.kind == "shapes":
            # The largest may be many times the size that the budget is made for.
            return sorted({1, len(group.rows)})
        # What is seldom served, or never: at the sizes that differ most.
        return sorted({1, serving, 2 if serving == 1 else serving})

    def _alone(self, run: Run, group: Group) -> Floats | None:
        """Return the outputs of the first rows, each alone; None if that fails."""
        try:
            return in_parts(run, group.rows[: self.settings.singles], 1)
        except (RuntimeError, ValueError):
            # The trial at batch 1 says why.
            return None

    def _try(
        self, name: BackendName, run: Run, expected: Expected, batch: int, alone: Floats | None
    ) -> None:
        group, serving = expected.group, batch == self.settings.serving
        most = len(group.rows) if serving else self.settings.singles
        rows = whole_batches(len(group.rows), batch, most)
        try:
            if batch == 1 and alone is not None and len(alone) == len(rows):
                outputs = alone
            else:
                outputs = in_parts(run, group.rows[rows], batch)
            if outputs.shape[1] != (wanted := expected.reference.shape[1]):
                raise RuntimeError(f"gives {outputs.shape[1]} outputs a row, not {wanted}")
        except (RuntimeError, ValueError) as error:
            where = where_of(expected, batch)
            text = f"fails to run: {error}"
            self.faults.append(Fault(check="runs", backend=name, text=text, where=where))
            self.cases.append(not_measured(name, expected, batch, len(rows)))
            self.failing.setdefault(name, []).append(trimmed(group.rows[rows[:batch]]))
            return
        trial = Trial(
            backend=name, expected=expected, batch=batch, rows=rows, outputs=outputs, alone=alone
        )
        classification = self.settings.task == "classification"
        case, measured, faults = judge_trial(trial, classification=classification)
        if group is self.real and (off := measured.ratio > 1).mean() < _DOUBTFUL and off.any():
            self.judge.doubt(name, np.unique(rows[off]))
            case, measured, faults = judge_trial(trial, classification=classification)
        self.cases.append(case)
        self.faults += faults
        if faults:
            # The batch with the worst row, as it was.
            start = int(measured.worst_first[0]) // batch * batch
            failing = trimmed(group.rows[rows[start : start + batch]])
            self.failing.setdefault(name, []).append(failing)
        self.found += _worst_rows(trial, measured, classification=classification)
        if serving and group is self.real:
            self.outputs[name] = outputs[: len(group.rows)]
            if name == "torchscript" and self.candidate.precision == "bf16":
                self._add_once(precision_faults(self.judge, outputs[: len(group.rows)]))


def whole_batches(samples: int, batch: int, most: int) -> NDArray[np.int64]:
    """Return which samples go through in batches of one size: whole batches, about `most` rows.

    A remainder would be another batch size than the case says, so the last batch is filled up
    with the first samples.
    """
    calls = -(-min(samples, most) // batch)
    return np.arange(calls * batch, dtype=np.int64) % samples


def _worst_rows(trial: Trial, measured: Measured, *, classification: bool) -> Iterator[Found]:
    quantised = trial.backend == "int8"
    reference = trial.expected.reference[trial.rows]
    margin = flipped_margin(reference, trial.outputs) if classification else 0 * measured.error
    worst = measured.worst_first[:_KEPT]
    if quantised and classification:
        # A large error is what int8 is; a sure label that flips is what it costs.
        worst = np.unique([*worst, *np.argsort(-margin)[:_KEPT]])
    for place in worst:
        row = int(trial.rows[place])
        yield Found(
            kind=trial.expected.group.kind,
            backend=trial.backend,
            batch=trial.batch,
            name=trial.expected.group.names[row],
            row=bare(trial.expected.group.rows[row]),
            strange=bool(measured.strange[place]),
            ratio=-1.0 if quantised else float(measured.ratio[place]),
            error=float(measured.error[place]),
            margin=float(np.nan_to_num(margin[place])),
            reference=trial.expected.reference[row],
            output=trial.outputs[place],
        )
