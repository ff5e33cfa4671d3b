"""A training script of one's own: what it is given, and what it may return."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from marwright.recipe.errors import TrainError
from marwright.recipe.types import Recipe, canonical
from marwright.training.checkpoint import load_checkpoint
from marwright.training.fitted import Fitted, Kept
from marwright.training.leakage import duplicates
from marwright.training.model import build_model
from marwright.training.preprocess import fit_preprocess
from marwright.training.run import Ready, learn
from marwright.training.samples import Samples
from marwright.training.script import Examples, find_weights
from marwright.training.types import NOTHING, Opened
from tests.training.conftest import (
    image_recipe,
    image_samples,
    splits_by_place,
    table_recipe,
    table_samples,
)

pytestmark = pytest.mark.torch

GOOD = """\
import torch

def train(job):
    optimizer = torch.optim.SGD(job.network.parameters(), lr=job.params["rate"])
    for epoch in range(1, 4):
        loss = torch.nn.functional.mse_loss(job.network(job.train.inputs), job.train.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        job.progress(epoch, 3, train_loss=loss.detach(), validation_loss=4.0 - epoch)
    return job.network
"""


def scripted(recipe: Recipe, **train: Any) -> Recipe:
    """Return a recipe whose network a script trains."""
    values = {**canonical(recipe), "train": {"script": "own_script.py", **train}}
    return msgspec.convert({key: value for key, value in values.items() if key != "fit"}, Recipe)


def ready_of(recipe: Recipe, samples: Samples, root: Path) -> Ready:
    splits = splits_by_place(samples)
    spec = fit_preprocess(recipe, splits)
    torch.manual_seed(0)
    network = build_model(recipe, root, spec.shape, len(samples.labels) or 1)
    opened = Opened(splits=splits, faults=(), duplicates=duplicates(splits), learned=NOTHING)
    return Ready(network=network, opened=opened, spec=spec, start=None)


def trained(source: str, root: Path, recipe: Recipe | None = None, **more: Any) -> Fitted:
    (root / "own_script.py").write_text(source, encoding="utf-8")
    # A process imports a script once.
    sys.modules.pop("own_script_py", None)
    recipe = recipe or scripted(table_recipe(), params={"rate": 0.1})
    ready = more.pop("ready", None) or ready_of(recipe, table_samples(), root)
    progress = more.pop("progress", lambda *_: None)
    return find_weights(ready, recipe, root, progress, None, Kept(folder=root))


def test_a_script_trains_what_the_recipe_declares(tmp_path: Path) -> None:
    (tmp_path / "own_script.py").write_text(GOOD, encoding="utf-8")
    recipe = scripted(table_recipe(), params={"rate": 0.1}, minimum_metric="any", seed=7)
    ready = ready_of(recipe, table_samples(), tmp_path)
    shown: list[tuple[int, int, str]] = []
    out = tmp_path / "out"
    out.mkdir()
    checkpoint = learn(
        ready, recipe, tmp_path, out, lambda *told: shown.append(told), kept=Kept(folder=tmp_path)
    )
    assert [(done, total) for done, total, _ in shown] == [(1, 3), (2, 3), (3, 3)]
    assert shown[-1][2].startswith("loss ") and shown[-1][2].endswith(" · validation 1.0000")
    meta = checkpoint.meta
    assert (meta.seed, meta.epochs, meta.best_epoch, meta.device) == (7, 3, 3, "cpu")
    # What was measured is what ships.
    shipped = load_checkpoint(recipe, tmp_path, checkpoint)
    inputs = Examples(ready.opened.splits.samples, ready.opened.splits.test, ready.spec).inputs
    with torch.no_grad():
        assert torch.equal(shipped(inputs), ready.network.eval()(inputs))


def test_the_test_split_is_no_part_of_what_a_script_sees(tmp_path: Path) -> None:
    source = (
        "def train(job):\n"
        "    seen = {*job.train.indices.tolist(), *job.validation.indices.tolist()}\n"
        "    assert seen == {*range(50)}, seen\n"
        "    assert not hasattr(job, 'test')\n"
        "    return job.network\n"
    )
    fitted = trained(source, tmp_path)
    assert fitted.events == ("own_script.py: train() left every weight as it was",)
    assert (fitted.trained, fitted.epochs, fitted.best_epoch) == (0, (), 0)


def test_examples_are_what_a_data_loader_takes(tmp_path: Path) -> None:
    ready = ready_of(image_recipe(), image_samples(), tmp_path)
    splits = ready.opened.splits
    examples = Examples(splits.samples, splits.train, ready.spec)
    inputs, targets = next(iter(torch.utils.data.DataLoader(examples, batch_size=len(examples))))
    assert torch.equal(inputs, examples.inputs) and torch.equal(targets, examples.targets)
    assert inputs.shape == (40, 1, 8, 8) and targets.dtype == torch.int64


def test_the_best_epoch_is_the_one_of_the_least_validation_loss(tmp_path: Path) -> None:
    source = GOOD.replace("4.0 - epoch", "[3.0, 1.0, 2.0][epoch - 1]")
    assert trained(source, tmp_path).best_epoch == 2
    # NaN is no loss, and without any the last epoch is all that is known.
    source = GOOD.replace("4.0 - epoch", "float('nan')")
    fitted = trained(source, tmp_path)
    assert fitted.best_epoch == 3 and fitted.epochs[0].validation_loss is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", "returns nothing: end it with `return job.network`"),
        ("return 3", "returns int, not the trained network"),
        ("return torch.nn.Linear(3, 1)", "returns a network without"),
        (
            "job.network.more = torch.nn.Linear(1, 1); return job.network",
            "a network with more.bias, and was given none",
        ),
        (
            "job.network[0] = torch.nn.Linear(4, 32); return job.network",
            "0.weight of shape (32, 4)",
        ),
        (
            "job.network[0].bias.data[0] = float('nan'); return job.network",
            "returns NaN or infinity in 0.bias",
        ),
        (
            "job.network.register_forward_hook(lambda m, i, o: o + 1); return job.network",
            "answers otherwise than the one that [model] factory builds with its weights",
        ),
    ],
)
def test_what_is_not_the_network_trained_is_refused(tmp_path: Path, body: str, said: str) -> None:
    source = f"import torch\n\ndef train(job):\n    {body}\n"
    with pytest.raises(TrainError) as raised:
        trained(source, tmp_path)
    assert str(raised.value).startswith("own_script.py: train() ")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "wrapped", ["torch.nn.DataParallel(job.network)", "torch.compile(job.network)"]
)
def test_what_a_network_was_wrapped_in_is_taken_off(tmp_path: Path, wrapped: str) -> None:
    trained(f"import torch\n\ndef train(job):\n    return {wrapped}\n", tmp_path)


def test_a_script_that_fails_is_named_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "def train(job):\n    rate = job.params['rates']\n"
    with pytest.raises(TrainError, match=r"^own_script\.py:2: KeyError: 'rates'$"):
        trained(source, tmp_path)
    with pytest.raises(TrainError, match=r"^own_script\.py:2: SystemExit: 3$"):
        trained("def train(job):\n    raise SystemExit(3)\n", tmp_path)
