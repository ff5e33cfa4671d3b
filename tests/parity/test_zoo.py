"""The zoo's two stages over the smallest architecture, and what makes random weights worth it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from marwright.parity import zoo
from marwright.parity.inputs import Domain, Group
from marwright.parity.types import ZooRow
from tests.archive.proven import one_thread

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

# The cheapest of those with batch norm: 14 s of CPU time for both stages.
SMALLEST = "shufflenet_v2_x0_5"
SIDE = 12
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def staged(
    capsys: pytest.CaptureFixture[str], stage: str, folder: Path, name: str = SMALLEST
) -> ZooRow:
    """Run a stage as its process does; returns the one line that it prints."""
    assert zoo.main([stage, name, str(folder), "1"]) == 0
    row: ZooRow = msgspec.json.decode(capsys.readouterr().out.removesuffix("\n"), type=ZooRow)
    assert row.seconds > 0
    assert row.peak_mib > 100
    return row


def test_the_smallest_architecture_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert staged(capsys, "make", tmp_path).ok
    assert {"weights.safetensors", "model.pt", "model.onnx"} <= {p.name for p in tmp_path.iterdir()}
    row = staged(capsys, "gate", tmp_path)
    assert (row.name, row.ok, row.cause, row.divergence) == (SMALLEST, True, "", None)
    assert 0 < row.ratio < 1
    assert 0 < row.far_ratio < 1
    assert 0 < row.float32 < 1e-4
    assert row.signal > 100 * row.float32
    # torchvision's own count is 0.04 G multiplications, and each goes with an addition.
    assert row.gflop == pytest.approx(0.08, rel=0.1)
    # Photographs, edges and drawn ones.
    assert row.inputs > 16


def small() -> nn.Module:
    """A classifier whose head starts at zero, as a ViT's does."""
    head = nn.Linear(8, 10)
    nn.init.zeros_(head.weight)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        head,
    )  # fmt: skip


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """An architecture that takes a second, not fifteen."""
    low, high = (np.full((3, 1, 1), end, np.float32) for end in (-2, 2))
    domain = Domain(shape=(3, SIDE, SIDE), low=low, high=high)
    monkeypatch.setattr(zoo, "build", lambda _: small())
    monkeypatch.setattr(zoo, "domain", lambda _: domain)
    return "tiny"


