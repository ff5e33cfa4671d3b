"""What the checkpoint says of inputs, and how far each export is from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from marwright.parity.backends import Array, Run, reference_backend
from marwright.parity.inputs import Group
from marwright.parity.texts import halves, is_text, trimmed
from marwright.parity.types import BackendName, Tolerance
from marwright.parity.verdict.tolerance import UNLIKE, Floats, calibrate, error_of, limits
from marwright.parity.verdict.wobble import wobbling
from marwright.recipe.errors import ParityError

# Rows that eager torch runs alone as well: other kernels, a second draw of its rounding.
_ALONE = 16
# Beyond real data, libraries differ by more: onnxruntime's sigmoid is cut off at 18, and on images
# of one colour errors do not average out. docs/adr/0009-calibrated-tolerance.md has measurements.
FAR = 4.0
_WOBBLES = (0, 1)
# Of a real row that an export has otherwise, to learn whether rounding decides it.
_DOUBTS = range(8)
# A limit may be zero where every output is; JSON has no infinity.
_MOST = 1e300


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """Eager torch in the precision of a backend, and how far that may be from float64.

    `own` says that torch itself computes the backend in that precision, so that no other library's
    rounding has to be allowed for.
    """

    run: Run
    tolerance: Tolerance
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A group with the float64 reference of it, `(n, outputs)`, and by backend what eager torch
    answers in that backend's precision, and the largest error that is allowed: infinite for
    int8, which is judged by what it does to the task. Rows that are not `decided`, `(n,)`, are not
    judged: rounding decides whether the checkpoint gives a number, or which.
    """

    group: Group
    reference: Floats
    decided: NDArray[np.bool_]
    eager: Mapping[BackendName, Floats]
    limit: Mapping[BackendName, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How far outputs are from the reference: errors and their ratios to the limit, by row.

    `strange` marks rows with NaN or infinity where the checkpoint has none, or the other way
    round.
    """

    error: Floats
    ratio: Floats
    strange: NDArray[np.bool_]

    @property
    def worst_first(self) -> NDArray[np.int64]:
        """The places of the rows: strange ones, then by their ratio, then by their error."""
        return np.lexsort((-self.error, -self.ratio, ~self.strange))


class Judge:
    """Runs the checkpoint in float64 and in each precision that is exported.

    The rows of `real` calibrate the tolerance; outputs of `one_unit` do so together. `dependent`
    says whether a row's answer depends on its neighbours in the batch, `padded` whether a text's
    depends on the padding behind it, `random` whether two runs differ. `undecided` names the rows
    that are not judged, `failing` says on which groups the checkpoint itself fails.

    Raises `ParityError` when it fails on the real rows.
    """

    def __init__(
        self,
        model: nn.Module,
        yardsticks: Mapping[BackendName, Yardstick],
        real: Group,
        chunk: int,
        *,
        one_unit: bool = False,
    ) -> None:
        self._model, self.yardsticks, self._chunk = model, yardsticks, chunk
        self.undecided: list[str] = []
        self.failing: dict[str, str] = {}
        self.dependent = self.padded = self.random = False
        reference = reference_backend(model)
        try:
            answered = self._answers(reference, real)
            self._look_at_rows_alone(reference, real.rows, answered.reference)
            self._look_at_padding(reference, real.rows)
        except RuntimeError as error:
            raise ParityError(f"the checkpoint fails on {real.kind} samples: {error}") from error
        self.calibrations = {
            name: calibrate(answered.reference, error, answered.decided, one_unit=one_unit)
            for name, error in answered.error.items()
        }
        self.calibrated = self._expected(real, answered)

    def expect(self, groups: Sequence[Group]) -> list[Expected]:
        """Return what the checkpoint says of groups, but of those on which it fails.

        The copy in float64 lives no longer than this: it is twice the size of the model.
        """
        reference, found = reference_backend(self._model), []
        for group in groups:
            try:
                found.append(self._expected(group, self._answers(reference, group)))
            except RuntimeError as error:
                self.failing[what_of(group)] = str(error)
        return found

    def usual_limit(self, name: BackendName) -> float:
        """Return the largest limit of a real row that is like the others."""
        usual = self.calibrations[name].usual
        return float(self.calibrated.limit[name][usual].max(initial=0.0))

    def doubt(self, name: BackendName, rows: NDArray[np.int64]) -> None:
        """Look closer at real rows that a backend has otherwise than the checkpoint.

        Where a few units in the last place of any operation make eager torch jump as far, it is
        rounding that decides, and the rows are not judged.
        """
        expected, run = self.calibrated, self.yardsticks[name].run
        few, reference = expected.group.rows[rows], expected.reference[rows]
        wobbled = [in_parts(wobbling(run, seed), few, self._chunk) for seed in _DOUBTS]
        far = UNLIKE * np.maximum(
            self.calibrations[name].noise, np.finfo(np.float32).eps * np.abs(reference)
        )
        jumps = (error_of(reference, wobbled) > far).any(axis=1)
        expected.decided[rows[jumps]] = False
        self.undecided += [expected.group.names[row] for row in rows[jumps]]

    def _expected(self, group: Group, answered: _Answers) -> Expected:
        self.undecided += [group.names[row] for row in np.flatnonzero(~answered.decided)]
        return Expected(
            group=group,
            reference=answered.reference,
            decided=answered.decided,
            eager=answered.eager,
            limit={
                name: np.full_like(answered.reference, np.inf)
                if name == "int8"
                else limits(
                    answered.reference,
                    error,
                    self.calibrations[name],
                    self.yardsticks[name].tolerance,
                )
                for name, error in answered.error.items()
            },
        )

    def _answers(self, double: Run, group: Group) -> _Answers:
        rows, real = group.rows, group.kind == "held-out"
        reference = in_parts(double, rows, self._chunk)
        # Other kernels: a second draw of what float32 rounds.
        alone = rows[:_ALONE] if real else rows
        eager: dict[BackendName, Floats] = {}
        error: dict[BackendName, Floats] = {}
        done: dict[int, BackendName] = {}
        decided = np.ones(len(rows), dtype=bool)
        for name, yardstick in self.yardsticks.items():
            run = yardstick.run
            if (same := done.setdefault(id(run), name)) != name:
                eager[name], error[name] = eager[same], error[same]
                continue
            eager[name], second = in_parts(run, rows, self._chunk), in_parts(run, alone, 1)
            error[name] = error_of(reference, [eager[name]])
            moved = error_of(reference[: len(alone)], [second])
            self._check_neighbours(double, alone, reference, error[name], moved)
            error[name][: len(alone)] = np.maximum(error[name][: len(alone)], moved)
            if not real and not yardstick.own:
                wobbled = [in_parts(wobbling(run, seed), rows, self._chunk) for seed in _WOBBLES]
                error[name] = FAR * np.maximum(error[name], error_of(reference, wobbled))
            # A number where float64 has none, as 0/0 has with a little rounding in it.
            decided &= (np.isfinite(reference) | ~np.isfinite(eager[name])).all(axis=1)
            one, other = np.isfinite(eager[name][: len(alone)]), np.isfinite(second)
            decided[: len(alone)] &= (one == other).all(axis=1)
        return _Answers(reference=reference, eager=eager, error=error, decided=decided)

    def _check_neighbours(
        self, double: Run, alone: Array, reference: Floats, error: Floats, second: Floats
    ) -> None:
        """Look closer at the row that is most unlike itself when it is alone.

        A decision by the whole batch may be taken by some inputs only. What it changes would
        else count as what float32 rounds, and widen the limit.
        """
        row = int((second - error[: len(alone)]).max(axis=1).argmax())
        if second[row].max() > UNLIKE * max(error.max(), np.finfo(np.float32).tiny):
            [by_itself] = in_parts(double, alone[row : row + 1], 1)
            there = np.nan_to_num(reference[row]) - np.nan_to_num(by_itself)
            self.dependent |= bool(np.abs(there).max() > second[row].max() / 2)

    def _look_at_rows_alone(self, double: Run, rows: Array, together: Floats) -> None:
        """Find rows to which float64 gives another answer when they are alone, or asked again."""
        few = rows[:3]
        alone = in_parts(double, few, 1)
        if self._chunk == 1 or len(rows) == 1:
            # They were alone then, too.
            together = double(trimmed(np.concatenate([few, rows[-len(few) :]])))
        if _unlike(alone, together[: len(few)]):
            self.dependent = True
            self.random = not np.array_equal(alone, in_parts(double, few, 1), equal_nan=True)

    def _look_at_padding(self, double: Run, rows: Array) -> None:
        """Find texts to which float64 gives another answer when padding stands behind them."""
        if is_text(rows):
            few = halves(rows[:3])
            alone = in_parts(double, few, 1)
            behind = np.concatenate([double(row[None]) for row in few])
            self.padded = _unlike(alone, behind)


def _unlike(outputs: Floats, others: Floats) -> bool:
    """Whether outputs in float64 differ: far above what that rounds, below what float32 shows."""
    difference = np.abs(np.nan_to_num(outputs) - np.nan_to_num(others)).max()
    return bool(difference > 1e-9 * np.abs(np.nan_to_num(outputs)).max())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    reference: Floats
    eager: Mapping[BackendName, Floats]
    error: Mapping[BackendName, Floats]
    decided: NDArray[np.bool_]


def what_of(group: Group) -> str:
    """Say which inputs these are."""
    size = f" of {'×'.join(map(str, group.rows.shape[1:]))}" * (group.kind == "shapes")
    return f"{group.kind} inputs{size}"


def in_parts(run: Run, rows: Array, batch: int) -> Floats:
    """Return the outputs of rows that go through in batches, each as long as its longest text."""
    parts: Sequence[Floats] = [
        run(trimmed(rows[i : i + batch])) for i in range(0, len(rows), batch)
    ]
    return np.concatenate(parts)


def measure(
    outputs: Floats, expected: Expected, rows: NDArray[np.int64], name: BackendName
) -> Measured:
    """Hold a backend's outputs `(len(rows), outputs)` against what is expected of those rows."""
    reference, eager = expected.reference[rows], expected.eager[name][rows]
    known = np.isfinite(reference)
    judged = known & np.isfinite(eager)
    same = (outputs == eager) | (np.isnan(outputs) & np.isnan(eager))
    # Where only float32 overflows, to be finite is no fault.
    strange = np.where(judged, ~np.isfinite(outputs), ~same & ~(known & np.isfinite(outputs)))
    if name == "int8":
        # It has no NaN and no infinity, whatever it is made from.
        strange &= known
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(judged & np.isfinite(outputs), np.abs(outputs - reference), 0.0)
    ratio, decided = ratios(error, expected.limit[name][rows]), expected.decided[rows]
    return Measured(
        error=np.where(decided, error.max(axis=1), 0.0),
        ratio=np.where(decided, ratio.max(axis=1), 0.0),
        strange=strange.any(axis=1) & decided,
    )


def ratios(error: Floats, limit: Floats) -> Floats:
    """Return errors over their limits; 0 where there is no error."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(error == 0, 0.0, np.minimum(error / limit, _MOST))
