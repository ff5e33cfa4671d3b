"""Checkpoints come back as they were saved, and hold nothing that could run."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.recipe.types import Recipe
from marwright.training import checkpoint as module
from marwright.training.accepted import Measured
from marwright.training.checkpoint import (
    LOSSES,
    META,
    WEIGHTS,
    load_checkpoint,
    load_losses,
    open_checkpoint,
    outputs_of,
    save_checkpoint,
)
from marwright.training.fitted import Fitted
from marwright.training.leakage import duplicates
from marwright.training.learned import LEARNED
from marwright.training.metrics import Evaluation
from marwright.training.model import build_model
from marwright.training.preprocess import fit_preprocess
from marwright.training.record import Epoch
from marwright.training.samples import Fault, Samples
from marwright.training.splits import split
from marwright.training.types import NOTHING, Checkpoint, Opened
from tests.projects import ROOT
from tests.training.conftest import (
    ModuleMaker,
    image_recipe,
    image_samples,
    table_recipe,
    table_samples,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


FAULT = Fault(where="a.png", what="cannot be read")


def saved(
    folder: Path,
    recipe: Recipe,
    samples: Samples,
    model: nn.Module | None = None,
) -> tuple[nn.Module, Checkpoint]:
    """Save an untrained network as if it had been trained."""
    splits = split(samples, validation=0.2, test=0.2, salt="")
    spec = fit_preprocess(recipe, splits)
    if model is None:
        model = build_model(recipe, Path(), spec.shape, outputs_of(splits))
    epoch = Epoch(
        number=1, learning_rate=0.1, train_loss=1, validation_loss=1, metric=0.5, stages=1
    )
    fitted = Fitted(
        model=model.eval(), epochs=(epoch,) * 7, best_epoch=5, validation_loss=0.1234567,
        trained=1,
        device="cpu",
    )  # fmt: skip
    losses = torch.arange(len(splits.test), dtype=torch.float32)
    tested = Evaluation(outputs=losses[:, None], targets=losses, losses=losses, metric=0.75)
    opened = Opened(splits=splits, faults=(FAULT,), duplicates=duplicates(splits), learned=NOTHING)
    measured = Measured(
        metrics={"some_metric": 0.75}, baseline={"some_metric": 0.5}, gain=(0.125, 0.375)
    )
    return model, save_checkpoint(fitted, tested, measured, spec, opened, recipe, folder)


def files_of(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in (WEIGHTS, META, LOSSES)}


@pytest.mark.parametrize(
    ("recipe", "samples"),
    [(image_recipe(seed=3), image_samples()), (table_recipe(seed=3), table_samples())],
    ids=["image", "table"],
)
def test_a_checkpoint_comes_back_as_it_was_saved(
    tmp_path: Path, recipe: Recipe, samples: Samples
) -> None:
    model, checkpoint = saved(tmp_path, recipe, samples)
    opened = open_checkpoint(files_of(tmp_path))
    assert opened == checkpoint
    loaded = load_checkpoint(recipe, Path(), opened)
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    inputs = torch.randn(5, *opened.meta.spec.shape)
    with torch.inference_mode():
        assert torch.equal(loaded(inputs), model(inputs))


def test_a_loaded_model_is_in_eval_mode_on_the_cpu(tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path, image_recipe(), image_samples())
    loaded = load_checkpoint(image_recipe(), Path(), checkpoint)
    assert not any(part.training for part in loaded.modules())
    assert {value.device.type for value in loaded.state_dict().values()} == {"cpu"}


def test_meta_says_what_is_known(tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path, image_recipe(seed=3), image_samples())
    meta = checkpoint.meta
    assert (meta.task, meta.seed, meta.epochs, meta.best_epoch) == ("classification", 3, 7, 5)
    assert (meta.labels, meta.outputs) == (["dark", "bright"], 2)
    assert meta.metrics == {"some_metric": 0.75}
    assert (meta.baseline, meta.gain) == ({"some_metric": 0.5}, (0.125, 0.375))
    assert meta.validation_loss == 0.123457
    splits = split(image_samples(), validation=0.2, test=0.2, salt="")
    assert meta.splits == splits.digests()
    assert meta.faults == [FAULT]
    assert sum(meta.split_sizes.values()) == 60
    assert meta.versions["torch"].startswith(torch.__version__.partition("+")[0])


def test_meta_of_a_table_has_no_labels(tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path, table_recipe(), table_samples())
    assert (checkpoint.meta.labels, checkpoint.meta.outputs) == ([], 1)


def test_the_same_training_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        torch.manual_seed(0)
        saved(tmp_path / name, image_recipe(), image_samples())
    for name in (WEIGHTS, META):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_meta_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        # What a kill at this point would leave.
        assert {path.name for path in tmp_path.iterdir()} == {WEIGHTS, LOSSES, LEARNED}
        assert load_file(tmp_path / WEIGHTS)
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "write_meta", fails)
    with pytest.raises(OSError, match="no space left"):
        saved(tmp_path, table_recipe(), table_samples())
    assert not (tmp_path / META).exists()


def test_weights_that_cannot_be_written_leave_no_meta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("marwright.training.weights.save_file", fails)
    with pytest.raises(OSError, match="no space left"):
        saved(tmp_path, table_recipe(), table_samples())
    assert list(tmp_path.iterdir()) == []


class Tied(nn.Module):
    """Two layers that share one memory, and a buffer that is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.last = nn.Linear(3, 1)
        self.register_buffer("view", torch.arange(6.0).reshape(2, 3).t())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.first(rows)))


