"""What processes that train together say of themselves; pipeline/test_torchrun.py runs them."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch


def test_batch_norms_on_cpus_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch import nn

    from marwright.training import together

    cpu = torch.device("cpu")
    plain, normed = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert together.with_synchronised_norms(normed, cpu) == (normed, "")
    monkeypatch.setattr(together, "size", lambda: 2)
    assert together.with_synchronised_norms(plain, cpu) == (plain, "")
    same, note = together.with_synchronised_norms(normed, cpu)
    assert same is normed
    assert "each process's own part" in note
    assert "cannot synchronise" in note
    synchronised, note = together.with_synchronised_norms(normed, torch.device("cuda"))
    assert isinstance(synchronised, nn.Sequential)
    assert isinstance(synchronised[1], nn.SyncBatchNorm)
    assert note == ""


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from marwright.recipe.errors import TrainError
    from marwright.training import together

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert together.own_gpu(torch.device("cuda")) == torch.device("cuda", 0)
    assert together.own_gpu(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(TrainError, match="a GPU of its own, and here are 1"):
        together.own_gpu(torch.device("cuda"))