def test_a_head_that_starts_at_zero_is_no_constant(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert staged(capsys, "make", tmp_path, tiny).ok
    row = staged(capsys, "gate", tmp_path, tiny)
    assert (row.ok, row.cause) == (True, "")
    # Without random weights it would be one, and then the gate says that agreement proves nothing.
    monkeypatch.setattr(zoo, "_wake", lambda _: None)
    staged(capsys, "make", tmp_path, tiny)
    row = staged(capsys, "gate", tmp_path, tiny)
    assert not row.ok
    assert row.cause.startswith("power, checkpoint: ")


def test_a_wrong_weight_fails_and_is_located(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo.main(["make", tiny, str(tmp_path), "1"])
    weights = load_file(tmp_path / "weights.safetensors")
    weights["0.weight"][0, 0, 0, 0] += 0.5
    save_file(weights, tmp_path / "weights.safetensors")
    capsys.readouterr()
    row = staged(capsys, "gate", tmp_path, tiny)
    assert not row.ok
    assert {"origin", "tolerance"} <= {part.split(",")[0] for part in row.cause.split("; ")}
    assert row.ratio > 1
    assert row.divergence is not None
    assert row.divergence.op == "Conv"


def test_what_cannot_be_loaded_is_said_in_the_row(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = staged(capsys, "gate", tmp_path, tiny)
    assert not row.ok
    assert row.cause.startswith("TrainError: weights.safetensors: ")


def test_names_are_those_of_classifiers(capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo.main(["names"]) == 0
    names = capsys.readouterr().out.split()
    assert names == sorted(names)
    assert {SMALLEST, "resnet18", "vit_b_16", "inception_v3"} <= set(names)
    # Of segmentation, detection and video there are others.
    assert not {"fcn_resnet50", "ssd300_vgg16", "r3d_18"} & set(names)


def test_random_weights_go_where_all_are_zero() -> None:
    head, partly, other = nn.Linear(4, 3), nn.Linear(4, 3), nn.Conv2d(1, 1, 1)
    for module in (head, other):
        nn.init.zeros_(module.weight)
    with torch.no_grad():
        partly.weight[:2] = 0
    before = partly.weight.clone()
    zoo._wake(nn.Sequential(nn.Sequential(head), partly, other))
    assert head.weight.all()
    assert 0.002 < head.weight.std().item() < 0.1
    assert torch.equal(partly.weight, before)
    assert not other.weight.any()


def images(count: int) -> Group:
    rows = np.random.default_rng(0).normal(3, 2, size=(count, 2, 5, 5)).astype(np.float32)
    return Group(kind="held-out", rows=rows, names=tuple(str(n) for n in range(count)))


def test_statistics_of_batch_norm_are_those_of_the_images() -> None:
    first, convolution, second = nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    given = images(12)
    # What it starts with must not count.
    first.running_mean.fill_(50)  # type: ignore[union-attr, operator]
    zoo._set_statistics(nn.Sequential(first, convolution, second), given)
    parts = [torch.from_numpy(part) for part in np.split(given.rows, 3)]
    normalised = [
        (part - part.mean((0, 2, 3), keepdim=True))
        / (part.var((0, 2, 3), keepdim=True, correction=0) + first.eps).sqrt()
        for part in parts
    ]
    with torch.no_grad():
        convolved = [convolution(part) for part in normalised]
    for norm, seen in ((first, parts), (second, convolved)):
        held: dict[str, Any] = norm.state_dict()
        means, variances = ([getattr(p, of)((0, 2, 3)) for p in seen] for of in ("mean", "var"))
        torch.testing.assert_close(held["running_mean"], torch.stack(means).mean(0))
        torch.testing.assert_close(held["running_var"], torch.stack(variances).mean(0))
        assert norm.momentum == 0.1


def test_nothing_but_batch_norm_learns() -> None:
    class Sees(nn.Module):
        passes = 0

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            assert not self.training
            self.passes += 1
            return inputs

    sees = Sees()
    zoo._set_statistics(sees, images(6))
    assert sees.passes == 0
    zoo._set_statistics(nn.Sequential(sees, nn.BatchNorm2d(2)), images(6))
    assert sees.passes == 3


def test_photographs_are_crops_in_the_domain_and_the_same_each_time() -> None:
    one, same, other = (zoo.photographs(SMALLEST, 3, seed=seed) for seed in (0, 0, 1))
    images = zoo.domain(SMALLEST)
    assert one.rows.shape == (3, *images.shape) == (3, 3, 224, 224)
    assert one.names == ("crop 0", "crop 1", "crop 2")
    assert ((images.low - 1e-6 <= one.rows) & (one.rows <= images.high + 1e-6)).all()
    assert one.rows.std() > 0.3
    assert (one.rows == same.rows).all()
    assert (one.rows != other.rows).any()


def test_inception_takes_larger_images() -> None:
    assert zoo.domain("inception_v3").shape == (3, 299, 299)


def test_the_committed_table_has_all_and_what_fails_is_explained() -> None:
    table: dict[str, ZooRow] = msgspec.json.decode(
        (REFERENCE / "parity-zoo.json").read_bytes(), type=dict[str, ZooRow]
    )
    assert sorted(table) == zoo.architectures(), "run `marwright parity-zoo`, and commit"
    told = (REFERENCE / "parity.md").read_text(encoding="utf-8")
    failed = [row.name for row in table.values() if not row.ok]
    assert [name for name in failed if f"`{name}`" not in told] == []