def test_tied_weights_are_saved(tmp_path: Path, make_module: ModuleMaker) -> None:
    make_module("marwright.training.models.mlp", build=lambda shape, outputs: Tied())
    model, checkpoint = saved(tmp_path, table_recipe(), table_samples())
    loaded = load_checkpoint(table_recipe(), Path(), checkpoint)
    assert isinstance(loaded, Tied)
    assert loaded.first.weight is loaded.second.weight
    assert torch.equal(loaded.first.weight, model.first.weight)  # type: ignore[union-attr]
    assert torch.equal(loaded.view, model.view)  # type: ignore[arg-type]


# --- damage ---------------------------------------------------------------------------------


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path, table_recipe(), table_samples())
    whole = checkpoint.weights.read_bytes()
    for damage in (b"", whole[:7], whole[:-1], whole + b"\0", b"\xff" * 8 + whole[8:]):
        checkpoint.weights.write_bytes(damage)
        with pytest.raises(TrainError, match=r"^weights\.safetensors: "):
            load_checkpoint(table_recipe(), Path(), checkpoint)
    checkpoint.weights.unlink()
    with pytest.raises(TrainError, match=r"^weights\.safetensors: "):
        load_checkpoint(table_recipe(), Path(), checkpoint)


@pytest.mark.parametrize("change", ["missing", "extra", "renamed", "reshaped"])
def test_weights_of_another_network_are_named(tmp_path: Path, change: str) -> None:
    _, checkpoint = saved(tmp_path, table_recipe(), table_samples())
    tensors = load_file(checkpoint.weights)
    name = "0.weight"
    value = tensors[name]
    if change != "extra":
        del tensors[name]
    if change == "extra":
        tensors["9.weight"] = torch.zeros(1)
    elif change == "renamed":
        tensors["first.weight"] = value
    elif change == "reshaped":
        tensors[name] = value.t().contiguous()
    save_file(tensors, checkpoint.weights)
    with pytest.raises(TrainError, match=r"^weights\.safetensors: .*state_dict"):
        load_checkpoint(table_recipe(), Path(), checkpoint)


