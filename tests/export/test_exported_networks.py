"""Networks as people write them: both exports answer as they do, or a sentence says what is wrong.

The sentence has the line of the source, the operator where it is one, and a remedy; nothing of an
exporter's own traceback.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, weight_norm
from torch.utils.checkpoint import checkpoint

from marwright.export.error import told_as_export_error
from marwright.export.to_onnx import export_onnx
from marwright.export.trace import trace
from marwright.parity.backends import onnx_backend, reference_backend, traced_backend
from marwright.recipe.errors import ExportError
from marwright.training.examples import drawn
from marwright.training.inference import for_inference
from tests.export import beside

pytestmark = [
    pytest.mark.torch,
    pytest.mark.onnx,
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*quantization is deprecated:DeprecationWarning"),
    # What an encoder says of itself when it is made, and the exporter of what it goes through.
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning"),
]

IMAGE, STEPS, ROW, TEXT = (1, 8, 8), (5, 4), (4,), (16,)
Forward = Callable[[Any, torch.Tensor], Any]
# A layer that no network holds.
OTHERS = [nn.Linear(4, 4)]


class Network(nn.Module):
    """A layer of one's own, or none, in a forward, and a head."""

    def __init__(self, forward: Forward, layer: nn.Module | None = None, features: int = 4) -> None:
        super().__init__()
        self.layer = nn.Identity() if layer is None else layer
        self.head = nn.Linear(features, 3)
        self._forward = forward

    def forward(self, inputs: torch.Tensor) -> Any:
        return self._forward(self, inputs)


