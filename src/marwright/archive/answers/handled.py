"""A handler that is entered by `handle`, over the payload that ships, as a worker runs it.

What it reads and how it answers cannot be called alone, as of a `Service`. What can be seen is its
`inference`, where it has one. The tensor that reaches it must be training's, and what it gives must
be the checkpoint's in float64 for that very tensor. It may be off by what the gate allowed on
held-out samples (`atol`, `rtol`, as golden samples have them), and by what the payload itself errs
on that tensor besides: that is the gate's to judge, and the tensor may be no held-out one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from marwright.archive.answers.check import Model, ask_all, chosen_of, outputs_of
from marwright.archive.answers.judged import judge_answers
from marwright.archive.answers.worker import Request, Seen, Worker, WorkerError, handler_worker
from marwright.archive.types import AnswersReport
from marwright.parity.backends import Array, Run
from marwright.training.samples import TableSamples
from marwright.training.tensors import inputs_of
from marwright.training.types import Splits

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe
    from marwright.training.types import Meta

# Of a value that is read, beside 1 + its size: the same arithmetic in another order, as torchvision
# has it.
_READ = 1e-5
_UNSEEN = (
    "what is read of a request: {why}, so that it is not compared with training's tensor",
    "the model's outputs: {why}, so that they are not compared with the checkpoint's",
)
_ROWS = "several rows in one request: only of a `Service` it is known that it takes them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The checkpoint in float64, and how closely its outputs must be met."""

    run: Run
    atol: float
    rtol: float


@dataclass(slots=True)
class _Watched:
    """A worker, and what its `inference` took and gave, batch by batch."""

    worker: Worker
    batches: list[list[Seen]] = field(default_factory=list)

    def send(self, requests: list[Request]) -> tuple[list[bytes], list[int]]:
        answers = self.worker.ask(requests)
        self.batches.append(self.worker.seen())
        return [body for _, body in answers], [status for status, _ in answers]


def check_handled(
    recipe: Recipe,
    root: Path,
    meta: Meta,
    splits: Splits,
    traced: Path,
    payload: Model,
    reference: Reference,
) -> AnswersReport:
    """Send held-out samples through the recipe's handler, in batches as they are served.

    `payload` is the module in `traced`, in this process. Raises `PackError` for a handler that
    cannot be loaded.
    """
    chosen, batch, where = chosen_of(splits), recipe.serve.batch_size, recipe.serve.file
    first = [splits.samples.request(int(index)) for index in chosen[:batch]]
    problems: list[str] = []
    absent: list[str] = []
    answers: list[object] = []
    batches = len(chosen) // batch + 3
    with handler_worker(recipe, traced, meta, root, batches=batches) as worker:
        watched = _Watched(worker)
        try:
            watches = worker.watch()
            # Without what is no request, which may go through the model in its own way.
            watched.send(first)
        except WorkerError as error:
            problems.append(f"fails over a batch of {len(first)} held-out samples: {error}")
        else:
            answers, wrong = ask_all(watched.send, splits, chosen, batch)
            problems += wrong
            clean, *others = watched.batches
            # The second batch is the first again, with what is no request behind it.
            seen = [clean, *others[1:]]
            unseen = _unseen(watched.batches, watches=watches)
            absent += unseen
            if len(unseen) < len(_UNSEEN):
                problems += _misread(seen, splits, chosen, meta, batch, absent)
            if not unseen:
                problems += _other_outputs(watched.batches, payload, reference, absent)
    if answers:
        outputs = outputs_of(payload, splits, chosen, meta, batch)
        judged, unknown = judge_answers(answers, splits, chosen, outputs, meta, recipe)
        problems += judged
        absent += unknown
    if isinstance(splits.samples, TableSamples):
        absent.append(_ROWS)
    return AnswersReport(
        ok=not problems,
        requests=len(chosen),
        exports=["torchscript"],
        problems=[f"{where}: {text}" for text in problems],
        absent=absent,
    )


