"""A classifier of texts on its way into an archive and out of it: requests of many lengths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs
from safetensors.torch import load

from marwright.archive.answers.check import served_exports
from marwright.archive.golden import golden_members
from marwright.archive.model_config import handler_options
from marwright.archive.types import GOLDEN_INDEX, GOLDEN_TENSORS
from marwright.archive.verify import verify
from marwright.export.to_onnx import export_onnx
from marwright.runtime.preprocess import text_bytes
from marwright.runtime.spec import TextSpec
from marwright.training.tensors import inputs_of
from tests.archive.answers.asked import checked
from tests.archive.mutants import handler_with
from tests.archive.proven import ATOL, RTOL, Proven, one_thread, prove
from tests.archive.tiny import members_of, rewrite
from tests.training.texts import text_recipe, text_samples

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

PREPROCESS, HANDLER = "marwright/runtime/preprocess.py", "marwright/runtime/classify_text.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    """A classifier of texts that was trained for a moment, traced and packed."""
    return prove(text_recipe(), text_samples(160), tmp_path_factory.mktemp("proven_text"))


# --- golden samples -------------------------------------------------------------------------


def test_golden_samples_are_texts_without_padding(made: Proven) -> None:
    index = json.loads(made.golden[GOLDEN_INDEX])
    tensors = load(made.golden[GOLDEN_TENSORS])
    lengths = []
    for number, sample in enumerate(index["samples"]):
        assert sample["content_type"] == "text/plain; charset=utf-8"
        body = made.golden[sample["request"]]
        tensor = tensors[f"input.{number}"]
        assert tensor.dtype == torch.int64
        assert (tensor - 1).tolist() == [list(text_bytes(body.decode(), TextSpec(max_bytes=40)))]
        lengths.append(tensor.shape[1])
        assert {entry["label"] for entry in sample["answer"]["predictions"]} == {"greek", "latin"}
    # Or a batch of them would prove nothing of padding.
    assert len(set(lengths)) > 1


def test_a_text_that_looks_like_json_is_golden_all_the_same(made: Proven) -> None:
    samples = text_samples(160)
    texts = [f"{{{text}" for text in samples.texts]
    splits = made.splits
    changed = type(splits)(
        samples=type(samples)(texts=texts, targets=samples.targets, labels=samples.labels),
        contents=splits.contents, train=splits.train, validation=splits.validation,
        test=splits.test,
    )  # fmt: skip
    golden = golden_members(
        made.model, made.meta, changed, made.recipe, Path(), handler_options(made.recipe),
        traced=made.traced, atol=ATOL, rtol=RTOL,
    )  # fmt: skip
    index = json.loads(golden[GOLDEN_INDEX])
    assert {sample["content_type"] for sample in index["samples"]} == {"application/json"}
    assert checked(made, splits=changed).ok


# --- the answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 8, 1000])
def test_texts_of_many_lengths_are_answered_right_in_any_batch(made: Proven, batch: int) -> None:
    serve = structs.replace(made.recipe.serve, batch_size=batch)
    report = checked(made, recipe=structs.replace(made.recipe, serve=serve))
    assert (report.ok, report.problems, report.notes) == (True, [], [])


def test_what_is_exported_is_asked_with_integers(made: Proven, tmp_path: Path) -> None:
    with one_thread():
        onnx = export_onnx(
            made.model, (40,), 20, tmp_path, dtype="int64", dynamic={0: ("length", 1, 40)}
        )
        exports = served_exports({"model.pt": made.traced, "model.onnx": onnx}, 1, "int64")
        report = checked(made, exports=exports)
    assert (report.ok, report.problems) == (True, [])
    assert report.exports == ["model.onnx", "torchscript"]


def test_a_text_is_answered_alone_as_it_is_among_others(made: Proven) -> None:
    spec = made.meta.spec
    assert isinstance(spec, TextSpec)
    chosen = made.splits.test[:4]
    inputs = inputs_of(made.splits.samples, chosen, spec)
    assert len(set((inputs != 0).sum(dim=1).tolist())) > 1
    with torch.inference_mode():
        together = made.model(inputs).numpy()
        alone = np.concatenate(
            [
                made.model(inputs_of(made.splits.samples, chosen[n : n + 1], spec)).numpy()
                for n in range(4)
            ]
        )
    assert np.allclose(together, alone, atol=1e-5)


# --- the archive ----------------------------------------------------------------------------


def test_the_archive_is_verified(made: Proven) -> None:
    report = verify(made.mar)
    assert report.problems == []
    assert (report.ok, report.golden_samples) == (True, 4)


def said(made: Proven, folder: Path, name: str, code: str) -> list[str]:
    """Verify an archive with code at the end of one of its files."""
    changes = handler_with(made, code, name)
    return verify(rewrite(made.mar, folder / "changed.mar", changes, proven=True)).problems


def test_texts_that_are_cut_to_the_shortest_of_a_batch_are_noticed(
    made: Proven, tmp_path: Path
) -> None:
    code = """
def batched(parts):
    shortest = min(part.shape[1] for part in parts)
    return np.concatenate([part[:, :shortest] for part in parts])
"""
    [problem] = said(made, tmp_path, PREPROCESS, code)
    assert problem == ("golden samples in one batch: the payload's output is not the checkpoint's")


def test_texts_that_are_not_padded_are_noticed(made: Proven, tmp_path: Path) -> None:
    code = "def batched(parts): return np.concatenate(parts)\n"
    [problem] = said(made, tmp_path, PREPROCESS, code)
    assert problem.startswith(
        "golden samples in one batch: the handler fails: ValueError: all the input array "
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "exact = service.read\n"
            "def read(body, spec):\n"
            "    return exact(body.decode('latin-1') if type(body) is bytearray else body, spec)\n"
            "service.read = read\n",
            "what is no request is answered with status 200, not with a 4xx",
        ),
        (
            "exact = service.read\n"
            "def read(body, spec):\n"
            "    if isinstance(body, bytearray): body.decode()\n"
            "    return exact(body, spec)\n"
            "service.read = read\n",
            "what is no request is answered with status 500, not with a 4xx",
        ),
    ],
)
def test_a_bad_neighbour_must_be_refused_and_harm_none(
    made: Proven, tmp_path: Path, code: str, expected: str
) -> None:
    [problem] = said(made, tmp_path, HANDLER, code)
    assert problem.startswith(f"golden samples in one batch: {expected}")


def test_an_archive_says_how_long_its_texts_are(made: Proven) -> None:
    assert json.loads(members_of(made.mar)["preprocess.json"]) == {"kind": "text", "max_bytes": 40}
