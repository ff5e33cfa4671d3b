"""What the parity gate measured: `parity.json`, torch-free; docs/reference/parity.md explains it.

Errors are absolute differences of raw outputs from the float64 reference. A ratio is an error
over the limit that holds for it, so 1 is the most that passes.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

FORMAT = 1

# What is compared. The ONNX file runs as it is written, with onnxruntime's optimisations off, and
# as it is deployed, with all of them on.
BackendName = Literal["torchscript", "onnx", "onnx optimised", "int8"]
# Where inputs come from: kept from earlier searches, the test split, edges of the valid range,
# drawn from it, drawn at other sizes of a dynamic axis, found by the worst-case search.
Kind = Literal["regression", "held-out", "boundary", "random", "shapes", "worst"]
# The recipe's, written out: its types are no source of what only reads reports.
Precision = Literal["fp32", "bf16", "int8"]
# What can be wrong; docs/reference/parity.md has a line for each.
Check = Literal[
    "origin", "runs", "power", "finite", "tolerance", "invariance", "labels", "metric", "precision"
]


class Tolerance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How closely outputs must agree: an error of at most `k` times that of eager torch, plus
    `floor` times the size of the output. `reason` is the recipe's, why it is not the default.
    """

    k: float
    floor: float
    reason: str = ""


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One backend on one kind of inputs at one batch size, over `samples` rows of `shape`.

    `ratio` is the largest error over its limit, and `batch_ratio` the same of what a row's
    neighbours in the batch change. `flips` counts rows whose label is another one (classification)
    and `forgiven` those whose reference margin is below the error. Numbers are -1 where
    nothing could be measured. `worst_sample` is a row of its kind.
    """

    backend: BackendName
    kind: Kind
    batch: int
    shape: list[int]
    samples: int
    max_error: float
    ratio: float
    batch_ratio: float
    flips: int
    forgiven: int
    worst_sample: int
    ok: bool


class Problem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that is wrong: which check found it, where, and what it is in a sentence."""

    check: Check
    backend: BackendName | Literal["checkpoint"]
    text: str


class Agreement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a backend does the task, against the checkpoint, on the same held-out rows.

    `kl` are mean and largest Kullback-Leibler divergence from the reference's distribution in
    nats (classification). `drop` is the reference's metric less the backend's; `interval` holds
    95 % of its paired bootstrap. `max_relative` is the largest deviation over the spread of the
    reference's outputs (regression).
    """

    backend: BackendName
    samples: int
    metric: str
    reference: float
    measured: float
    drop: float
    interval: tuple[float, float]
    flips: int
    forgiven: int
    kl_mean: float | None = None
    kl_max: float | None = None
    max_relative: float | None = None


class Layer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The error after one node of the graph, in its order; root mean square over that of the
    reference's values. `float32` is the same of eager torch.
    """

    node: str
    op: str
    shape: list[int]
    error: float
    float32: float


class Divergence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first node whose error is beyond what float32 explains, while its inputs' are not.

    `before` is the largest relative error of its inputs, `after` that of its output. `how` says
    how it was found.
    """

    backend: BackendName
    node: str
    op: str
    inputs: list[list[int]]
    output: list[int]
    before: float
    after: float
    how: str


class Worst(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the inputs with the largest ratio, and what was answered.

    `name` says what it is: a sample of the data set, or which edge. `elements` are the outputs
    that are shown, the worst ones of many; `reference[i]` and `output[i]` are those of
    `elements[i]`, null for NaN and infinity, which JSON has not. `strange` says that those are not
    where the checkpoint's are. `ratio` and `max_error` are of the outputs that are numbers, -1
    where none is, and the ratio -1 where there is no limit. `margin` is how far the reference's
    label is above the one that was answered, 0 where both are the same. `png` is the picture in
    base64, for images; `values` the row in its own units, for tables; `text` the text, what is no
    UTF-8 replaced.
    """

    kind: Kind
    backend: BackendName
    batch: int
    name: str
    ratio: float
    max_error: float
    elements: list[int]
    reference: list[float | None]
    output: list[float | None]
    strange: bool = False
    margin: float = 0.0
    png: str = ""
    values: dict[str, float] = {}
    text: str = ""