def test_weights_of_another_recipe_are_named(tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path, table_recipe(), table_samples())
    with pytest.raises(TrainError, match="size mismatch"):
        load_checkpoint(table_recipe(params={"hidden": 5}), Path(), checkpoint)
    meta = msgspec.structs.replace(checkpoint.meta, outputs=2)
    with pytest.raises(TrainError, match="size mismatch"):
        load_checkpoint(table_recipe(), Path(), dataclasses.replace(checkpoint, meta=meta))


# --- nothing that runs ----------------------------------------------------------------------


def test_a_checkpoint_is_weights_and_meta_and_no_pickle(tmp_path: Path) -> None:
    saved(tmp_path, image_recipe(), image_samples())
    assert sorted(path.name for path in tmp_path.iterdir()) == [LEARNED, LOSSES, META, WEIGHTS]
    for path in tmp_path.iterdir():
        start = path.read_bytes()[:64]
        # A pickle begins with its protocol, a PyTorch file is a zip.
        assert not start.startswith((b"\x80", b"PK"))
    assert (tmp_path / WEIGHTS).read_bytes()[8:9] == b"{"


def unsafe_loads(source: str) -> Iterator[str]:
    """Yield the ways in which a source reads or writes pickles."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"} & set(names)
            if isinstance(node, ast.ImportFrom) and node.module == "torch":
                yield from {"load", "save"} & set(names)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            safe = any(
                keyword.arg == "weights_only"
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value is True
                for keyword in node.keywords
            )
            if called in ("torch.load", "torch.hub.load", "torch.save") and not safe:
                yield called
            # numpy reads pickles too, when it is asked to.
            if any(keyword.arg == "allow_pickle" for keyword in node.keywords):
                yield f"{called}(allow_pickle)"


# Parsed by the scan and never run: what it must find in a source of ours.
@pytest.mark.parametrize(
    "source",
    [
        "torch.load('a')",
        "torch.load('a', weights_only=False)",
        "torch.load('a', weights_only=safe)",
        "def f():\n    return torch.load('a', 'cpu')",
        "torch.save(model, 'a')",
        "from torch import load",
        "import pickle",
        "from joblib import dump",
        "np.load('a', allow_pickle=True)",
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str) -> None:
    assert list(unsafe_loads(source))
    assert list(unsafe_loads("torch.load('a', weights_only=True)")) == []
    assert list(unsafe_loads("torch.jit.load('a')")) == []


ROOMS = sorted(file.name for file in (ROOT / "src/marwright").iterdir() if file.name[0] not in "._")


@pytest.mark.parametrize("room", [*(f"src/marwright/{room}" for room in ROOMS), "bench", "ci"])
def test_no_source_of_ours_reads_or_writes_a_pickle(room: str) -> None:
    place = ROOT / room
    paths = [place] if place.suffix else sorted(place.rglob("*.py"))
    assert paths
    found = {
        path.relative_to(ROOT).as_posix(): unsafe
        for path in paths
        if (unsafe := list(unsafe_loads(path.read_text(encoding="utf-8"))))
    }
    # An answer that is a tensor: TorchServe's worker sends it so, and `run` shows what is sent.
    # And what a killed training goes on from; it is read weights-only. A fuzzer writes its seeds.
    expected = {
        "src/marwright/archive": {"src/marwright/archive/probe.py": ["torch.save"]},
        "src/marwright/training": {"src/marwright/training/loop/state.py": ["torch.save"]},
        "bench": {"bench/fuzz/archives.py": ["pickle"]},
    }.get(room, {})
    assert found == expected


def test_losses_of_the_test_split_come_back(tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path, table_recipe(), table_samples())
    count = checkpoint.meta.split_sizes["test"]
    assert load_losses(checkpoint).tolist() == [*range(count)]  # type: ignore[union-attr]
    assert load_losses(dataclasses.replace(checkpoint, losses=None)) is None
    for content in (b"", b"not safetensors"):
        (tmp_path / LOSSES).write_bytes(content)
        with pytest.raises(TrainError, match=r"^losses\.safetensors: "):
            load_losses(checkpoint)
