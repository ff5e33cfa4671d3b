"""What a model starts from means the same here: outputs by labels, inputs by columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations

from marwright.recipe.errors import TrainError
from marwright.runtime.spec import TableSpec, TextSpec
from marwright.training.start import Source, from_file, load_start
from marwright.training.weights import save_weights
from tests.specs import numbers

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

ABC = ("a", "b", "c")


def network(features: int = 3, outputs: int = 3, hidden: int = 5) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm1d(features), nn.Linear(features, hidden), nn.ReLU(),
        nn.Linear(hidden, outputs),
    )  # fmt: skip


def source(made: nn.Module, **values: object) -> Source:
    return Source(name="w.pt", weights=made.state_dict(), **values)  # type: ignore[arg-type]


# --- heads ------------------------------------------------------------------------------------


def test_a_head_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(TrainError) as caught:
        load_start(network(), source(network()), ABC)
    said = str(caught.value)
    assert said.startswith("w.pt: nothing says which labels its head (3.weight, 3.bias) tells")
    assert "here they are a, b, c: set [model] init_labels" in said
    for word in ("a list, or a file as index_to_name.json", '"same"', '"other"'):
        assert word in said


def test_a_head_that_does_not_fit_anyway_needs_no_word() -> None:
    start = load_start(network(), source(network(outputs=4)), ABC)
    assert start.initialised == ["3.bias", "3.weight"]


@pytest.mark.parametrize("bias", [True, False])
def test_outputs_in_another_order_are_put_into_ours(bias: bool) -> None:
    made, ours = network().eval(), network().eval()
    if not bias:
        made[3], ours[3] = nn.Linear(5, 3, bias=False), nn.Linear(5, 3, bias=False)
    start = load_start(ours, source(made, answers=("c", "a", "b")), ABC)
    assert start.notes == ["its head's outputs were put into the order of this recipe's labels"]
    rows = torch.randn(7, 3)
    assert torch.equal(ours(rows), made(rows)[:, [1, 2, 0]])


def test_a_norm_behind_the_head_goes_with_it() -> None:
    made, ours = (nn.Sequential(network(), nn.BatchNorm1d(3, affine=False)) for _ in range(2))
    made[1].running_mean += torch.tensor([1.0, 2.0, 3.0])
    load_start(ours, source(made, answers=("c", "a", "b")), ABC)
    rows = torch.randn(7, 3)
    assert torch.equal(ours.eval()(rows), made.eval()(rows)[:, [1, 2, 0]])
    fresh = nn.Sequential(network(), nn.BatchNorm1d(3, affine=False))
    start = load_start(fresh, source(made, answers=("x", "y", "z")), ABC)
    assert "1.running_mean" in start.skipped and fresh[1].running_mean.tolist() == [0, 0, 0]


class Own(nn.Module):
    """A head whose outputs are the second axis of a square matrix: no shape tells."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 3)
        self.head = nn.ParameterList([nn.Parameter(torch.randn(3, 3))])

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.body(rows) @ self.head[0]


def test_a_head_of_another_kind_is_not_turned_around() -> None:
    start = load_start(Own(), source(Own(), answers=("c", "a", "b")), ABC)
    assert start.skipped == {"head.0": "the head of the same labels in another order"}


def test_labels_that_are_there_twice_have_no_order() -> None:
    """As two of ImageNet's do."""
    start = load_start(network(), source(network(), answers=("a", "b", "a")), ("a", "a", "b"))
    assert set(start.skipped.values()) == {"the head of the same labels in another order"}


def test_what_a_recipe_says_of_a_head(tmp_path: Path) -> None:
    made = network().eval()
    torch.save(made.state_dict(), tmp_path / "w.pt")
    rows = torch.randn(7, 3)
    for says, order in (("same", [0, 1, 2]), (["b", "c", "a"], [2, 0, 1])):
        ours = network().eval()
        load_start(ours, from_file(tmp_path / "w.pt", "w.pt", says, ABC), ABC)
        assert torch.equal(ours(rows), made(rows)[:, order])
    start = load_start(network(), from_file(tmp_path / "w.pt", "w.pt", "other", ABC), ABC)
    assert set(start.skipped.values()) == {"the head of other labels"}
    start = load_start(network(), from_file(tmp_path / "w.pt", "w.pt", ["a", "b", "x"], ABC), ABC)
    assert set(start.skipped.values()) == {"the head of other labels, as x"}


SAYS = "archive/tiny.toml: [model] init_labels"