class OfTexts(nn.Module):
    """A masked encoder of texts: in eval mode torch would take nested tensors for it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, 4, padding_idx=0)
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        padding = ids == 0
        values = self.encoder(self.embedding(ids), src_key_padding_mask=padding)
        there = (~padding).unsqueeze(2)
        outputs: torch.Tensor = self.head((values * there).sum(1) / there.sum(1).clamp(min=1))
        return outputs


class AnyArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, *inputs: torch.Tensor, **_: Any) -> torch.Tensor:
        outputs: torch.Tensor = self.head(inputs[0])
        return outputs


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, rows: torch.Tensor) -> torch.Tensor:
        return rows.sign()

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


@torch.compile(backend="eager")
def doubled(rows: torch.Tensor) -> torch.Tensor:
    return rows * 2


def through(layer: nn.Module, features: int = 4) -> Network:
    return Network(lambda net, rows: net.head(net.layer(rows)), layer, features)


def pruned() -> nn.Module:
    layer = nn.Linear(4, 4)
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


def with_partial() -> nn.Module:
    network = through(nn.ReLU())
    network.forward = functools.partial(network.forward)
    return network


def hooked(hook: Callable[..., Any], kind: str = "register_forward_hook") -> nn.Module:
    layer = nn.Linear(4, 4)
    getattr(layer, kind)(hook)
    return through(layer)


def kept(module: nn.Module, _: Any, output: torch.Tensor) -> None:
    module.kept = output


def without_gradients(net: Any, rows: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        values = net.layer(rows)
    return net.head(values)


def attended(net: Any, steps: torch.Tensor) -> torch.Tensor:
    return net.head(net.layer(steps, steps, steps)[0].mean(1))


WORK: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "orthogonal": (lambda: through(parametrizations.orthogonal(nn.Linear(4, 4))), ROW),
    "spectral norm": (lambda: through(parametrizations.spectral_norm(nn.Linear(4, 4))), ROW),
    "weight norm of old": (lambda: through(weight_norm(nn.Linear(4, 4))), ROW),
    "pruned": (lambda: through(pruned()), ROW),
    "torch.compile": (lambda: through(torch.compile(nn.Linear(4, 4), backend="eager")), ROW),
    "compiled function": (
        lambda: Network(lambda net, rows: net.head(doubled(rows))), ROW,
    ),
    "DataParallel": (lambda: nn.DataParallel(nn.Linear(4, 3)), ROW),
    "any arguments": (AnyArguments, ROW),
    "partial forward": (with_partial, ROW),
    "GraphModule": (lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 3))), ROW),
    "masked encoder": (OfTexts, TEXT),
    "attention": (
        lambda: Network(attended, nn.MultiheadAttention(4, 2, batch_first=True)), STEPS,
    ),
    "LSTM both ways": (
        lambda: Network(
            lambda net, steps: net.head(net.layer(steps)[0][:, -1]),
            nn.LSTM(4, 4, batch_first=True, bidirectional=True), 8,
        ), STEPS,
    ),
    "hook that doubles": (lambda: hooked(lambda _, __, output: output * 2), ROW),
    "hook for training": (lambda: hooked(lambda m, _, out: out * 2 if m.training else None), ROW),
    "hook that keeps": (lambda: hooked(kept), ROW),
    "hook for gradients": (lambda: hooked(lambda *_: None, "register_full_backward_hook"), ROW),
    "inference mode": (lambda: Network(without_gradients, nn.Linear(4, 4)), ROW),
    "checkpoint": (
        lambda: Network(
            lambda net, rows: net.head(checkpoint(net.layer, rows, use_reentrant=False)),
            nn.Linear(4, 4),
        ), ROW,
    ),
    "fft": (lambda: Network(lambda net, rows: net.head(torch.fft.fft(rows).abs())), ROW),
    "interpolated": (
        lambda: Network(
            lambda net, images: net.head(
                functional.interpolate(images, size=(4, 4), mode="bicubic").flatten(1)
            ),
            features=16,
        ), IMAGE,
    ),
    "in place": (lambda: Network(lambda net, rows: net.head(rows.mul_(2))), ROW),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Converting a tensor:torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", WORK)
def test_both_exports_answer_as_the_network_does(tmp_path: Path, kind: str) -> None:
    build, shape = WORK[kind]
    torch.manual_seed(1)
    network, dtype = build(), "int64" if shape == TEXT else "float32"
    for batch in (1, 3):
        inputs = drawn(batch, shape, dtype, torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = network.eval()(inputs.clone()).numpy() if batch == 1 else None
        network = for_inference(network)
        reference = reference_backend(network)(inputs.numpy())
        assert expected is None or np.allclose(reference, expected, atol=1e-5)
    traced = traced_backend(trace(network, shape, tmp_path, dtype=dtype), inputs.numpy())
    sizes = {0: ("length", 1, 16)} if shape == TEXT else None
    path = export_onnx(network, shape, 20, tmp_path, dtype=dtype, dynamic=sizes)
    for run in (traced, onnx_backend(path, optimised=True, threads=1, dtype=dtype)):
        assert np.allclose(run(inputs.numpy()), reference, atol=1e-5)


def autocast(net: Any, rows: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return net.head(rows).float()


def gradient(net: Any, rows: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        rows = rows.detach().requires_grad_()
        [found] = torch.autograd.grad(net.layer(rows).square().sum(), rows)
    return net.head(found)


def packed(net: Any, steps: torch.Tensor) -> torch.Tensor:
    lengths = torch.full((len(steps),), 5)
    sequence = nn.utils.rnn.pack_padded_sequence(steps, lengths, batch_first=True)
    return net.head(net.layer(sequence)[1][-1])


def nested(net: Any, steps: torch.Tensor) -> torch.Tensor:
    return net.head(torch.nested.nested_tensor([*steps]).to_padded_tensor(0.0).mean(1))


def traced_only(net: Any, rows: torch.Tensor) -> torch.Tensor:
    if torch.jit.is_tracing():
        raise KeyError("layer3")
    return net.head(rows)


LINE = r"tests/export/test_exported_networks\.py:\d+"
NO_ONNX = f"^the model cannot be exported to ONNX: {LINE}: "
# What trace or export says, whichever comes first, as for a recipe.
REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "adaptive_max_pool2d": (
        lambda: Network(
            lambda net, i: net.head(functional.adaptive_max_pool2d(i, 3).flatten(1)), features=9
        ), IMAGE,
        rf"{NO_ONNX}aten\.adaptive_max_pool2d has no ONNX operator: use max_pool2d with a fixed",
    ),
    "median": (
        lambda: Network(lambda net, i: net.head(i.flatten(2).median(1)[0]), features=64), IMAGE,
        rf"{NO_ONNX}aten\.median\.dim has no ONNX operator: use the middle of torch\.sort",
    ),
    "scripted": (
        lambda: through(torch.jit.script(nn.Linear(4, 4))), ROW,
        r"^layer \(Linear\) is made by torch\.jit\.script or torch\.jit\.trace, .*: give the modul",
    ),
    "scripted as a whole": (
        lambda: torch.jit.script(nn.Linear(4, 3)), ROW, r"^the network \(Linear\) is made by torch",
    ),
    "singular values": (
        lambda: Network(
            lambda net, r: net.head(torch.linalg.svdvals(r.view(-1, 2, 2)).repeat(1, 2))
        ), ROW,
        rf"{NO_ONNX}aten\._linalg_svd has no ONNX operator: compute it from other operators",
    ),
    "cdist": (
        lambda: Network(lambda net, rows: torch.cdist(rows, net.head.weight)), ROW,
        rf"{NO_ONNX}aten\._cdist_forward has no ONNX operator: use \(\(a\[:, None\] - b\) \*\* 2\)",
    ),
    "histc": (
        lambda: Network(lambda net, rows: net.head(rows + torch.histc(rows, 4))), ROW,
        rf"{NO_ONNX}aten\.histc cannot be translated to ONNX \(.*\): use sums of comparisons",
    ),
    "lgamma": (
        lambda: Network(lambda net, rows: net.head(torch.lgamma(rows.abs() + 1))), ROW,
        rf"{NO_ONNX}aten\.lgamma has no ONNX operator: compute it from other operators$",
    ),
    "cumprod": (
        lambda: Network(lambda net, rows: net.head(rows.cumprod(1))), ROW,
        rf"{NO_ONNX}aten\.cumprod has no ONNX operator: use the exponential of a cumsum of",
    ),
    "own Function": (
        lambda: Network(lambda net, rows: net.head(Straight.apply(rows))), ROW,
        rf"cannot be traced: {LINE}: TorchScript cannot keep a function that is written in Python",
    ),
    "reentrant checkpoint": (
        lambda: Network(
            lambda net, rows: net.head(checkpoint(net.layer, rows, use_reentrant=True)),
            nn.Linear(4, 4),
        ), ROW,
        rf"cannot be traced: {LINE}: TorchScript cannot keep .*use_reentrant=False",
    ),
    "autocast": (lambda: Network(autocast), ROW, rf"^{LINE} turns autocast on in forward"),
    "branch": (
        lambda: Network(lambda net, rows: net.head(rows if rows.sum() > 0 else -rows)), ROW,
        rf"^{LINE}: the model decides by its data, .*use torch\.where in place of a branch",
    ),
    "layer in a list": (
        lambda: Network(lambda net, rows: net.head(OTHERS[0](rows))), ROW,
        rf"cannot be traced: {LINE}: a weight that is no part of .* in an nn\.ModuleList, not in a",
    ),
    "torch.cond": (
        lambda: Network(
            lambda net, r: torch.cond(r.sum() > 0, torch.sin, torch.cos, (r,))[:, :3]
        ), ROW,
        rf"cannot be traced: {LINE}: .*torch\.where in place of torch\.cond",
    ),
    "gradient": (
        lambda: Network(gradient, nn.Linear(4, 4)), ROW, "the traced module differs from the model",
    ),
    "packed": (
        lambda: Network(packed, nn.GRU(4, 4, batch_first=True)), STEPS,
        rf"^{LINE}: the model decides by its data",
    ),
    "nested": (lambda: Network(nested), STEPS, rf"the traced module fails at batch 1.*{LINE}: I"),
    "rows by a loop": (
        lambda: Network(lambda net, rows: torch.stack([net.head(row) for row in rows])), ROW,
        rf"the traced module fails at batch 1: .*{LINE}: Iterating over a tensor",
    ),
    "error while traced": (
        lambda: Network(traced_only), ROW,
        rf"^the model cannot be traced: {LINE}: KeyError: 'layer3': forward must do the same",
    ),
    "otherwise when traced": (
        lambda: Network(lambda net, rows: net.head(rows) * (1 + torch.jit.is_tracing())), ROW,
        r"differs from the model at batch 1 .* or one on torch\.jit\.is_tracing\(\)",
    ),
    "too deep": (
        lambda: Network(lambda net, rows: deep(net, rows)), ROW,
        rf"^the model fails in eval mode: {LINE}: RecursionError: calls are nested too deeply",
    ),
}  # fmt: skip


def deep(net: Any, rows: torch.Tensor) -> torch.Tensor:
    return deep(net, rows)


@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning", "ignore:The PyTorch API of nested")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_exported_is_said_in_a_sentence(tmp_path: Path, kind: str) -> None:
    build, shape, said = REFUSED[kind]
    with pytest.raises(ExportError, match=said) as refusal:
        network = build()
        trace(network, shape, tmp_path)
        export_onnx(network, shape, 20, tmp_path)
    text = str(refusal.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 450
    for junk in ("stack trace", "Traceback", "issue", "site-packages", "FakeTensor", "http"):
        assert junk not in text, text


def test_what_onnxruntime_cannot_load_is_no_export(tmp_path: Path) -> None:
    """An operator that ONNX has in this type, and onnxruntime has no kernel for."""
    with pytest.raises(ExportError) as refusal:
        export_onnx(Network(lambda net, r: net.head(torch.det(r.view(-1, 2, 2).double())
                                                    .float()[:, None].repeat(1, 4))),
                    ROW, 20, tmp_path)  # fmt: skip
    assert "onnxruntime cannot run what the model exports to: " in str(refusal.value)


def test_a_layer_that_is_no_part_of_its_network_is_told_as_that() -> None:
    """Kept in a list, it neither trains nor follows the network to float64."""
    network = Network(lambda net, pixels: net.head(net.others[0](pixels).mean(1).flatten(1)))
    network.others = [nn.Conv2d(1, 2, 7)]  # type: ignore[assignment]
    with (
        pytest.raises(ExportError, match=rf"^the gate: {LINE}.*: keep layers in an nn\.ModuleList"),
        told_as_export_error("the gate", network),
    ):
        reference_backend(for_inference(network))(torch.zeros(2, *IMAGE).numpy())


# --- the line is the innermost of a person's own --------------------------------------------


def here(rows: torch.Tensor) -> torch.Tensor:
    rows = rows.abs() + 1
    return torch.lgamma(rows)


def deeper_here(rows: torch.Tensor) -> torch.Tensor:
    return here(rows) + 1


of_a_lambda = lambda rows: torch.lgamma(rows.abs() + 1)  # noqa: E731


def nested_function(rows: torch.Tensor) -> torch.Tensor:
    def inner(values: torch.Tensor) -> torch.Tensor:
        return torch.lgamma(values.abs() + 1)

    return inner(rows)


class WithMethod(Network):
    def helper(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.lgamma(rows.abs() + 1)


def hook(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
    return torch.lgamma(output.abs() + 1)


def last_line(code: Any, *, before: int = 0) -> str:
    lines, first = inspect.getsourcelines(code)
    file = "beside.py" if code.__module__.endswith("beside") else "test_exported_networks.py"
    return rf"tests/export/{file}:{first + len(lines) - 1 - before}"


def with_helper(helper: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    return Network(lambda net, rows: net.head(helper(rows)))


ONNX_LINES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "function of the same file": (lambda: with_helper(here), last_line(here)),
    "function of a function": (lambda: with_helper(deeper_here), last_line(here)),
    "lambda": (lambda: with_helper(of_a_lambda), last_line(of_a_lambda)),
    "nested function": (
        lambda: with_helper(nested_function), last_line(nested_function, before=2),
    ),
    "method": (
        lambda: WithMethod(lambda net, rows: net.head(net.helper(rows))),
        last_line(WithMethod.helper),
    ),
    "second file": (
        lambda: with_helper(beside.without_onnx), last_line(beside.without_onnx),
    ),
    "submodule's forward": (lambda: through(beside.Deeper()), last_line(beside.Deeper.forward)),
    "function of a submodule": (
        lambda: through(nn.Sequential(Network(lambda net, rows: here(rows)))), last_line(here),
    ),
    "hook": (lambda: hooked(hook), last_line(hook)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ONNX_LINES)
def test_operator_without_onnx_is_told_at_the_innermost_line(tmp_path: Path, kind: str) -> None:
    build, line = ONNX_LINES[kind]
    with pytest.raises(ExportError, match=rf"to ONNX: {line}[:,].*aten\.lgamma has no ONNX operat"):
        export_onnx(build(), ROW, 20, tmp_path)


def test_network_of_torchs_own_layers_is_not_told_at_its_callers_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"to ONNX: 0 \(RReLU\): aten\."):
        export_onnx(nn.Sequential(nn.RReLU(), nn.Linear(4, 3)), ROW, 20, tmp_path)


@pytest.mark.parametrize(
    ("helper", "said"),
    [
        (beside.by_float64, r"aten\.det: onnxruntime cannot run"),
        (beside.of_two_dtypes, r"aten\.matmul: model\.onnx: the ONNX checker refuses it: .*: comp"),
    ],
)
def test_what_onnx_refuses_of_a_helper_is_told_at_its_line(
    tmp_path: Path, helper: Callable[..., Any], said: str
) -> None:
    with pytest.raises(ExportError, match=rf"^{last_line(helper)}: {said}"):
        export_onnx(with_helper(helper), ROW, 20, tmp_path)


@pytest.mark.parametrize(
    ("helper", "said"),
    [
        (beside.by_a_function, "the model cannot be traced: {line}: TorchScript cannot keep"),
        (beside.only_while_traced, "the model cannot be traced: {line}: KeyError: 'layer3'"),
        (beside.of_two_rows, "{line}: the traced module fails at batch 1: does the model bake"),
        (beside.by_values, "{line}: the model decides by its data"),
        (beside.of_two_dtypes, "the model fails in eval mode: {line}: its tensors are not of one"),
    ],
)
def test_what_a_trace_cannot_follow_is_told_at_the_innermost_line(
    tmp_path: Path, helper: Callable[..., Any], said: str
) -> None:
    with pytest.raises(ExportError, match=f"^{said.format(line=last_line(helper))}"):
        trace(with_helper(helper), ROW, tmp_path)


def by_spatial_size(rows: torch.Tensor) -> torch.Tensor:
    normed = functional.instance_norm(rows[:, None])[:, 0]
    return normed.repeat(2, 1)[:2] if torch.jit.is_tracing() else normed


def test_warning_from_within_torch_is_told_at_the_line_that_called_it(tmp_path: Path) -> None:
    line = last_line(by_spatial_size, before=1)
    with pytest.raises(ExportError, match=rf"at batch 1 .*\({line}: Converting a tensor to a Pyth"):
        trace(with_helper(by_spatial_size), ROW, tmp_path)
