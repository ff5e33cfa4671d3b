"""A text in, ranked labels out; texts of many lengths in one batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from marwright.runtime import classify_text
from marwright.runtime.service import Loaded, Service, load
from marwright.runtime.spec import PADDING, TextSpec, spec_to_dict
from tests.runtime.conftest import ContextMaker

pytestmark = pytest.mark.torch

SPEC = TextSpec(max_bytes=16)
LABELS = ("short", "long")


class Length(nn.Module):
    """Logits that say how long a text is, padding left out."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        length = (ids != PADDING).sum(dim=1, keepdim=True).float()
        return torch.cat([8 - length, length - 8], dim=1)


def asked(*bodies: object, model: Any = None) -> tuple[list[Any], list[int]]:
    loaded = Loaded(model=model or Length(), spec=SPEC, labels=LABELS)
    service = Service(
        read=classify_text.service.read, answer=classify_text.service.answer, loaded=loaded
    )
    answers, statuses = service.answers([{"body": body} for body in bodies])
    return [json.loads(answer) for answer in answers], statuses


def test_labels_are_ranked() -> None:
    [answer], [status] = asked(b"0123456789")
    assert status == 200
    assert [entry["label"] for entry in answer["predictions"]] == ["long", "short"]
    assert answer["predictions"][0]["probability"] == pytest.approx(0.982014)


def test_texts_of_many_lengths_are_answered_together_and_a_bad_one_harms_none() -> None:
    seen: list[tuple[int, ...]] = []

    def model(ids: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(ids.shape))
        return Length()(ids)

    bodies = [b"ab", b"\xff", {"text": "0123456789abcdef and more"}, "abcd", b" ", b"{"]
    answers, statuses = asked(*bodies, model=model)
    assert statuses == [200, 400, 200, 200, 400, 400]
    assert seen == [(3, 16)]
    for place in (0, 2, 3):
        assert answers[place] == asked(bodies[place])[0][0]


def test_a_model_is_warmed_up_with_integers(tmp_path: Path, make_context: ContextMaker) -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(257, 2)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.embedding(ids).mean(dim=1)

    torch.jit.script(Embedded()).save(str(tmp_path / "model.pt"))
    (tmp_path / "preprocess.json").write_text(json.dumps(spec_to_dict(SPEC)), encoding="utf-8")
    (tmp_path / "labels.json").write_text(json.dumps(LABELS), encoding="utf-8")
    before = torch.get_num_threads()
    try:
        loaded = load(make_context(folder=tmp_path))
    finally:
        torch.set_num_threads(before)
    assert (loaded.spec, loaded.labels) == (SPEC, LABELS)
    assert loaded.model(torch.ones(2, 3, dtype=torch.int64)).shape == (2, 2)
