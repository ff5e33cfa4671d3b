"""What training leaves on a network is gone before it is traced, exported or judged."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from marwright.export.purity import refuse_changed
from marwright.parity.backends import eager_backend, reference_backend
from marwright.recipe.errors import ExportError
from marwright.training.inference import for_inference, inference
from marwright.training.machine import set_determinism
from marwright.training.places import made_at, noting_where_made

pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("calm_torch"),
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
]

ROWS = torch.randn(3, 4, generator=torch.Generator().manual_seed(5))


class Symmetric(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).T


class Noisy(nn.Module):
    """A random mask of weights that nobody turns off."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * torch.rand_like(weight)


def symmetric() -> nn.Module:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


def pruned() -> nn.Module:
    layer = nn.Linear(4, 4)
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.random_unstructured(layer, "weight", 0.5)
    return layer


COMPUTED: dict[str, Callable[[], nn.Module]] = {
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "two at once": lambda: parametrizations.spectral_norm(
        parametrizations.weight_norm(nn.Linear(4, 4))
    ),
    "weight norm of old": lambda: weight_norm(nn.Linear(4, 4)),
    "spectral norm of old": lambda: spectral_norm(nn.Linear(4, 4)),
    "pruned twice": pruned,
    "their own": symmetric,
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights_become_plain_ones_that_answer_the_same(kind: str) -> None:
    network = nn.Sequential(COMPUTED[kind](), nn.ReLU(), nn.Linear(4, 2))
    network(ROWS)
    with torch.no_grad():
        expected = network.eval()(ROWS)
    prepared = for_inference(network.train())
    assert prepared is network
    assert sorted(prepared.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert torch.allclose(prepared(ROWS), expected, atol=1e-6)
    assert not prepared[0]._forward_pre_hooks
    # Nothing is left that copies, or float64, would trip over.
    reference = reference_backend(copy.deepcopy(prepared))(ROWS.numpy())
    assert abs(torch.from_numpy(reference) - expected).max() < 1e-5


def test_a_second_time_changes_nothing() -> None:
    network = for_inference(nn.Sequential(COMPUTED["orthogonal"](), nn.Linear(4, 2)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert for_inference(network) is network
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_parameter_that_is_shared_is_not_written_into() -> None:
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    parametrize.register_parametrization(one, "weight", Symmetric())
    network = nn.Sequential(one, other)
    expected = network(ROWS).detach()
    assert torch.allclose(for_inference(network)(ROWS), expected, atol=1e-6)


def test_a_parametrisation_that_is_random_is_refused() -> None:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Noisy())
    with pytest.raises(ExportError, match=r"^0 \(ParametrizedLinear\): the parametrisation of wei"):
        for_inference(nn.Sequential(layer))


def test_a_preparation_that_changes_answers_is_refused() -> None:
    """A layer may compute with other weights than it shows, as from a list that it keeps."""

    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = symmetric()
            self.kept = [self.layer.parametrizations.weight.original]

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows @ self.kept[0]

    assert refuse_changed(nn.Sequential(symmetric()), for_inference, ROWS)
    network = Keeping()

    def prepared(model: nn.Module) -> nn.Module:
        model = for_inference(model)
        network.kept = [network.layer.weight]
        return model

    with pytest.raises(ExportError, match="do not compute with the weights that they show"):
        refuse_changed(network, prepared, ROWS)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_keep_computing_with_their_parametrised_weights(
    kind: type[nn.Module],
) -> None:
    layer = kind(4, 4, batch_first=True)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    with torch.no_grad():
        layer.parametrizations["weight_hh_l0"].original0 *= 3
        expected = layer(ROWS[None])[0]
    copied = kind(4, 4, batch_first=True)
    copied.load_state_dict(for_inference(layer).state_dict())
    assert torch.allclose(layer(ROWS[None])[0], expected, atol=1e-6)
    assert torch.allclose(copied(ROWS[None])[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, lambda layer: nn.DataParallel(nn.DataParallel(layer)), torch.compile],
    ids=["DataParallel", "twice", "compile"],
)
def test_wrappers_are_taken_off(wrap: Any) -> None:
    layer = nn.Linear(4, 4)
    assert for_inference(wrap(layer)) is layer
    inside = for_inference(nn.Sequential(wrap(layer), nn.ReLU()))
    assert inside[0] is layer
    assert sorted(inside.state_dict()) == ["0.bias", "0.weight"]


def test_what_is_compiled_runs_as_it_was_written() -> None:
    """In place, as an attribute, and decorated where it is defined: none reaches the compiler."""

    def never(*_: Any) -> Any:
        raise AssertionError("it was compiled")

    @torch.compile(backend=never)
    def doubled(rows: torch.Tensor) -> torch.Tensor:
        return rows * 2

    class Compiled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.layer.compile(backend=never)
            self.function = torch.compile(lambda rows: rows + 1, backend=never)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = doubled(self.function(self.layer(rows)))
            return outputs

    network = Compiled()
    assert eager_backend(network)(ROWS.numpy()).shape == (3, 4)
    assert reference_backend(network)(ROWS.numpy()).shape == (3, 4)


def test_hooks_that_compute_stay_and_those_of_gradients_go() -> None:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda _, __, outputs: outputs * 2)
    layer.register_full_backward_hook(lambda *_: None)
    layer.register_full_backward_pre_hook(lambda *_: None)
    plain = copy.deepcopy(layer)
    plain._forward_hooks.clear()
    network = for_inference(layer)
    assert torch.allclose(network(ROWS), 2 * plain(ROWS), atol=1e-6)
    assert not network._backward_hooks
    assert not network._backward_pre_hooks
    assert not any(parameter.requires_grad for parameter in network.parameters())


class Pinned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def train(self, mode: bool = True) -> Pinned:
        return super().train(True)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.drop(rows)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: torch.jit.script(nn.Linear(4, 4)), r"0 \(Linear\) is made by torch.jit.script or"),
        (
            lambda: torch.jit.trace(nn.Linear(4, 4), ROWS),
            r"0 \(Linear\) is made by torch.jit.script or torch.jit.trace, .*give the module its",
        ),
        (Pinned, r"0 \(Pinned\) stays in training mode after eval\(\): let its train\(mode\)"),
        (
            lambda: nn.BatchNorm1d(4, track_running_stats=False),
            r"0 \(BatchNorm1d\) keeps no running statistics, .*set track_running_stats=True",
        ),
    ],
    ids=["scripted", "traced", "pinned", "no statistics"],
)
def test_what_cannot_be_prepared_is_named(module: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        for_inference(nn.Sequential(module()))


def test_a_module_is_named_with_the_line_that_made_it() -> None:
    with noting_where_made():
        line = sys._getframe().f_lineno + 1
        network = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False))
    assert made_at(network[0]) == f"tests/training/test_inference.py:{line}"
    with pytest.raises(
        ExportError, match=rf"^tests/training/test_inference\.py:{line}: 0 \(BatchNor"
    ):
        for_inference(network)


def test_attention_takes_no_other_way_in_eval_mode() -> None:
    """Training's process, and each that exports or judges, has the fast paths off."""
    for turn_off in (
        lambda: set_determinism(0, 1),
        lambda: for_inference(nn.Linear(1, 1)),
        lambda: inference().__enter__(),
    ):
        torch.backends.mha.set_fastpath_enabled(True)
        turn_off()
        assert not torch.backends.mha.get_fastpath_enabled()


def test_padding_is_not_zeroed_behind_the_back_of_an_encoder() -> None:
    """With nested tensors an encoder would give zeros, and be shorter, where all are padded."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    network = for_inference(nn.TransformerEncoder(layer, 1))
    mask = torch.tensor([[False, False, True], [False, True, True]])
    with inference():
        outputs = network(torch.randn(2, 3, 4), src_key_padding_mask=mask)
    assert outputs.shape == (2, 3, 4)
    assert (outputs[mask] != 0).all()
