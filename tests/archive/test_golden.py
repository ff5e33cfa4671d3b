"""Golden samples: real requests of the test split, and what the checkpoint makes of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load
from torch import nn

from marwright.archive.golden import _chosen, golden_members
from marwright.archive.model_config import handler_options
from marwright.archive.types import GOLDEN, GOLDEN_INDEX, GOLDEN_TENSORS, GoldenIndex
from marwright.recipe.errors import PackError
from marwright.training.samples import ImageSamples
from marwright.training.tensors import inputs_of
from marwright.training.types import Splits
from tests.archive.proven import ATOL, RTOL, Proven, one_thread
from tests.archive.tiny import LABELS, image_recipe

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def index_of(made: Proven) -> GoldenIndex:
    return msgspec.json.decode(made.golden[GOLDEN_INDEX], type=GoldenIndex)


def test_members_are_requests_tensors_and_their_index(proven_image: Proven) -> None:
    requests = [f"{GOLDEN}/{number}.request" for number in range(4)]
    assert set(proven_image.golden) == {*requests, GOLDEN_INDEX, GOLDEN_TENSORS}
    index = index_of(proven_image)
    assert [sample.request for sample in index.samples] == requests
    assert (index.atol, index.rtol) == (ATOL, RTOL)


def test_samples_are_of_the_test_split_spread_over_it(proven_image: Proven) -> None:
    test = proven_image.splits.test.tolist()
    chosen = _chosen(proven_image.splits)
    assert set(chosen) <= set(test)
    assert (len(set(chosen)), chosen[0], chosen[-1]) == (4, test[0], test[-1])


def test_small_test_split_gives_each_sample_once(proven_image: Proven) -> None:
    splits = proven_image.splits
    small = Splits(
        samples=splits.samples,
        contents=("",) * len(splits.samples),
        train=splits.train,
        validation=splits.validation,
        test=splits.test[:3],
    )
    assert _chosen(small) == splits.test[:3].tolist()


def test_requests_are_what_a_client_would_send(proven_image: Proven, proven_table: Proven) -> None:
    assert {s.content_type for s in index_of(proven_image).samples} == {"image/png"}
    image = Image.open(io.BytesIO(proven_image.golden[f"{GOLDEN}/0.request"]))
    samples, first = proven_image.splits.samples, proven_image.splits.test[0]
    assert isinstance(samples, ImageSamples)
    assert np.array_equal(np.asarray(image), samples.images[first])
    assert {s.content_type for s in index_of(proven_table).samples} == {"application/json"}
    assert set(json.loads(proven_table.golden[f"{GOLDEN}/0.request"])) == {"a", "b", "c"}


def test_tensors_and_outputs_are_training_s_and_the_checkpoint_s(proven_image: Proven) -> None:
    tensors = load(proven_image.golden[GOLDEN_TENSORS])
    assert len(tensors) == 8
    for number, sample in enumerate(_chosen(proven_image.splits)):
        inputs = inputs_of(proven_image.splits.samples, np.array([sample]), proven_image.meta.spec)
        assert torch.equal(tensors[f"input.{number}"], inputs)
        with torch.inference_mode():
            assert torch.equal(tensors[f"output.{number}"], proven_image.model(inputs))


def test_answers_are_those_of_the_recipe(proven_image: Proven, proven_table: Proven) -> None:
    for sample in index_of(proven_image).samples:
        ranked = sample.answer["predictions"]
        assert len(ranked) == proven_image.recipe.postprocess.top_k
        assert {entry["label"] for entry in ranked} <= set(LABELS)
        assert ranked[0]["probability"] >= ranked[1]["probability"]
    values = [sample.answer["predictions"] for sample in index_of(proven_table).samples]
    # In the target's own units, which lie around 150.
    assert all(len(value) == 1 and 50 < value[0] < 350 for value in values)


def test_same_checkpoint_gives_the_same_members(proven_image: Proven) -> None:
    assert record(proven_image, "classify_image") == proven_image.golden


def record(made: Proven, handler: str) -> dict[str, bytes]:
    recipe = image_recipe(serve={"handler": handler})
    options = handler_options(recipe)
    return golden_members(
        made.model,
        made.meta,
        made.splits,
        recipe,
        Path.cwd(),
        options,
        traced=made.traced,
        atol=ATOL,
        rtol=RTOL,
    )


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Add a handler to the project's, for one test; returns its name."""
    monkeypatch.chdir(tmp_path)
    Path("handlers").mkdir()

    def add(code: str) -> str:
        Path("handlers", "strange.py").write_text(
            "import torch\n"
            "from marwright.runtime.classify_image import ranked_labels\n"
            "from marwright.runtime.read import read_image\n"
            "from marwright.runtime.request import BadRequest\n"
            f"from marwright.runtime.service import Service\n{code}"
        )
        return "handlers/strange.py"

    return add


SERVICE = "service = Service(read=read, answer=ranked_labels)\nhandle = service.handle\n"


def test_handler_that_refuses_a_held_out_sample_is_refused(
    proven_image: Proven, handler: Callable[[str], str]
) -> None:
    read = "def read(body, spec):\n    raise BadRequest('too small for me', 413)\n"
    first = int(proven_image.splits.test[0])
    with pytest.raises(PackError) as refusal:
        record(proven_image, handler(read + SERVICE))
    assert str(refusal.value) == (
        f"handlers/strange.py: sample {first} of the test split: answered with 413: "
        '{"error":"too small for me","status":413}'
    )


@pytest.mark.parametrize(
    "code",
    [
        "service = 'a service'\nhandle = print\n",
        "service = Service(read=read_image, answer=ranked_labels)\n",
        "service = Service(read=read_image, answer=ranked_labels)\nhandle = None\n",
    ],
)
def test_handler_without_service_and_handle_is_refused(
    proven_image: Proven, handler: Callable[[str], str], code: str
) -> None:
    with pytest.raises(PackError, match=r"handlers/strange\.py: needs `service = Service\("):
        record(proven_image, handler(code))


def test_handler_that_cannot_be_imported_is_refused(
    proven_image: Proven, handler: Callable[[str], str]
) -> None:
    said = r"handlers/strange\.py: cannot be imported: No module named 'no_such_module'"
    with pytest.raises(PackError, match=said):
        record(proven_image, handler(f"import no_such_module\nread = read_image\n{SERVICE}"))


def test_model_whose_output_is_not_finite_is_refused(proven_image: Proven) -> None:
    class Broken(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.full((len(inputs), len(LABELS)), float("nan"))

    made = proven_image
    with pytest.raises(PackError, match="not finite"):
        golden_members(
            Broken(),
            made.meta,
            made.splits,
            made.recipe,
            Path.cwd(),
            {},
            traced=made.traced,
            atol=ATOL,
            rtol=RTOL,
        )