class Plot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one backend on held-out rows: pairs of outputs, and a histogram of error ratios.

    `reference[i]` and `output[i]` are the same element. `counts[i]` is how many elements have a
    ratio from `10 ** edges[i]` to `10 ** edges[i + 1]`; what is exact stands in the first.
    """

    backend: BackendName
    reference: list[float]
    output: list[float]
    edges: list[float]
    counts: list[int]


class Search(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the worst-case search did: real samples that it started from, and steps from each.

    Its ratios are over what float32 errs by on real data, not over the limit.
    """

    starts: int
    steps: int
    evaluated: int
    first_ratio: float
    worst_ratio: float
    flips: int
    seed: int


class Summary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an archive carries of a report.

    `limit` is the largest error that the gate allowed on a held-out row, `max_error` the largest
    that it saw there of what has a limit, `worst_ratio` the largest ratio of all kinds of inputs,
    `flips` the most held-out labels that an export gives otherwise at any batch size.
    `drop` is what bf16 or int8 cost of the test metric, in points.
    """

    ok: bool
    precision: Precision
    tolerance: Tolerance
    samples: int
    batches: list[int]
    limit: float
    max_error: float
    worst_ratio: float
    flips: int
    drop: float | None = None


class ParityReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gate measured; `ok` only if it compared something and found nothing wrong.

    `samples` counts rows by kind. `signal` is how much outputs vary over the inputs, and `noise`
    how far eager torch is from float64 (root mean squares): agreement says something because
    the one is far above the other. `size` is the largest output of a held-out row, `flops` what
    one row takes through the model. `limit` is the largest that held for a held-out row. `labels`
    name the outputs (classification).
    """

    format: int = FORMAT
    ok: bool
    task: Literal["classification", "regression"]
    precision: Precision
    tolerance: Tolerance
    samples: dict[Kind, int]
    signal: float
    noise: float
    size: float
    limit: float
    flops: int
    cases: list[Case]
    problems: list[Problem]
    notes: list[str] = []
    labels: list[str] = []
    agreement: list[Agreement] = []
    layers: list[Layer] = []
    divergence: Divergence | None = None
    worst: list[Worst] = []
    plots: list[Plot] = []
    search: Search | None = None

    def __post_init__(self) -> None:
        held = bool(self.cases) and not self.problems and all(case.ok for case in self.cases)
        if self.ok != held:
            raise ValueError(
                f"ok is {self.ok}; its {len(self.cases)} cases and {len(self.problems)} problems "
                "say otherwise"
            )

    def summary(self) -> Summary:
        """Return what an archive carries of the report."""
        held_out = [
            case.max_error
            for case in self.cases
            if case.kind == "held-out" and case.backend != "int8"
        ]
        reduced = {"bf16": "torchscript", "int8": "int8"}.get(self.precision)
        drops = [round(100 * one.drop, 4) for one in self.agreement if one.backend == reduced]
        return Summary(
            ok=self.ok,
            precision=self.precision,
            tolerance=self.tolerance,
            samples=sum(self.samples.values()),
            batches=sorted({case.batch for case in self.cases}),
            limit=self.limit,
            max_error=max(held_out, default=-1.0),
            worst_ratio=max((case.ratio for case in self.cases), default=-1.0),
            flips=max((case.flips for case in self.cases if case.kind == "held-out"), default=0),
            drop=drops[0] if drops else None,
        )


class ZooRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of an architecture in the zoo. Errors are relative to the size of its outputs.

    `ratio` is the largest error over its limit on photographs, `far_ratio` that on other inputs.
    Seconds are those of both processes together, memory is the larger peak.
    """

    name: str
    ok: bool
    cause: str = ""
    error: float = -1.0
    float32: float = -1.0
    ratio: float = -1.0
    far_ratio: float = -1.0
    signal: float = -1.0
    inputs: int = 0
    divergence: Divergence | None = None
    gflop: float = -1.0
    seconds: float = 0.0
    peak_mib: int = 0
