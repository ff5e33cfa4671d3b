"""From a recipe to its samples: open the data set, look for faults, divide it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from marwright.project import load_module
from marwright.recipe.errors import DataError
from marwright.recipe.labels import file_of, plain, read_labels
from marwright.recipe.suggest import suggestion
from marwright.recipe.types import TextPreprocess
from marwright.training.audit import audited, without
from marwright.training.leakage import duplicates
from marwright.training.learned import known_before, learned_of
from marwright.training.record import Duplicates
from marwright.training.samples import ImageSamples, Samples, SplitName, TableSamples, TextSamples
from marwright.training.splits import split
from marwright.training.types import NOTHING, Learned, Opened, Splits

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe
    from marwright.training.types import Meta

# Labels that a message names, at most.
_NAMED = 8
_KINDS: dict[str, type[Samples]] = {
    "image": ImageSamples,
    "table": TableSamples,
    "text": TextSamples,
}


def open_dataset(recipe: Recipe, root: Path, before: Learned = NOTHING) -> Opened:
    """Load the recipe's data set, look for faults and copies, and split it.

    `root` is the project's, and `before` are the samples that the weights which it starts from
    were made from. Raises `DataError` when it does not fit the recipe, or holds what the recipe
    refuses.
    """
    loaded = _loaded(recipe, root)
    samples, faults = audited(
        loaded,
        skip=recipe.data.faulty == "skip",
        where=data_file(recipe),
    )
    if recipe.data.labels != "" and (gone := set(loaded.labels) - set(samples.labels)):
        raise DataError(
            f"{data_file(recipe)}: no sample of {_listed(sorted(gone))} can be used, and [data] "
            "labels names it: add some, or leave it out there"
        )
    splits = _split(samples, recipe)
    read = recipe.preprocess
    known = known_before(splits, before)
    found = duplicates(
        splits,
        max_bytes=read.max_bytes if isinstance(read, TextPreprocess) else None,
        before=len(known),
    )
    if len(known) and recipe.data.near_duplicates == "refuse":
        raise DataError(
            f"{recipe.data.file}: {len(known)} held-out samples, as {samples.name(int(known[0]))}, "
            "were learned by the model that this one starts from: divide both by the same "
            '[data] split_salt, test and validation, or set near_duplicates = "report"'
        )
    if found.leaked + found.near and recipe.data.near_duplicates == "refuse":
        raise DataError(f"{recipe.data.file}: {_refusal(found)}")
    return Opened(
        splits=splits, faults=faults, duplicates=found, learned=learned_of(splits, before)
    )


def _refusal(found: Duplicates) -> str:
    pairs = [f"  {pair.held_out} is {pair.train}" for pair in found.pairs]
    if (more := found.leaked + found.near - len(pairs)) > 0:
        pairs.append(f"  and {more} more")
    return "\n".join(
        [f"of the held-out samples {found.leaked} equal and {found.near} nearly equal one that is "
         "trained on:", *pairs, 'remove them, or set [data] near_duplicates = "report"']
    )  # fmt: skip


def open_trained_dataset(recipe: Recipe, root: Path, meta: Meta) -> Splits:
    """Open the data set that a checkpoint was trained on. Raises `DataError` if it is another."""
    # What could not be used then is left out now: to look for it is to decode everything again.
    samples = without(_loaded(recipe, root), meta.faults)
    try:
        digests = (splits := _split(samples, recipe)).digests()
    except OSError as error:
        raise DataError(f"{recipe.data.file}: a sample cannot be read any more: {error}") from error
    if changed := [name for name, digest in digests.items() if digest != meta.splits.get(name)]:
        raise DataError(
            f"{recipe.data.file}: the {', '.join(changed)} split is not the "
            "one that the weights were trained with; name what it reads in [data] files, so that "
            "a change trains anew"
        )
    return splits


def _split(samples: Samples, recipe: Recipe) -> Splits:
    data = recipe.data
    try:
        return split(samples, validation=data.validation, test=data.test, salt=data.split_salt)
    except DataError as error:
        raise DataError(f"{data.file}: {error}") from None


def _loaded(recipe: Recipe, root: Path) -> Samples:
    data = recipe.data
    try:
        module = load_module(data.file, root)
        load: Callable[..., Any] = getattr(module, data.load.function)
        samples = _plain(load(*(root / file for file in data.files), **data.params))
    except DataError:
        raise
    # Whatever a person's own code raises, it is about the data, and this says whose it is.
    except Exception as error:
        raise DataError(f"{data.file}: load() failed: {type(error).__name__}: {error}") from error
    wanted = _KINDS[str(recipe.preprocess.__struct_config__.tag)]
    if not isinstance(samples, wanted):
        raise DataError(
            f"archive/{recipe.name}.toml: [preprocess] kind: the data set "
            f"{data.dataset!r} holds {type(samples).__name__}, not {wanted.__name__}"
        )
    if problem := _problem(samples, recipe):
        raise DataError(f"{data.file}: {problem}")
    return samples if data.labels == "" else labels_in_order(samples, recipe, root)


def labels_in_order(samples: Samples, recipe: Recipe, root: Path) -> Samples:
    """Return samples whose labels are in the order that `[data] labels` says.

    Raises `DataError` where it does not name each of them.
    """
    declared = recipe.data.labels
    where = file_of(declared) or f"archive/{recipe.name}.toml: [data] labels"
    try:
        wanted = read_labels(declared, root)
    except ValueError as error:
        raise DataError(str(error) if file_of(declared) else f"{where}: {error}") from None
    # As the data set writes them: systems keep accents in two forms.
    own = {plain(label): label for label in samples.labels}
    if missing := [label for label in own if label not in map(plain, wanted)]:
        raise DataError(f"{where}: does not name {_listed(missing)}, of which there are samples")
    if extra := [label for label in wanted if plain(label) not in own]:
        raise DataError(
            f"{where}: {data_file(recipe)} has no label {_listed(extra)}{suggestion(extra[0], own)}"
        )
    labels = tuple(own[plain(label)] for label in wanted)
    if labels == samples.labels:
        return samples
    places = np.array([labels.index(label) for label in samples.labels], dtype=np.int64)
    targets = samples.targets.copy()
    # Targets that are no label stay so, for the audit to name them.
    known = (targets >= 0) & (targets < len(places))
    targets[known] = places[targets[known].astype(np.int64)]
    return dataclasses.replace(samples, targets=targets, labels=labels)


def data_file(recipe: Recipe) -> str:
    """Return what a message calls the data set: the files that it reads, or its module."""
    return ", ".join(recipe.data.files) or recipe.data.file


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(map(repr, labels[:_NAMED]))
    return f"{shown} and {len(labels) - _NAMED} more" if len(labels) > _NAMED else shown


def _plain(samples: Any) -> Any:
    """Return samples whose names are Python's own texts, and not numpy's or numbers."""
    if not isinstance(samples, get_args(Samples)):
        return samples
    changes: dict[str, Any] = {"labels": _texts(samples.labels)}
    if samples.names is None or isinstance(samples.names, np.ndarray):
        changes["names"] = () if samples.names is None else _texts(samples.names)
    if isinstance(samples, TableSamples):
        changes |= {
            "columns": _texts(samples.columns),
            "target": str(samples.target),
            "categories": tuple(_texts(categories) for categories in samples.categories),
            "optional": tuple(bool(optional) for optional in samples.optional),
        }
    return dataclasses.replace(samples, **changes)


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


def _problem(samples: Samples, recipe: Recipe) -> str:
    """Say what a data set's author got wrong; training would only say that it failed."""
    count, labels = len(samples), samples.labels
    if recipe.task == "classification":
        if not labels:
            return (
                'task = "classification", and its targets are values, not labels (of csv, '
                '[data.params] target_kind = "label" makes them labels)'
            )
        if len(labels) < 2 or len(set(labels)) < len(labels):
            return "needs two labels or more, each of them once"
    elif labels:
        return (
            f'task = "{recipe.task}", and its targets are labels, as {labels[0]!r} (of csv, '
            '[data.params] target_kind = "value" makes them values)'
        )
    if problem := _of_kind("targets", samples.targets, np.int64 if labels else np.float64, 1):
        return problem
    for what, values in (("names", samples.names), ("fixed", samples.fixed)):
        if len(values) not in (0, count):
            return f"{len(values)} {what}, but {count} targets"
    if twice := _twice(samples.names):
        return f"the name {twice!r} stands for two samples"
    if unknown := set(samples.fixed) - {"", *get_args(SplitName)}:
        return f"fixed has {min(unknown)!r}; a split is one of {', '.join(get_args(SplitName))}"
    if isinstance(samples, TableSamples):
        return _table_problem(samples)
    what, held = (
        ("texts", len(samples.texts))
        if isinstance(samples, TextSamples)
        else ("images", len(samples.images))
    )
    return "" if held == count else f"{held} {what}, but {count} targets"


