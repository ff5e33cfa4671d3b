"""The handler over each export, from real requests to answers, among them what is no request.

The parity gate compares tensors. What a client meets lies around them: decoding, preprocessing,
batching, the label map, top-k, units. Here real requests go through all of it, and an export's
own outputs say what must be answered: whether these are right is the gate's to say.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from marwright.archive.answers.judged import expected_values, judge_answers, rankings_of, values_of
from marwright.archive.answers.worker import WorkerError
from marwright.archive.golden import handler_service
from marwright.archive.golden_check import JUNK, parsed
from marwright.archive.types import AnswersReport
from marwright.parity.backends import onnx_backend
from marwright.runtime.request import BadRequest
from marwright.runtime.service import Loaded, Service
from marwright.training.samples import TableSamples
from marwright.training.tensors import inputs_of
from marwright.training.types import Splits

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe
    from marwright.runtime.spec import Dtype
    from marwright.training.types import Meta

# Requests of the test split; more say nothing new of what is done to each.
MOST = 64
# In one request, where it may hold several.
_ROWS = 3
Model = Callable[[torch.Tensor], torch.Tensor]
# Sends requests, bodies with content types, as one batch; returns bodies and statuses.
Send = Callable[[list[tuple[bytes, str]]], tuple[list[bytes], list[int]]]


def served_exports(
    files: Mapping[str, Path], threads: int, dtype: Dtype = "float32"
) -> dict[str, Model]:
    """Return what may be served, as handlers call it. `files` are a step's, by name."""
    onnx = files.get("model.int8.onnx", files["model.onnx"])
    run = onnx_backend(onnx, optimised=True, threads=threads, dtype=dtype)

    def over_onnx(inputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(run(inputs.numpy())).float()

    traced = torch.jit.load(str(files["model.pt"]), map_location="cpu")  # type: ignore[no-untyped-call]
    return {"torchscript": traced.eval(), onnx.name: over_onnx}


def check_answers(
    recipe: Recipe,
    root: Path,
    meta: Meta,
    splits: Splits,
    exports: Mapping[str, Model],
    options: Mapping[str, Any],
) -> AnswersReport:
    """Send held-out samples through the recipe's handler, in batches as they are served.

    `exports` are what may be served, by name. Raises `PackError` for a handler that cannot be
    loaded.
    """
    chosen = chosen_of(splits)
    service = handler_service(recipe, root)
    where = recipe.serve.file
    problems = [f"{where}: {text}" for text in _misread(service, splits, chosen, meta)]
    notes: list[str] = []
    batch = recipe.serve.batch_size
    for name, model in exports.items():
        loaded = Loaded(model=model, spec=meta.spec, labels=tuple(meta.labels), options=options)
        # The handler's own, which may be more than its two functions.
        served = copy.copy(service)
        served.loaded = loaded
        answers, wrong = ask_all(_sending(served), splits, chosen, batch)
        outputs = outputs_of(model, splits, chosen, meta, batch)
        problems += [f"{where}: {name}: {text}" for text in wrong]
        judged, unknown = judge_answers(answers, splits, chosen, outputs, meta, recipe)
        problems += [f"{where}: {name}: {text}" for text in judged]
        notes += [text for text in unknown if text not in notes]
        if isinstance(splits.samples, TableSamples) and not judged and not unknown:
            few = outputs_of(model, splits, chosen[:_ROWS], meta, _ROWS)
            several = _several_rows(served, splits, chosen[:_ROWS], few, meta, recipe)
            problems += [f"{where}: {name}: {text}" for text in several]
    return AnswersReport(
        ok=not problems,
        requests=len(chosen),
        exports=sorted(exports),
        problems=problems,
        notes=notes,
    )


def chosen_of(splits: Splits) -> NDArray[np.int64]:
    """Return the samples of the test split that are sent."""
    places = np.unique(np.linspace(0, len(splits.test) - 1, min(MOST, len(splits.test))))
    chosen: NDArray[np.int64] = splits.test[places.astype(np.int64)]
    return chosen


def outputs_of(
    model: Model, splits: Splits, chosen: NDArray[np.int64], meta: Meta, batch: int
) -> NDArray[np.float64]:
    """Return a model's own outputs for training's tensors, in the batches that are served: in
    bfloat16, other batches are other bits.
    """
    with torch.inference_mode():
        parts = [
            model(inputs_of(splits.samples, chosen[start:][:batch], meta.spec)).double()
            for start in range(0, len(chosen), batch)
        ]
    return torch.cat(parts).numpy()


def _misread(
    service: Service, splits: Splits, chosen: NDArray[np.int64], meta: Meta
) -> Iterator[str]:
    """Say where a request is read as another array than training's tensor of the sample."""
    for index in chosen:
        body, _ = splits.samples.request(int(index))
        expected = inputs_of(splits.samples, np.array([index]), meta.spec).numpy()
        try:
            read: object = service.read(body, meta.spec)
        except BadRequest as refusal:
            yield f"sample {index} of the test split: refused: {refusal}"
            return
        # Whatever a handler of one's own may raise.
        except Exception as error:  # noqa: BLE001
            yield f"sample {index} of the test split: cannot be read: {_told(error)}"
            return
        if not isinstance(read, np.ndarray):
            how = ": return `tensor.numpy()`" if isinstance(read, torch.Tensor) else ""
            yield (
                f"sample {index} of the test split: read as a {type(read).__name__}, not a numpy "
                f"array{how}"
            )
            return
        if read.shape != expected.shape or read.dtype != expected.dtype:
            yield (
                f"sample {index} of the test split: read as {read.dtype} {read.shape}, "
                f"not {expected.dtype} {expected.shape}"
            )
            return
        if not np.array_equal(read, expected):
            off = float(np.abs(read - expected).max())
            yield (
                f"sample {index} of the test split: read as another array than training's, off by "
                f"up to {off:.3g}: both must call marwright.runtime.preprocess"
            )
            return
        if not read.flags.c_contiguous:
            yield (
                f"sample {index} of the test split: read as an array with gaps: return "
                "`np.ascontiguousarray(array)`"
            )
            return


def _sending(service: Service) -> Send:
    return lambda requests: service.answers([{"body": body} for body, _ in requests])


def ask_all(
    send: Send, splits: Splits, chosen: NDArray[np.int64], batch: int
) -> tuple[list[Any], list[str]]:
    """Return the answers to samples, decoded; None where there is none, and why.

    In batches as they are served, what is no request behind the first.
    """
    answers: list[Any] = []
    problems: list[str] = []
    for start in range(0, len(chosen), batch):
        requests = [splits.samples.request(int(index)) for index in chosen[start:][:batch]]
        if not start:
            # A bad neighbour gets its own refusal and spoils nobody else's answer.
            requests.append((JUNK, "application/octet-stream"))
        try:
            bodies, statuses = send(requests)
        # Whatever a handler of one's own may raise.
        except Exception as error:  # noqa: BLE001
            return [None] * len(chosen), [f"fails over a whole batch: {_told(error)}"]
        if not start:
            bodies.pop()
            if not 400 <= (junk := statuses.pop()) < 500:
                problems.append(f"a request that is none is answered with {junk}, not with a 4xx")
        for place, (body, status) in enumerate(zip(bodies, statuses, strict=True), start):
            if status == 200:
                answers.append(parsed(body))
                continue
            answers.append(None)
            problems.append(
                f"sample {chosen[place]} of the test split is answered with {status}: "
                f"{body.decode(errors='replace')}"
            )
    return answers, problems[:3]


def _several_rows(
    service: Service,
    splits: Splits,
    chosen: NDArray[np.int64],
    outputs: NDArray[np.float64],
    meta: Meta,
    recipe: Recipe,
) -> Iterator[str]:
    """Hold one request of several rows against what the model makes of them together."""
    rows = [json.loads(splits.samples.request(int(index))[0]) for index in chosen]
    try:
        together, wrong = service.answers([{"body": json.dumps(rows).encode()}])
    except Exception as error:  # noqa: BLE001
        yield f"a request of {len(rows)} rows fails: {_told(error)}"
        return
    if wrong != [200]:
        yield f"a request of {len(rows)} rows is answered with {wrong[0]}: {together[0].decode()}"
        return
    if splits.samples.labels:
        yield from _several_rankings(json.loads(together[0]), outputs, meta)
        return
    given, (expected, close) = (
        values_of(json.loads(together[0])),
        expected_values(outputs, meta, recipe),
    )
    if given is None or len(given) != len(rows) or not np.all(np.abs(given - expected) <= close):
        said = together[0].decode()
        yield f"a request of {len(rows)} rows is answered {said}, and they are {expected.tolist()}"


def _several_rankings(answer: Any, outputs: NDArray[np.float64], meta: Meta) -> Iterator[str]:
    expected = [meta.labels[best] for best in outputs.argmax(axis=1)]
    rankings = rankings_of(answer)
    given = None if rankings is None else [ranking[0][0] for ranking in rankings]
    if given != expected:
        yield (
            f"a request of {len(expected)} rows is answered with {given}, and the most probable "
            f"are {expected}"
        )


def _told(error: Exception) -> str:
    if isinstance(error, WorkerError):
        return str(error)
    return f"{type(error).__name__}: {error}"
