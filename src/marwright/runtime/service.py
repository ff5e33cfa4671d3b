"""Load once, answer batches: what every handler of ours is made of.

A handler module says how a request is read and how logits become an answer, both as numpy arrays,
and offers TorchServe

    service = Service(read=..., answer=...)
    handle = service.handle

A request may hold several rows; requests of one batch go through the model together, and a bad
one gets its own 4xx while its neighbours are answered.
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from marwright.runtime.preprocess import batched
from marwright.runtime.request import BadRequest, body_of, json_answer, json_error
from marwright.runtime.spec import PreprocessSpec, load_spec

logger = logging.getLogger(__name__)

# HTTP reason phrases must be ASCII: TorchServe counts their characters as bytes.
_PHRASES = {400: "Bad Request", 413: "Payload Too Large", 415: "Unsupported Media Type",
            500: "Internal Server Error"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model with all that its answers need. `model` maps `(N, …)` to `(N, outputs)`."""

    model: Callable[[torch.Tensor], torch.Tensor]
    spec: PreprocessSpec
    labels: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"


# Of Python's garbage collector. TorchServe parses JSON before a request is ours to refuse, and by
# the default, of 700, looks at millions of lists again and again while they are made.
_COLLECT = (50_000, 20, 100)

# A request's body -> a C-contiguous array (n, …) of the spec's dtype, n >= 1; raises BadRequest.
Read = Callable[[object, Any], NDArray[Any]]
# Logits float32 (n, outputs) of one request -> a JSON-ready answer.
Answer = Callable[[NDArray[np.float32], Loaded], object]


class Service:
    """The entry point of a handler; TorchServe calls `handle(None, context)` first, to load."""

    def __init__(self, *, read: Read, answer: Answer, loaded: Loaded | None = None) -> None:
        self.read = read
        self.answer = answer
        self.loaded = loaded

    def handle(self, data: Sequence[Mapping[str, Any]] | None, context: Any) -> list[bytes] | None:
        """Answer a batch: one JSON document for each request, its status set in `context`."""
        if data is None:
            self.loaded = load(context)
            gc.set_threshold(*_COLLECT)
            return None
        headers = [context.get_all_request_header(index) for index in range(len(data))]
        answers, statuses = self.answers(data, headers)
        for index, status in enumerate(statuses):
            context.set_response_content_type(index, "application/json")
            if status != 200:
                context.set_response_status(status, _PHRASES.get(status, "Error"), index)
        return answers

    def answers(
        self,
        data: Sequence[Mapping[str, Any]],
        headers: Sequence[Mapping[str, Any]] | None = None,
    ) -> tuple[list[bytes], list[int]]:
        """Return the answers and the HTTP statuses of a batch of requests.

        `headers` are those of each request, where they are known.
        """
        assert self.loaded is not None, "TorchServe loads the model before it sends requests"
        inputs: dict[int, NDArray[Any]] = {}
        results: dict[int, tuple[bytes, int]] = {}
        for index, fields in enumerate(data):
            try:
                body = body_of(fields, headers[index] if headers else None)
                inputs[index] = self._read_one(body)
            except BadRequest as bad:
                results[index] = (json_error(bad.status, str(bad)), bad.status)
            # A fault of ours must not take the answers of the others along.
            except Exception:
                logger.exception("a request could not be read")
                results[index] = (json_error(500, "the handler failed on this input"), 500)
        if inputs:
            with torch.inference_mode():
                batch = torch.from_numpy(batched(list(inputs.values()))).to(self.loaded.device)
                outputs = self.loaded.model(batch).float().cpu().numpy()
            ends = np.cumsum([len(part) for part in inputs.values()])
            for index, part in zip(inputs, np.split(outputs, ends[:-1]), strict=True):
                results[index] = self._answer_one(part)
        ordered = [results[index] for index in range(len(data))]
        return [answer for answer, _ in ordered], [status for _, status in ordered]

    def _read_one(self, body: object) -> NDArray[Any]:
        assert self.loaded is not None
        read: object = self.read(body, self.loaded.spec)
        if not isinstance(read, np.ndarray):
            # A tensor would be taken for an array, and texts left without their padding.
            raise TypeError(f"`read` returned a {type(read).__name__}, not a numpy array")
        return read

    def _answer_one(self, outputs: NDArray[np.float32]) -> tuple[bytes, int]:
        assert self.loaded is not None
        if not np.isfinite(outputs).all():
            logger.error("the model's output holds NaN or infinity")
            return json_error(500, "the model's output is not finite for this input"), 500
        answer = self.answer(outputs, self.loaded)
        try:
            return json_answer(answer), 200
        except ValueError as error:
            logger.error("the answer is not JSON: %s", error)
            return json_error(500, "the model's answer is not finite for this input"), 500


def load(context: Any) -> Loaded:
    """Load the archive's model as TorchServe unpacked it, and warm it up.

    Raises `RuntimeError` when there are labels and they are not as many as the model's outputs.
    """
    folder = Path(context.system_properties["model_dir"])
    gpu = context.system_properties.get("gpu_id")
    device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
    options = (context.model_yaml_config or {}).get("handler") or {}
    # Workers share the machine: each would otherwise take every core for itself.
    torch.set_num_threads(int(options.get("threads", 1)))
    spec = load_spec(folder / "preprocess.json")
    labels_file = folder / "labels.json"
    labels = json.loads(labels_file.read_text(encoding="utf-8")) if labels_file.exists() else []
    model = torch.jit.load(  # type: ignore[no-untyped-call]
        str(folder / context.manifest["model"]["serializedFile"]), map_location=device
    )
    model.eval()
    # The first calls compile; in inference mode, because a graph that was specialised with
    # gradients on can fail without them.
    with torch.inference_mode():
        for _ in range(2):
            dtype = getattr(torch, spec.dtype)
            outputs = model(torch.zeros((1, *spec.shape), dtype=dtype, device=device))
    if labels and outputs.shape[1:] != (len(labels),):
        # An answer would leave a class out, or fail for want of its label.
        raise RuntimeError(
            f"the archive is inconsistent: labels.json has {len(labels)} labels, and the model's "
            f"output for one sample has shape {tuple(outputs.shape)}"
        )
    return Loaded(model=model, spec=spec, labels=tuple(labels), options=options, device=device)