def _table_problem(samples: TableSamples) -> str:
    columns = len(samples.columns)
    if problem := _of_kind("rows", samples.rows, np.float64, 2):
        return problem
    if samples.rows.shape != (len(samples), columns):
        return (
            f"rows of shape {samples.rows.shape}, but {len(samples)} targets and {columns} columns"
        )
    described: Sequence[tuple[str, Sequence[object]]] = (
        ("categories", samples.categories),
        ("optional", samples.optional),
    )
    for what, given in described:
        if len(given) not in (0, columns):
            return f"{len(given)} {what}, but {columns} columns"
    if twice := _twice(samples.columns):
        return f"the column {twice!r} is there twice"
    for column, categories in zip(samples.columns, samples.categories, strict=False):
        if twice := _twice(categories):
            return f"{column} has the category {twice!r} twice"
    return ""


def _of_kind(what: str, values: object, kind: type[np.generic], axes: int) -> str:
    if not isinstance(values, np.ndarray):
        return f"{what} are a {type(values).__name__}, not an array"
    if values.dtype == kind and values.ndim == axes:
        return ""
    return f"{what} are {values.dtype} {values.shape}, not {kind.__name__} of {axes} axes"


def _twice(values: Sequence[str]) -> str | None:
    """Return the first of some values that is there more than once."""
    return next((value for value, times in Counter(values).items() if times > 1), None)
