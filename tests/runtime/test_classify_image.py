"""An image in, ranked labels out."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from marwright.runtime import classify_image
from marwright.runtime.classify_image import ranked_labels
from marwright.runtime.service import Loaded, Service
from marwright.runtime.spec import ImageSpec

pytestmark = pytest.mark.torch

SPEC = ImageSpec(
    channels=1,
    height=2,
    width=2,
    fit="stretch",
    interpolation="nearest",
    mean=(0.0,),
    std=(1.0,),
)
LABELS = ("cat", "dog", "größe")


def loaded(model: Any = None, labels: tuple[str, ...] = LABELS, **options: Any) -> Loaded:
    return Loaded(model=model, spec=SPEC, labels=labels, options=options)


def ranked(logits: list[float], **options: Any) -> list[dict[str, Any]]:
    return ranked_labels(np.array([logits], dtype=np.float32), loaded(**options))["predictions"]


def test_labels_are_ranked_with_their_probabilities() -> None:
    found = ranked([0.0, 1.0, -1.0])
    assert [entry["label"] for entry in found] == ["dog", "cat", "größe"]
    # exp(1), exp(0) and exp(-1) over their sum.
    assert [entry["probability"] for entry in found] == [0.665241, 0.244728, 0.090031]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (4, 3), (1000, 3)])
def test_no_more_labels_are_given_than_there_are(top_k: int, count: int) -> None:
    assert len(ranked([0.0, 1.0, 2.0], top_k=top_k)) == count


def test_five_labels_are_given_unless_the_recipe_says_otherwise() -> None:
    labels = tuple("abcdefg")
    assert (
        len(ranked_labels(np.zeros((1, 7), np.float32), loaded(labels=labels))["predictions"]) == 5
    )


@settings(derandomize=True, database=None, deadline=None)
@given(logits=st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3))
def test_probabilities_of_any_logits_fall_and_add_up_to_one(logits: list[float]) -> None:
    probabilities = [entry["probability"] for entry in ranked(logits)]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=3e-6)


def test_the_handler_answers_compact_json() -> None:
    def bright_is_dog(images: torch.Tensor) -> torch.Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([-mean, mean, torch.full_like(mean, -100.0)], dim=1) * 50

    ours = classify_image.service
    service = Service(read=ours.read, answer=ours.answer, loaded=loaded(bright_is_dog, top_k=1))
    requests = []
    for colour in ("white", "black"):
        buffer = io.BytesIO()
        Image.new("RGBA", (5, 3), colour).save(buffer, "PNG")
        requests.append({"body": bytearray(buffer.getvalue())})
    answers, statuses = service.answers([requests[0], {"body": b"no"}, requests[1]])
    assert statuses == [200, 400, 200]
    assert answers[0] == b'{"predictions":[{"label":"dog","probability":1.0}]}'
    assert json.loads(answers[2])["predictions"][0]["probability"] == 0.5


def test_torchserve_finds_the_entry_point() -> None:
    assert classify_image.handle == classify_image.service.handle
