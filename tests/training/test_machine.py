"""The device that a recipe asks for is taken, or refused."""

from __future__ import annotations

import pytest
import torch

from marwright.recipe.errors import TrainError
from marwright.training.machine import choose_device

pytestmark = pytest.mark.torch


def test_the_device_is_chosen_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(TrainError, match=r'set \[fit\] device = "auto"'):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == choose_device("cuda").type == "cuda"
    assert choose_device("cpu").type == "cpu"
