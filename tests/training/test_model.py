"""A factory's network is tried before it is trained."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from marwright.recipe.errors import RecipeError
from marwright.recipe.types import varied
from marwright.training.model import build_model
from tests.training.conftest import ModuleMaker, image_recipe, table_recipe
from tests.training.texts import text_recipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


@pytest.mark.parametrize(
    ("shape", "outputs"), [((1, 8, 8), 10), ((3, 9, 11), 2), ((1, 28, 28), 10), ((1, 4, 4), 3)]
)
def test_the_small_cnn_takes_images(shape: tuple[int, ...], outputs: int) -> None:
    model = build_model(image_recipe(), Path(), shape, outputs)
    assert model(torch.randn(5, *shape)).shape == (5, outputs)


def test_the_mlp_takes_rows() -> None:
    model = build_model(table_recipe(params={"hidden": 7}), Path(), (10,), 1)
    assert model(torch.randn(5, 10)).shape == (5, 1)
    assert [p.shape for p in model.parameters()] == [(7, 10), (7,), (1, 7), (1,)]


def test_params_reach_the_factory() -> None:
    model = build_model(image_recipe(params={"width": 3, "dropout": 0.75}), Path(), (1, 8, 8), 2)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.75}
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == [3, 3, 6]


def test_what_is_built_trains_and_was_not_touched_by_the_trial() -> None:
    torch.manual_seed(0)
    model = build_model(image_recipe(), Path(), (1, 8, 8), 2)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        assert norm.running_mean is not None
        assert not norm.running_mean.any()
        assert norm.num_batches_tracked == 0
    after = torch.get_rng_state()
    torch.manual_seed(0)
    from marwright.training.models import small_cnn

    small_cnn.build((1, 8, 8), 2, width=4)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"hidden": -1}, "negative dimension"),
        ({"hidden": "many"}, "must be tuple of ints"),
        ({"dropout": 1.5}, "dropout probability"),
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
    ],
)
def test_params_that_the_factory_refuses_are_named(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason) as caught:
        build_model(table_recipe(params=params), Path(), (10,), 1)
    said = str(caught.value)
    assert said.startswith("archive/tiny.toml: [model.params]: marwright/training/models/mlp.py")
    assert f" refuses {params} for samples of shape (10,): " in said
    # An argument that there is not never reaches the file.
    assert (", line " in said) == ("depth" not in params)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")
@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        # Rows for a network of images, images for one of rows, and images that are too small.
        (table_recipe(), (1, 8, 8)),
        (image_recipe(), (1, 2, 2)),
        (image_recipe(), (10,)),
    ],
)
def test_a_network_of_other_samples_is_named(recipe: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match=r"^archive/tiny\.toml: \[model") as caught:
        build_model(recipe, Path(), shape, 2)
    assert f"marwright/training/models/{recipe.model.factory}.py" in str(caught.value)


class Merged(nn.Module):
    """Mixes the samples of a batch: what a reshape with a wrong number does."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.reshape(1, -1)[:, :1]


class Failing(nn.Module):
    """Fails on its first sample, in a way of its own."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        raise self.error


# The factory's file does not hold this class: its line is told too.
LINES, FIRST = inspect.getsourcelines(Failing.forward)
AT = f" (tests/training/test_model.py:{FIRST + len(LINES) - 1})"


class Pair(nn.Module):
    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rows[:, :1], rows


@pytest.mark.parametrize(
    ("built", "said"),
    [
        (None, "builds no nn.Module but NoneType"),
        (lambda rows: rows, "builds no nn.Module but function"),
        (nn.Identity(), "gives (3, 4) for three samples, not (3, 1)"),
        (nn.Flatten(0), "gives (12,) for three samples, not (3, 1)"),
        (Merged(), "gives (1, 1) for three samples, not (3, 1)"),
        (Pair(), "gives tuple for three samples, not (3, 1)"),
        (Failing(KeyError("a")), f"does not take samples of shape (4,): KeyError: 'a'{AT}"),
        (
            Failing(ZeroDivisionError("b")),
            f"does not take samples of shape (4,): ZeroDivisionError: b{AT}",
        ),
        (Failing(RuntimeError("c")), f"does not take samples of shape (4,): c{AT}"),
        (Failing(SystemExit(0)), f"does not take samples of shape (4,): SystemExit: 0{AT}"),
    ],
)
def test_a_factory_that_builds_something_else_is_named(
    make_module: ModuleMaker, built: Any, said: str
) -> None:
    make_module("marwright.training.models.mlp", build=lambda shape, outputs: built)
    with pytest.raises(RecipeError) as caught:
        build_model(table_recipe(), Path(), (4,), 1)
    assert (
        str(caught.value)
        == f"archive/tiny.toml: [model] factory: marwright/training/models/mlp.py {said}"
    )


class Backwards(nn.Module):
    """Its head is registered first, and called last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 1)
        self.body = nn.Linear(4, 6)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(rows))


