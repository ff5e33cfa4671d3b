"""One backend on one group of inputs at one batch size: what was measured, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from marwright.parity.texts import is_text
from marwright.parity.types import BackendName, Case, Check, Problem
from marwright.parity.verdict.judge import Expected, Measured, measure, ratios, what_of
from marwright.parity.verdict.task import allowance, flips
from marwright.parity.verdict.tolerance import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong in one case. Faults of one check and backend make one `Problem`."""

    check: Check
    backend: BackendName | str
    text: str
    where: str = ""
    ratio: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Rows of a group that went through a backend in batches of one size.

    `outputs` are `(len(rows), …)`; `alone` what the first rows of the group gave one by one,
    None when that failed.
    """

    backend: BackendName
    expected: Expected
    batch: int
    rows: NDArray[np.int64]
    outputs: Floats
    alone: Floats | None

    def fault(self, check: Check, text: str, ratio: float = 0.0) -> Fault:
        """Return a fault of this trial, with where it was found."""
        where = where_of(self.expected, self.batch)
        return Fault(check=check, backend=self.backend, text=text, where=where, ratio=ratio)


def where_of(expected: Expected, batch: int) -> str:
    """Say which inputs at which batch size."""
    return f"{what_of(expected.group)} at batch {batch}"


def not_measured(backend: BackendName, expected: Expected, batch: int, samples: int) -> Case:
    """Return the case of a backend that gave nothing to measure."""
    return Case(
        backend=backend, kind=expected.group.kind, batch=batch,
        shape=list(expected.group.rows.shape[1:]), samples=samples,
        max_error=-1.0, ratio=-1.0, batch_ratio=-1.0, flips=0, forgiven=0, worst_sample=0, ok=False,
    )  # fmt: skip


def judge_trial(trial: Trial, *, classification: bool) -> tuple[Case, Measured, list[Fault]]:
    """Hold a trial against what is expected of its rows."""
    expected, rows = trial.expected, trial.rows
    measured = measure(trial.outputs, expected, rows, trial.backend)
    limit = expected.limit[trial.backend][rows]
    quantised = not np.isfinite(limit).all()
    batch_ratio = _batch_ratio(trial, limit)
    flipped = forgiven = 0
    if classification:
        reference = expected.reference[rows]
        allowed = allowance(limit, trial.outputs, reference)
        all_flips, excused = flips(reference, trial.outputs, allowed)
        # What float32 does not compute has no label.
        known = np.isfinite(expected.eager[trial.backend][rows]).all(axis=1)
        all_flips &= known & expected.decided[rows]
        excused &= all_flips
        flipped, forgiven = int(all_flips.sum()), int(excused.sum())
    faults = [*_faults(trial, measured, batch_ratio, flipped - forgiven, quantised=quantised)]
    case = Case(
        backend=trial.backend,
        kind=expected.group.kind,
        batch=trial.batch,
        shape=list(expected.group.rows.shape[1:]),
        samples=len(rows),
        max_error=float(measured.error.max()),
        ratio=-1.0 if quantised else float(measured.ratio.max()),
        batch_ratio=batch_ratio,
        flips=flipped,
        forgiven=forgiven,
        worst_sample=int(rows[measured.worst_first[0]]),
        ok=not faults,
    )
    return case, measured, faults


def _faults(
    trial: Trial, measured: Measured, batch_ratio: float, flips: int, *, quantised: bool
) -> Iterable[Fault]:
    names = trial.expected.group.names
    if measured.strange.any():
        row = int(measured.strange.argmax())
        yield trial.fault(
            "finite",
            f"NaN or infinity where the checkpoint has none, or the other way round, in "
            f"{int(measured.strange.sum())} of {len(trial.rows)} rows; the first is "
            f"{names[trial.rows[row]]}",
            ratio=float(measured.strange.sum()),
        )
    if not quantised and (worst := float(measured.ratio.max())) > 1:
        row = int(measured.ratio.argmax())
        yield trial.fault(
            "tolerance",
            f"off by {measured.error[row]:.2e}, {worst:.3g} times what is allowed, on "
            f"{names[trial.rows[row]]}",
            ratio=worst,
        )
    if batch_ratio > 1:
        alone = "alone, without padding" if is_text(trial.expected.group.rows) else "alone"
        yield trial.fault(
            "invariance",
            f"a row among others is not what it is {alone}, by {batch_ratio:.3g} times what is "
            "allowed",
            ratio=batch_ratio,
        )
    if flips and not quantised:
        yield trial.fault(
            "labels",
            f"{flips} of {len(trial.rows)} rows get another label although the checkpoint is sure",
            ratio=float(flips),
        )


def _batch_ratio(trial: Trial, limit: Floats) -> float:
    """Return the largest change by neighbours in the batch, over its limit; -1 if unknown."""
    if trial.alone is None:
        return -1.0
    known = (trial.rows < len(trial.alone)) & trial.expected.decided[trial.rows]
    rows = trial.rows[known]
    outputs, alone = trial.outputs[known], trial.alone[rows]
    if not np.isfinite(limit).all():
        # A quantised row may err, but not by its neighbours: no more than it errs at all.
        error = np.abs(alone - trial.expected.reference[rows])
        most = error[np.isfinite(error)].max(initial=0.0)
        limit_of_rows = np.broadcast_to(most, alone.shape)
    else:
        limit_of_rows = limit[known]
    both = np.isfinite(outputs) & np.isfinite(alone)
    with np.errstate(invalid="ignore"):
        change = np.where(both, np.abs(outputs - alone), 0.0)
    return float(ratios(change, limit_of_rows).max(initial=0.0))


def problems_of(faults: Iterable[Fault]) -> list[Problem]:
    """Return a problem for each check and backend, told by its worst fault."""

    def kind(fault: Fault) -> tuple[str, str]:
        return (fault.backend, fault.check)

    problems = []
    for _, same in groupby(sorted(faults, key=kind), key=kind):
        found = list(same)
        worst = max(found, key=lambda fault: fault.ratio)
        others = f" (and in {len(found) - 1} more cases)" if len(found) > 1 else ""
        where = f"{worst.where}: " if worst.where else ""
        problems.append(
            Problem(
                check=worst.check,
                backend=worst.backend,  # type: ignore[arg-type]
                text=f"{where}{worst.text}{others}",
            )
        )
    return problems
