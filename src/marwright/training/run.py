"""From a recipe to a checkpoint: the whole of training, in order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from torch import nn

from marwright.project import module_name
from marwright.recipe.errors import TrainError
from marwright.recipe.labels import read_labels
from marwright.recipe.types import INIT_LABELS, MAIN_METRIC
from marwright.runtime.spec import ImageSpec, PreprocessSpec, TextSpec
from marwright.training import together
from marwright.training.accepted import Measured, refusal
from marwright.training.baseline import doubt_of_head, measure
from marwright.training.card import data_card
from marwright.training.carried import head_of
from marwright.training.checkpoint import answers_of, outputs_of, save_checkpoint
from marwright.training.data import open_dataset
from marwright.training.fitted import Fitted, Kept, Progress
from marwright.training.learned import read_learned
from marwright.training.loop.augment import Augmentation
from marwright.training.loop.batches import Images, Split, Tensors, Texts, in_order
from marwright.training.machine import set_determinism
from marwright.training.metrics import evaluate
from marwright.training.model import build_model
from marwright.training.preprocess import fit_preprocess
from marwright.training.record import Classified, ModelCard, Predicted, Start, TrainReport
from marwright.training.samples import ImageSamples, SplitName, TextSamples
from marwright.training.stages import stages_of
from marwright.training.start import Source, from_file, from_recipe, from_torchvision, load_start
from marwright.training.tensors import inputs_of, targets_of
from marwright.training.types import REPORT, Checkpoint, Opened, Splits, write_report
from marwright.training.wrong import most_wrong

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe


def train(
    recipe: Recipe,
    root: Path,
    out: Path,
    progress: Progress,
    *,
    parent: Checkpoint | None = None,
    kept: Kept | None = None,
    before: Callable[[Ready], None] = lambda _: None,
) -> Checkpoint:
    """Train a recipe's model and write it all to `out`.

    `parent` is the checkpoint of the recipe that this one starts from; `kept` is what survives a
    kill. `before` is called with all that the first epoch begins with, and may raise. Raises
    `TrainError` where the metric is below what the recipe asks for, or not above its baseline.
    """
    ready = prepare(recipe, root, parent)
    before(ready)
    return learn(ready, recipe, root, out, progress, parent=parent, kept=kept)


def help_train(
    recipe: Recipe, root: Path, *, parent: Checkpoint | None = None, kept: Kept | None = None
) -> None:
    """Do this process's part of what `train` does in another, and write nothing."""
    ready = prepare(recipe, root, parent)
    _trainer(recipe).find_weights(ready, recipe, root, lambda *_: None, parent, kept or Kept())


def _trainer(recipe: Recipe) -> ModuleType:
    # By name, so that it is not followed: only the one that runs is of a training's key.
    return import_module(module_name(recipe.trainer))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """All that a training begins with."""

    network: nn.Module
    opened: Opened
    spec: PreprocessSpec
    start: Start | None


def prepare(recipe: Recipe, root: Path, parent: Checkpoint | None = None) -> Ready:
    """Seed everything, open the data, build the network and fill it with what it starts from."""
    set_determinism(recipe.training.seed, recipe.training.threads)
    start = None
    with together.one_before_others():
        opened = open_dataset(recipe, root, read_learned(parent.learned if parent else None))
        spec = fit_preprocess(recipe, opened.splits)
        network = build_model(recipe, root, spec.shape, outputs_of(opened.splits))
        if (source := source_of(recipe, root, opened.splits, spec, parent)) is not None:
            start = load_start(network, source, answers_of(opened.splits, spec), spec)
    return Ready(network=network, opened=opened, spec=spec, start=start)


