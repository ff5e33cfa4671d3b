"""Handlers that read requests in their own way, or answer in another than the data set's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec

from bench.mutants.healthy import Healthy
from bench.mutants.mutant import Finding, Verdict, register
from marwright.archive.answers.check import Model, check_answers, served_exports
from marwright.archive.model_config import handler_options
from marwright.recipe.types import Recipe
from marwright.runtime.spec import Dtype
from marwright.training.types import Meta

# Who is said to be wrong: the handler itself, or what it makes of each export.
READING = ("handler",)
ANSWERS = ("model.onnx", "torchscript")
_HEAD = """\
import io
import json

import numpy as np
import torch
from PIL import Image

from marwright.runtime.classify_image import ranked_labels
from marwright.runtime.predict_table import row_values
from marwright.runtime.preprocess import image_array, table_array
from marwright.runtime.read import read_image, read_table, read_text
from marwright.runtime.service import Service

read, answer = {read}, {answer}

{source}

service = Service(read=read, answer=answer)
handle = service.handle
"""


@cache
def _exports(traced: Path, onnx: Path, dtype: Dtype) -> dict[str, Model]:
    return served_exports({traced.name: traced, onnx.name: onnx}, threads=1, dtype=dtype)


def by_answers(healthy: Healthy, recipe: Recipe, meta: Meta, root: Path = Path()) -> Verdict:
    """Run the handler's half of the gate as a build of the project does."""
    report = check_answers(
        recipe,
        root,
        meta,
        healthy.splits,
        _exports(healthy.traced, healthy.onnx, healthy.dtype),
        handler_options(recipe),
    )
    return Verdict(found=tuple(_finding(text, recipe) for text in report.problems))


def _finding(problem: str, recipe: Recipe) -> Finding:
    """Problems read "<file>: <export>: …", or without an export."""
    text = problem.removeprefix(f"{recipe.serve.file}: ")
    [backend] = [name for name in ANSWERS if text.startswith(f"{name}: ")] or READING
    return Finding(check="answers", backend=backend, text=text.removeprefix(f"{backend}: "))


def in_handler(
    base: str, *, backends: tuple[str, ...] = ANSWERS, says: str
) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register a handler: source that redefines `read` or `answer` of the shipped one."""

    def registered(fault: Callable[[], str]) -> Callable[[], str]:
        def judge(healthy: Healthy, folder: Path) -> Verdict:
            kind = healthy.checkpoint.meta.spec.kind
            source = _HEAD.format(
                read=f"read_{kind}",
                answer="row_values" if kind == "table" else "ranked_labels",
                source=fault(),
            )
            name = f"{fault.__name__}.py"
            (folder / name).write_text(source, encoding="utf-8")
            serve = msgspec.structs.replace(healthy.recipe.serve, handler=name)
            recipe = msgspec.structs.replace(healthy.recipe, serve=serve)
            return by_answers(healthy, recipe, healthy.checkpoint.meta, folder)

        # What is read wrong is answered wrong.
        too = ANSWERS if backends == READING else ()
        register(judge, fault, base, check="answers", backends=backends, too=too, says=says)
        return fault

    return registered


_ANOTHER_ARRAY = "read as another array than training's, off by"


@in_handler("colour", backends=READING, says=_ANOTHER_ARRAY)
def colours_read_in_reverse() -> str:
    """The handler reads BGR, as OpenCV does."""
    return "def read(body, spec): return read_image(body, spec)[:, ::-1].copy()"


@in_handler("residual", backends=READING, says=_ANOTHER_ARRAY)
def mean_of_another_model() -> str:
    """The handler normalises by a mean and a deviation that it brings along."""
    return """
def read(body, spec):
    image = Image.open(io.BytesIO(body))
    pixels = np.array(image, dtype=np.float32)[None, None] / 255
    return ((pixels - 0.1307) / 0.3081).astype(np.float32)
"""


@in_handler("colour", backends=READING, says=_ANOTHER_ARRAY)
def resized_without_antialias() -> str:
    """The handler resizes as torch does by default, and training as Pillow does."""
    return """
def read(body, spec):
    image = Image.open(io.BytesIO(body)).convert("RGB")
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None] / 255
    size = (spec.height, spec.width)
    pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear")
    mean, std = (torch.tensor(v)[:, None, None] for v in (spec.mean, spec.std))
    return ((pixels - mean) / std).numpy()
"""


@in_handler("colour", backends=READING, says=_ANOTHER_ARRAY)
def resized_by_another_filter() -> str:
    """The handler resizes by Lanczos, and training bilinearly."""
    return """
def read(body, spec):
    image = Image.open(io.BytesIO(body)).resize((spec.width, spec.height), Image.LANCZOS)
    return image_array(image, spec)[None]
"""


@in_handler("residual", backends=READING, says=r"another array than training's, off by up to [6-9]")
def pixels_not_scaled() -> str:
    """The handler does not bring pixels from 0…255 to 0…1."""
    return """
def read(body, spec):
    pixels = np.array(Image.open(io.BytesIO(body)), dtype=np.float32)
    return ((pixels - spec.mean[0]) / spec.std[0])[None, None].astype(np.float32)
"""


@in_handler("residual", backends=READING, says=r"read as float64 .*, not float32")
def read_in_double_precision() -> str:
    """The handler gives float64 to the model."""
    return "def read(body, spec): return read_image(body, spec).astype(np.float64)"


@in_handler("table", backends=READING, says=_ANOTHER_ARRAY)
def columns_in_another_order() -> str:
    """The handler reads a row's values in the alphabetical order of their columns."""
    return """
def read(body, spec):
    row = json.loads(body)
    values = [[row[name] for name in sorted(row)]]
    return table_array(np.array(values, dtype=np.float64), spec)
"""