def test_a_head_that_is_registered_first_is_refused_where_it_matters(
    make_module: ModuleMaker,
) -> None:
    make_module("marwright.training.models.mlp", build=lambda shape, outputs: Backwards())
    plain = table_recipe()
    assert isinstance(build_model(plain, Path(), (4,), 1), Backwards)
    said = "head is called last, and body is registered last and taken for the head"
    for settings in ({"transfer.freeze": "body"}, {"model.init_from": "recipe:other"}):
        with pytest.raises(RecipeError, match=said):
            build_model(varied(plain, settings), Path(), (4,), 1)


# --- texts ----------------------------------------------------------------------------------


class Texts(nn.Module):
    """Texts to two values, by their embeddings; how is what a test is about."""

    def __init__(self, how: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, 2)
        self.how = how

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.how(self.embedding(ids), (ids != 0).unsqueeze(2))


def masked_mean(features: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    return (features * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


@pytest.mark.parametrize("factory", ["text_cnn", "text_gru"])
def test_a_network_of_texts_is_tried_with_texts(factory: str) -> None:
    torch.manual_seed(0)
    model = build_model(text_recipe(factory=factory), Path(), (40,), 3)
    assert all(module.training for module in model.modules())
    assert model(torch.ones(5, 7, dtype=torch.int64)).shape == (5, 3)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda features, there: features.mean(dim=1), "answers a text otherwise when padding"),
        (lambda features, there: features.amax(dim=1), "answers a text otherwise when padding"),
        (lambda features, there: features[:, -1], "answers a text otherwise when padding"),
        (
            lambda features, there: masked_mean(features, there) + features[:, 39],
            "than 40 bytes: IndexError: index 39 is out of bounds",
        ),
        (lambda features, there: features, r"gives \(3, 40, 2\) for three samples"),
    ],
)
def test_a_network_that_does_not_mask_padding_is_refused(
    make_module: ModuleMaker, how: Any, said: str
) -> None:
    make_module("marwright.training.models.text_cnn", build=lambda *_, **__: Texts(how))
    with pytest.raises(RecipeError, match=said):
        build_model(text_recipe(), Path(), (40,), 2)


def test_a_network_that_masks_padding_is_taken(make_module: ModuleMaker) -> None:
    make_module("marwright.training.models.text_cnn", build=lambda *_, **__: Texts(masked_mean))
    assert isinstance(build_model(text_recipe(), Path(), (40,), 2), Texts)


def test_the_trial_of_texts_draws_no_chance_of_training() -> None:
    from marwright.training.models import text_cnn

    states = []
    for build in (
        lambda: build_model(text_recipe(), Path(), (40,), 2),
        lambda: text_cnn.build((40,), 2, width=4),
    ):
        torch.manual_seed(0)
        build()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_network_without_parameters_is_refused(make_module: ModuleMaker) -> None:
    make_module("marwright.training.models.mlp", build=lambda shape, outputs: Nothing())
    with pytest.raises(RecipeError, match=r"mlp\.py builds a network without parameters"):
        build_model(table_recipe(), Path(), (4,), 1)


class Nothing(nn.Module):
    """Answers with the first column."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows[:, :1]