def learn(
    ready: Ready,
    recipe: Recipe,
    root: Path,
    out: Path,
    progress: Progress = lambda *_: None,
    *,
    parent: Checkpoint | None = None,
    kept: Kept | None = None,
) -> Checkpoint:
    """Find the weights, measure once on the test split, and write it all.

    Of a model that must not ship only the report is written, and `TrainError` says why.
    """
    opened, spec, start = ready.opened, ready.spec, ready.start
    splits = opened.splits
    fitted: Fitted = _trainer(recipe).find_weights(
        ready, recipe, root, progress, parent, kept or Kept()
    )
    test = tensors_of("test", recipe, splits, spec)
    tested = evaluate(fitted.model, in_order(test, recipe.fit), recipe.task)
    measured, details = measure(tested, splits, spec, recipe.task)
    problem = refusal(recipe, measured, len(splits.test))
    doubt = _doubt(ready.network, start, measured, details, splits, recipe, refused=bool(problem))
    report = TrainReport(
        task=recipe.task,
        data=data_card(opened, recipe),
        model=_model_card(fitted, recipe),
        start=start,
        epochs=list(fitted.epochs),
        best_epoch=fitted.best_epoch,
        metrics=measured.metrics,
        baseline=measured.baseline,
        gain=measured.gain,
        classified=details if isinstance(details, Classified) else None,
        predicted=details if isinstance(details, Predicted) else None,
        wrong=most_wrong(tested, splits, spec),
        events=[*_of_start(recipe, start), *doubt, *fitted.events],
        environment=_environment(fitted, recipe),
    )
    write_report(report, out / REPORT)
    if problem:
        raise TrainError("\n".join([problem, *doubt]))
    return save_checkpoint(fitted, tested, measured, spec, opened, recipe, out)


def tensors_of(name: SplitName, recipe: Recipe, splits: Splits, spec: PreprocessSpec) -> Split:
    """Return a split as batches of tensors; that of training is augmented."""
    samples, indices = splits.samples, splits.named()[name]
    if isinstance(spec, ImageSpec):
        assert isinstance(samples, ImageSamples)
        changed = Augmentation(recipe.augment, spec, len(samples.labels))
        return Images(samples, indices, spec, augmentation=changed if name == "train" else None)
    if isinstance(spec, TextSpec):
        assert isinstance(samples, TextSamples)
        return Texts(samples, indices, spec)
    return Tensors(inputs_of(samples, indices, spec), targets_of(samples, indices, spec))


def source_of(
    recipe: Recipe, root: Path, splits: Splits, spec: PreprocessSpec, parent: Checkpoint | None
) -> Source | None:
    """Return the weights that the recipe says to start from, if it does."""
    if recipe.model.weights:
        return from_torchvision(recipe, spec)
    if recipe.model.parent is not None:
        assert parent is not None, "the pipeline builds what a recipe starts from"
        return from_recipe(recipe.model.parent, parent)
    if recipe.model.init_from:
        says = recipe.model.init_labels
        if says not in ("", *INIT_LABELS):
            says = [*read_labels(says, root)]
        return from_file(
            root / recipe.model.init_from, recipe.model.init_from, says, answers_of(splits, spec),
            f"archive/{recipe.name}.toml: [model] init_labels",
        )  # fmt: skip
    return None


def _doubt(
    network: nn.Module,
    start: Start | None,
    measured: Measured,
    details: Classified | Predicted,
    splits: Splits,
    recipe: Recipe,
    *,
    refused: bool,
) -> list[str]:
    """Ask whether a head answers what the recipe says, where it was taken and does badly."""
    if start is None or not {*head_of(network)} & {*start.loaded}:
        return []
    main = MAIN_METRIC[recipe.task]
    if not refused and measured.metrics[main] > measured.baseline[main]:
        return []
    return [doubt_of_head(start.source, details, tuple(splits.samples.labels))]


def _of_start(recipe: Recipe, start: Start | None) -> list[str]:
    if start is not None or recipe.transfer.freeze == "none":
        return []
    return [
        'stages are frozen ([transfer] freeze = "body"), and neither [model] weights nor init_from '
        "says what they have learned: unless the factory fills them, they stayed random"
    ]


def _model_card(fitted: Fitted, recipe: Recipe) -> ModelCard:
    stages = stages_of(fitted.model)
    return ModelCard(
        factory=recipe.model.factory,
        parameters=sum(stage.size for stage in stages),
        trained=fitted.trained,
        stages=[stage.name for stage in stages],
    )


def _environment(fitted: Fitted, recipe: Recipe) -> dict[str, str]:
    return {
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        **{name: version(name) for name in ("torch", "torchvision", "numpy")},
        "device": fitted.device,
        "threads": str(recipe.training.threads),
        "processes": str(recipe.fit.processes),
    }