def refusal(tmp_path: Path, made: nn.Module, ours: nn.Module, says: object) -> str:
    torch.save(made.state_dict(), tmp_path / "w.pt")
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    found = from_file(tmp_path / "w.pt", "w.pt", says, ABC, SAYS)  # type: ignore[arg-type]
    with pytest.raises(TrainError) as caught:
        load_start(ours, found, ABC)
    assert all(torch.equal(ours.state_dict()[name], before[name]) for name in before)
    return str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "says", "said"),
    [
        (3, ["a", "b"], "2 labels, and it has 3 outputs"),
        (3, ["a", "b", "c", "d"], "4 labels, and it has 3 outputs"),
        (4, ["a", "b", "c"], "3 labels, and it has 4 outputs"),
        (4, "same", "3 labels, and it has 4 outputs"),
        (1, "same", "3 labels, and it has 1 output"),
    ],
)
def test_labels_of_another_count_than_the_head_has_outputs(
    tmp_path: Path, outputs: int, says: object, said: str
) -> None:
    assert refusal(tmp_path, network(outputs=outputs), network(), says) == (
        f"{SAYS} says that the head of w.pt answers {said} (3.weight): say what each of them "
        'stands for, or "other" to leave the head random'
    )


def parametrised(outputs: int) -> nn.Module:
    made = network(outputs=outputs)
    made[3] = parametrizations.weight_norm(nn.Linear(5, outputs, bias=False))
    return made


@pytest.mark.parametrize("make", [lambda outputs: Own(), parametrised])
def test_a_head_of_another_kind_has_as_many_outputs_as_ours_where_it_fits(
    tmp_path: Path, make: Callable[[int], nn.Module]
) -> None:
    assert "answers 2 labels, and it has 3 outputs" in refusal(
        tmp_path, make(3), make(3), ["a", "b"]
    )


def test_where_the_tensors_do_not_tell_the_count_the_recipe_is_believed(tmp_path: Path) -> None:
    torch.save(parametrised(4).state_dict(), tmp_path / "w.pt")
    found = from_file(tmp_path / "w.pt", "w.pt", ["a", "b", "c", "d"], ABC, SAYS)
    start = load_start(parametrised(3), found, ABC)
    assert set(start.skipped.values()) == {"the head of other labels, as d"}


def test_a_head_of_more_labels_than_ours_is_told_by_one_of_them(tmp_path: Path) -> None:
    torch.save(network(outputs=4).state_dict(), tmp_path / "w.pt")
    found = from_file(tmp_path / "w.pt", "w.pt", ["a", "d", "b", "c"], ABC, SAYS)
    start = load_start(network(), found, ABC)
    assert set(start.skipped.values()) == {"the head of other labels, as d"}


def test_labels_in_another_form_of_unicode_are_the_same(tmp_path: Path) -> None:
    made, ours, nfd = network(outputs=2).eval(), network(outputs=2).eval(), "e\u0301"
    torch.save(made.state_dict(), tmp_path / "w.pt")
    answers, rows = (nfd, "a"), torch.randn(7, 3)
    load_start(ours, from_file(tmp_path / "w.pt", "w", ["a", "\u00e9"], answers), answers)
    assert torch.equal(ours(rows), made(rows)[:, [1, 0]])
    save_weights(made, tmp_path / "w.safetensors", answers, table())
    found = from_file(tmp_path / "w.safetensors", "w", ["\u00e9", "a"], answers)
    assert load_start(network(outputs=2), found, answers).initialised == []


# --- targets of regressions -------------------------------------------------------------------

COLUMNS = ("age", "size", "mass")


def table(columns: tuple[str, ...] = COLUMNS, **values: object) -> TableSpec:
    count = len(columns)
    return numbers(columns, center=(0.0,) * count, scale=(1.0,) * count, **values)  # type: ignore[arg-type]


def test_the_head_of_a_target_of_another_scale_stays_random() -> None:
    dollars = table(target="price", target_mean=250_000.0, target_std=90_000.0)
    thousands = table(target="price", target_mean=250.0, target_std=90.0)
    made = source(network(outputs=1), answers=("price",), spec=dollars)
    start = load_start(network(outputs=1), made, ("price",), thousands)
    assert start.initialised == ["3.bias", "3.weight"]
    assert start.skipped["3.bias"] == (
        "the head of a target of mean 2.5e+05 and deviation 9e+04, which are 250 and 90 here"
    )
    assert load_start(network(outputs=1), made, ("price",), dollars).initialised == []


def test_the_head_of_a_regression_of_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    made, spec = network(outputs=1), table(target="price", target_mean=250.0, target_std=90.0)
    with pytest.raises(TrainError, match="it is price, less 250 and divided by 90, or to"):
        load_start(network(outputs=1), source(made), ("price",), spec)
    save_file(made.state_dict(), tmp_path / "w.safetensors")
    for says, fresh in (("same", []), ("other", ["3.bias", "3.weight"])):
        found = from_file(tmp_path / "w.safetensors", "w", says, ("price",))
        assert load_start(network(outputs=1), found, ("price",), spec).initialised == fresh
    save_file(network(outputs=2).state_dict(), tmp_path / "w.safetensors")
    found = from_file(tmp_path / "w.safetensors", "w", "same", ("price",), SAYS)
    with pytest.raises(TrainError, match="head of w answers 1 target, and it has 2 outputs"):
        load_start(network(outputs=1), found, ("price",), spec)