@in_handler("text", backends=READING, says=f"{_ANOTHER_ARRAY} up to 1:")
def bytes_not_told_from_padding() -> str:
    """The handler gives the bytes themselves to the model, and training their values plus 1."""
    return "def read(body, spec): return read_text(body, spec) - 1"


@in_handler("residual", says="is the label map that of training?")
def label_map_off_by_one() -> str:
    """The handler counts labels from 1."""
    return """
def answer(logits, loaded):
    shifted = (*loaded.labels[1:], loaded.labels[0])
    return ranked_labels(logits, type(loaded)(model=loaded.model, spec=loaded.spec,
                         labels=shifted, options=loaded.options))
"""


@in_handler("residual", says="not the most probable ones in falling order")
def ranking_reversed() -> str:
    """The handler names the least probable of the best labels first."""
    return """
def answer(logits, loaded):
    return {"predictions": ranked_labels(logits, loaded)["predictions"][::-1]}
"""


@in_handler("residual", says="not the most probable ones in falling order")
def ranking_of_the_worst() -> str:
    """The handler names the least probable labels of all."""
    return """
def answer(logits, loaded):
    probabilities = torch.softmax(torch.from_numpy(logits[0]).double(), dim=0)
    worst = probabilities.topk(3, largest=False)
    return {"predictions": [{"label": loaded.labels[i], "probability": round(p, 6)}
                            for p, i in zip(worst.values.tolist(), worst.indices.tolist())]}
"""


@in_handler("residual", says="2 labels, not the best 3")
def ranking_too_short() -> str:
    """The handler names a label less than the recipe says."""
    return """
def answer(logits, loaded):
    return {"predictions": ranked_labels(logits, loaded)["predictions"][:-1]}
"""


@in_handler("residual", says="has probability 0\\.[12].*, and the model's outputs say")
def softmax_of_probabilities() -> str:
    """The handler applies softmax to what is a softmax already."""
    return """
def answer(logits, loaded):
    return ranked_labels(torch.from_numpy(logits).softmax(dim=1).numpy(), loaded)
"""


@in_handler("residual", says="has probability .*, and the model's outputs say")
def sigmoid_instead_of_softmax() -> str:
    """The handler takes each logit for itself."""
    return """
def answer(logits, loaded):
    best = torch.sigmoid(torch.from_numpy(logits[0]).double()).topk(3)
    return {"predictions": [{"label": loaded.labels[i], "probability": round(p, 6)}
                            for p, i in zip(best.values.tolist(), best.indices.tolist())]}
"""


@in_handler("table", says="and the model's output says .* progression")
def answer_in_standardised_units() -> str:
    """The handler answers what the model gives, and not in the units of the target."""
    return """
def answer(outputs, loaded): return {"predictions": [round(v, 2) for v in outputs[:, 0].tolist()]}
"""


@in_handler("table", says="and the model's output says .* progression")
def mean_of_the_target_forgotten() -> str:
    """The handler scales the output, and adds no mean."""
    return """
def answer(outputs, loaded):
    values = outputs[:, 0] * loaded.spec.target_std
    return {"predictions": [round(v, 2) for v in values.tolist()]}
"""


@in_handler("table", says="and the model's output says .* progression")
def values_rounded_to_tens() -> str:
    """The handler rounds to whole tens, and the recipe says two decimals."""
    return """
def answer(outputs, loaded):
    return {"predictions": [round(v, -1) for v in row_values(outputs, loaded)["predictions"]]}
"""


@in_handler("table", says="rows")
def only_the_first_row_answered() -> str:
    """A request may hold several rows, and the handler answers the first."""
    return """
def answer(outputs, loaded): return row_values(outputs[:1], loaded)
"""


@in_handler("residual", says="is the label map that of training?")
def answers_to_the_neighbour() -> str:
    """The handler gives answers back in the reverse order of the requests."""
    return """
class Service(Service):
    def answers(self, data):
        bodies, statuses = super().answers(data)
        return bodies[::-1], statuses[::-1]
"""


@in_handler("residual", says="fails over a whole batch")
def bad_request_stops_the_batch() -> str:
    """One request that is no image makes the handler fail, and its neighbours with it."""
    return """
class Service(Service):
    def answers(self, data):
        for fields in data:
            Image.open(io.BytesIO(fields["body"]))
        return super().answers(data)
"""


@in_handler("residual", says="a request that is none is answered with 500")
def bad_request_is_the_servers_fault() -> str:
    """A request that is no image is answered as if the server were to blame."""
    return """
def read(body, spec): return image_array(Image.open(io.BytesIO(body)), spec)[None]
"""


@in_handler("residual", says="a request that is none is answered with 200")
def bad_request_answered() -> str:
    """A request that is no image is answered as if it were a black one."""
    return """
def read(body, spec):
    try:
        return read_image(body, spec)
    except Exception:
        return np.zeros((1, *spec.shape), np.float32)
"""


def label_map_of_the_meta_shifted(healthy: Healthy, folder: Path) -> Verdict:
    """`meta.json`, from which the archive has its labels, counts them from 1."""
    labels = healthy.checkpoint.meta.labels
    meta = msgspec.structs.replace(healthy.checkpoint.meta, labels=[*labels[1:], labels[0]])
    return by_answers(healthy, healthy.recipe, meta)


register(
    label_map_of_the_meta_shifted, label_map_of_the_meta_shifted, "residual",
    check="answers", backends=ANSWERS, says="is the label map that of training",
)  # fmt: skip
