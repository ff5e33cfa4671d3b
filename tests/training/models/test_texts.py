"""Networks of texts: padding changes nothing, whatever the length, in every form they ship in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from marwright.export.to_onnx import export_onnx
from marwright.export.trace import trace
from marwright.parity.backends import onnx_backend
from marwright.recipe.types import Precision
from marwright.runtime.spec import IDS, PADDING
from marwright.training.models import text_cnn, text_gru
from marwright.training.precision import in_precision
from marwright.training.stages import stages_of

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

LONGEST = 24
Make = Callable[[], nn.Module]


def cnn() -> nn.Module:
    return text_cnn.build((LONGEST,), 3, width=8).eval()


def gru() -> nn.Module:
    return text_gru.build((LONGEST,), 3, width=8, hidden=12).eval()


BOTH = pytest.mark.parametrize("make", [cnn, gru])


def ids(*lengths: int) -> torch.Tensor:
    """Return texts of these lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(len(lengths))
    rows = torch.randint(1, IDS, (len(lengths), max(lengths)), generator=generator)
    return rows.masked_fill(torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None], PADDING)


@BOTH
@pytest.mark.parametrize("length", [1, 2, 3, 11, LONGEST])
def test_padding_behind_a_text_changes_nothing(make: Make, length: int) -> None:
    # In float64, where nothing hides behind rounding.
    network, text = make().double(), ids(length)
    with torch.no_grad():
        alone = network(text)
        for more in (1, 2, 7, 200):
            padded = network(functional.pad(text, (0, more), value=PADDING))
            assert torch.allclose(padded, alone, rtol=1e-12, atol=1e-12)


@BOTH
def test_padding_changes_nothing_whatever_its_embedding_is(make: Make) -> None:
    """Weights from elsewhere may have one."""
    network, text = make(), ids(5)
    with torch.no_grad():
        network.get_parameter("embedding.weight")[PADDING] = 7.0
        assert torch.allclose(network(functional.pad(text, (0, 9))), network(text), atol=1e-5)


@BOTH
def test_a_row_does_not_depend_on_its_neighbours(make: Make) -> None:
    network, rows = make().double(), ids(1, 9, LONGEST, 4)
    with torch.no_grad():
        together = network(rows)
        for row, length in enumerate((1, 9, LONGEST, 4)):
            alone = network(rows[row : row + 1, :length])
            assert torch.allclose(alone, together[row : row + 1], rtol=1e-12, atol=1e-12)


@BOTH
def test_every_byte_counts(make: Make) -> None:
    network = make()
    text = ids(6)
    with torch.no_grad():
        before = network(text)
        for place in range(6):
            other = text.clone()
            other[0, place] = other[0, place] % (IDS - 1) + 1
            assert (network(other) - before).abs().max() > 1e-4


@BOTH
def test_nothing_but_padding_is_answered_with_numbers(make: Make) -> None:
    """It is what a server warms up with."""
    with torch.no_grad():
        assert torch.isfinite(make()(torch.zeros(2, LONGEST, dtype=torch.int64))).all()


@BOTH
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trace_follows_it_at_every_length(
    make: Make, precision: Precision, tmp_path: Path
) -> None:
    network = make()
    path = trace(network, (LONGEST,), tmp_path, dtype="int64", precision=precision)
    loaded, expected = torch.jit.load(str(path)), in_precision(network, precision)
    for rows in (ids(1), ids(1, 1), ids(3, LONGEST), ids(7, 2, 5), ids(40)):
        with torch.inference_mode():
            assert torch.allclose(loaded(rows), expected(rows), atol=1e-5, rtol=1e-5)


@pytest.mark.onnx
@BOTH
def test_an_onnx_file_takes_every_batch_and_length(make: Make, tmp_path: Path) -> None:
    network = make()
    sizes = {0: ("length", 1, LONGEST)}
    path = export_onnx(network, (LONGEST,), 20, tmp_path, dtype="int64", dynamic=sizes)
    for optimised in (False, True):
        run = onnx_backend(path, optimised=optimised, threads=1, dtype="int64")
        for rows in (ids(1), ids(1, 1), ids(LONGEST), ids(3, LONGEST, 1), ids(7, 2, 5)):
            with torch.inference_mode():
                expected = network(rows).numpy()
            assert np.allclose(run(rows.numpy()), expected, atol=1e-5, rtol=1e-5)


@BOTH
def test_stages_end_with_the_head(make: Make) -> None:
    names = [stage.name for stage in stages_of(make())]
    assert names[-1] == "head"
    assert len(names) > 1


def test_a_kernel_without_a_middle_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel = 4: it has no middle"):
        text_cnn.build((LONGEST,), 3, kernel=4)