def _unseen(batches: Sequence[Sequence[Seen]], *, watches: bool) -> list[str]:
    """Say why the tensors that are read, or the outputs, cannot be compared, if so."""
    calls = [call for batch in batches for call in batch]
    taken, given = ([what for what in half if isinstance(what, str)] for half in _halves(calls))
    if given and not taken:
        return [_UNSEEN[1].format(why=f"`inference` gives a {given[0]}, and not a tensor")]
    if not watches:
        why = "the handler has no `inference`"
    elif not calls:
        why = "`handle` does not call `inference`"
    elif taken:
        why = f"`inference` takes a {taken[0]}, and not a tensor"
    else:
        return []
    return [text.format(why=why) for text in _UNSEEN]


def _halves(calls: Sequence[Seen]) -> tuple[list[Array | str], list[Array | str]]:
    return [taken for taken, _ in calls], [given for _, given in calls]


def _misread(
    batches: Sequence[Sequence[Seen]],
    splits: Splits,
    chosen: NDArray[np.int64],
    meta: Meta,
    size: int,
    absent: list[str],
) -> Iterator[str]:
    """Say where another tensor than training's reaches `inference`."""
    for number, calls in enumerate(batches):
        expected = inputs_of(splits.samples, chosen[number * size :][:size], meta.spec).numpy()
        taken = [call[0] for call in calls if not isinstance(call[0], str)]
        shapes = [rows.shape for rows in taken]
        fits = [shape[1:] == expected.shape[1:] for shape in shapes if shape]
        if sum(shape[0] for shape in shapes if shape) != len(expected) or not all(fits):
            why = f"`inference` takes {shapes} where training makes {expected.shape}"
            absent.append(_UNSEEN[0].format(why=why))
            return
        read, where = np.concatenate(taken), f"samples {chosen[number * size]} … of the test split"
        off = np.abs(read.astype(np.float64) - expected)
        # Written so that NaN does not pass.
        if not np.all(off <= _READ * (1 + np.abs(expected))):
            yield (
                f"{where}: what reaches `inference` is another tensor than training's, off by up "
                f"to {np.max(off):.3g}: read requests as preprocess.json says, which "
                "marwright.runtime.read does"
            )
            return


def _other_outputs(
    batches: Sequence[Sequence[Seen]], payload: Model, reference: Reference, absent: list[str]
) -> Iterator[str]:
    """Say where `inference` gives something else than the checkpoint."""
    for inputs, outputs in (call for calls in batches for call in calls):
        assert not isinstance(inputs, str) and not isinstance(outputs, str)
        told = f"for {inputs.dtype} {inputs.shape}"
        try:
            expected = reference.run(inputs)
            with torch.inference_mode():
                own = payload(torch.from_numpy(inputs.copy())).double().numpy()
        except RuntimeError as error:
            line = str(error).strip().splitlines()[-1]
            why = f"`inference` takes {inputs.dtype} {inputs.shape}, which the checkpoint cannot"
            absent.append(_UNSEEN[1].format(why=f"{why} ({line})"))
            return
        if outputs.shape != own.shape:
            yield (
                f"`inference` gives {outputs.dtype} {outputs.shape} {told}, and the model "
                f"{own.shape}: return what the model gives, and make answers of it in `postprocess`"
            )
            return
        if problem := _off(outputs, expected.reshape(own.shape), own, reference):
            yield f"`inference` gives other outputs than the checkpoint {told}: {problem}"
            return


def _off(outputs: Array, expected: Array, own: Array, reference: Reference) -> str:
    off = np.abs(outputs.astype(np.float64) - expected)
    allowed = reference.atol + reference.rtol * np.abs(expected) + np.abs(own - expected)
    # Written so that NaN does not pass.
    if np.all(off <= allowed):
        return ""
    return (
        f"off by up to {np.max(off):.3g}, and the payload by {np.max(np.abs(own - expected)):.3g}: "
        "return what the payload gives, and make answers of it in `postprocess`"
    )