# --- inputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (("size", "age", "mass"), "reads the columns, or their categories, in another order"),
        (("age", "size", "price"), "reads other columns, as price"),
    ],
)
def test_layers_that_read_other_columns_stay_random(columns: tuple[str, ...], why: str) -> None:
    """The norm of the inputs too, and the layer behind it."""
    made = source(network(), answers=ABC, spec=table(columns))
    start = load_start(network(), made, ABC, table())
    reading = [name for name in network().state_dict() if name[0] in "01"]
    assert start.skipped == dict.fromkeys(reading, why)
    assert start.initialised == sorted(reading)


def test_categories_in_another_order_are_other_inputs() -> None:
    def spec(*categories: str) -> TableSpec:
        return TableSpec(
            columns=("sex", "age"), categories=(categories, ()), optional=(False, False),
            fill=(0.0, 0.0), center=(0.0, 0.0), scale=(1.0, 1.0), target="y",
            target_mean=0.0, target_std=1.0,
        )  # fmt: skip

    made = source(network(), answers=ABC, spec=spec("f", "m"))
    assert load_start(network(), made, ABC, spec("f", "m")).skipped == {}
    assert "1.weight" in load_start(network(), made, ABC, spec("m", "f")).skipped


class Wide(nn.Module):
    """Reads its inputs in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 7))
        self.wide = nn.Linear(3, 7)
        self.head = nn.Linear(7, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.deep(rows) + self.wide(rows))


def test_every_layer_that_reads_the_columns_stays_random() -> None:
    made = source(Wide(), answers=("a", "b"), spec=table(("size", "age", "mass")))
    start = load_start(Wide(), made, ("a", "b"), table())
    assert start.loaded == ["deep.2.bias", "deep.2.weight", "head.bias", "head.weight"]


def test_nothing_is_left_of_a_network_of_one_layer() -> None:
    linear = nn.Sequential(nn.Linear(3, 2))
    made = source(linear, answers=("a", "b"), spec=table(("size", "age", "mass")))
    with pytest.raises(TrainError, match=r"nothing of it fits this network; 0\.weight: reads the"):
        load_start(nn.Sequential(nn.Linear(3, 2)), made, ("a", "b"), table())


def test_another_kind_of_inputs_is_refused() -> None:
    made = source(network(), answers=ABC, spec=TextSpec(max_bytes=3))
    with pytest.raises(TrainError, match=r"w\.pt reads a sample of kind 'text', and this recipe"):
        load_start(network(), made, ABC, table())


def test_columns_of_which_nothing_is_known_are_noted() -> None:
    start = load_start(network(), source(network(), answers=ABC), ABC, table())
    assert start.notes == ["nothing says which columns it reads: taken to be age, size, mass"]


# --- our own files say themselves what they are -----------------------------------------------


def test_a_file_of_ours_says_what_it_reads_and_answers(tmp_path: Path) -> None:
    file, spec = tmp_path / "w.safetensors", table()
    save_weights(network(), file, ("c", "a", "b"), spec)
    found = from_file(file, "w.safetensors")
    assert (found.answers, found.spec) == (("c", "a", "b"), spec)
    assert load_start(network(), found, ABC, spec).initialised == []
    assert "1.weight" in load_start(network(), found, ABC, table(("x", "y", "z"))).skipped
    with pytest.raises(TrainError, match="says itself that its head answers c, a, b, in this"):
        from_file(file, "w.safetensors", ["a", "b", "c"], ABC)
    assert from_file(file, "w.safetensors", "other", ABC).answers == ()


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    made = network()
    for name in "ab":
        save_weights(made, tmp_path / name, ABC, table())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("said", ["", "{", '{"answers": 1}', '{"answers": [], "preprocess": {}}'])
def test_a_file_that_says_nonsense_of_itself_is_refused(tmp_path: Path, said: str) -> None:
    save_file(network().state_dict(), tmp_path / "w.safetensors", {"marwright": said})
    with pytest.raises(TrainError, match="w: no weights can be read from it"):
        from_file(tmp_path / "w.safetensors", "w")


def test_of_a_parametrised_head_of_other_labels_nothing_is_taken() -> None:
    """Not its bias either, nor what its parametrisation keeps in buffers."""
    made, ours = network(), network()
    for each in (made, ours):
        parametrizations.orthogonal(each[3])
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    start = load_start(ours, source(made, answers=("x", "y", "z")), ABC)
    head = [name for name in before if name.startswith("3.")]
    assert len(head) == 3
    assert {name: why for name, why in start.skipped.items() if name in head} == dict.fromkeys(
        head, "the head of other labels, as x"
    )
    assert all(torch.equal(ours.state_dict()[name], before[name]) for name in head)
