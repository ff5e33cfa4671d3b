"""Faults of a data set: found, named, and refused or left out, never passed over in silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from marwright.recipe.errors import DataError
from marwright.recipe.regular import read_regular
from marwright.runtime.images.decode import open_image
from marwright.runtime.read import text_problem
from marwright.runtime.request import BadRequest
from marwright.training.samples import Fault, ImageSamples, Samples, TableSamples, TextSamples

S = TypeVar("S", bound=Samples)
# Faults that a message names; the report has them all.
SHOWN = 10


def audited(samples: S, *, skip: bool, where: str) -> tuple[S, tuple[Fault, ...]]:
    """Return the samples that can be used, and the faults of the others.

    Raises `DataError` naming the faults, unless they are to be skipped.
    """
    found = dict(_faults(samples))
    clean = chosen(samples, np.setdiff1d(np.arange(len(samples)), [*found]))
    # Of what could not even be read, the data set itself has told.
    faults = (
        *samples.faults,
        *(found[index] for index in sorted(found)),
        *_empty(samples, clean),
    )
    if faults and not skip:
        raise DataError(f"{where}: {refusal(faults)}")
    clean = _relabelled(clean)
    if samples.labels and len(clean.labels) < 2:
        raise DataError(
            f"{where}: without what is faulty {len(clean.labels)} of its {len(samples.labels)} "
            f"classes are left; {refusal(faults)}"
        )
    return clean, faults


def without(samples: S, faults: Sequence[Fault]) -> S:
    """Return the samples without those in which training found these faults."""
    gone = {fault.where for fault in faults}
    kept = [index for index in range(len(samples)) if samples.name(index) not in gone]
    return _relabelled(chosen(samples, np.array(kept, dtype=np.int64)))


def refusal(faults: Sequence[Fault]) -> str:
    """Return how many faults there are, the first of them, and what to do."""
    lines = [f"  {fault.where}: {fault.what}" for fault in faults[:SHOWN]]
    if len(faults) > SHOWN:
        lines.append(f"  and {len(faults) - SHOWN} more")
    counted = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return "\n".join(
        [f"{counted} in the data:", *lines,
         'mend them, or leave them out with [data] faulty = "skip"']
    )  # fmt: skip


def chosen(samples: S, indices: NDArray[np.int64]) -> S:
    """Return some of the samples."""

    def of(values: Sequence[Any]) -> list[Any]:
        return [values[index] for index in indices] if len(values) else []

    changes: dict[str, Any] = {
        "targets": samples.targets[indices],
        "names": [samples.name(int(index)) for index in indices],
        "fixed": of(samples.fixed),
    }
    if isinstance(samples, ImageSamples):
        changes["images"] = of(samples.images)
    elif isinstance(samples, TextSamples):
        changes["texts"] = of(samples.texts)
    else:
        changes["rows"] = samples.rows[indices]
    return dataclasses.replace(samples, **changes)


def _used(samples: Samples) -> set[int]:
    """Return the indices of labels that have a sample."""
    return set(np.unique(samples.targets).tolist()) if samples.labels else set()


def _empty(samples: Samples, clean: Samples) -> Iterator[Fault]:
    """Yield the classes that have no sample, or none that is clean."""
    before, after = _used(samples), _used(clean)
    for index, label in enumerate(samples.labels):
        if index not in after:
            what = "no samples left" if index in before else "no samples"
            yield Fault(where=f"class {label!r}", what=what)


def _relabelled(samples: S) -> S:
    """Return samples without the labels that none of them has."""
    used = _used(samples)
    if len(used) == len(samples.labels):
        return samples
    places = np.cumsum([index in used for index in range(len(samples.labels))]) - 1
    return dataclasses.replace(
        samples,
        labels=tuple(label for index, label in enumerate(samples.labels) if index in used),
        targets=places[samples.targets],
    )


def _faults(samples: Samples) -> Iterator[tuple[int, Fault]]:
    """Yield what is wrong with samples, by their indices; a sample may come twice."""
    for index, what in chain(_wrong_contents(samples), _wrong_targets(samples)):
        yield index, Fault(where=samples.name(index), what=what)


def _wrong_contents(samples: Samples) -> Iterator[tuple[int, str]]:
    if isinstance(samples, ImageSamples):
        return _unreadable(samples)
    return _wrong_texts(samples) if isinstance(samples, TextSamples) else _unusable(samples)


def _wrong_texts(samples: TextSamples) -> Iterator[tuple[int, str]]:
    """Yield what the server would refuse."""
    texts: Sequence[object] = samples.texts
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            yield index, f"is a {type(text).__name__}, not a text"
        elif problem := text_problem(text):
            yield index, problem


def _wrong_targets(samples: Samples) -> Iterator[tuple[int, str]]:
    targets = samples.targets
    if samples.labels:
        wrong = (targets < 0) | (targets >= len(samples.labels))
        for index in np.flatnonzero(wrong):
            yield (
                int(index),
                f"its target {targets[index]} is no index of {len(samples.labels)} labels",
            )
    else:
        for index in np.flatnonzero(~np.isfinite(targets)):
            yield int(index), f"its target is {targets[index]}"


def _unusable(samples: TableSamples) -> Iterator[tuple[int, str]]:
    rows = samples.rows
    missing = np.isnan(rows) & np.array(samples.optional or False)
    for row, column in np.argwhere(~np.isfinite(rows) & ~missing):
        yield int(row), f"{samples.columns[column]} is {rows[row, column]}"
    for place, categories in enumerate(samples.categories):
        if not categories:
            continue
        column = rows[:, place]
        known = np.isin(column, np.arange(len(categories))) | ~np.isfinite(column)
        for row in np.flatnonzero(~known):
            yield (
                int(row),
                f"{samples.columns[place]} is {column[row]:g}, no index of "
                f"{len(categories)} categories",
            )


def _unreadable(samples: ImageSamples) -> Iterator[tuple[int, str]]:
    """Yield what the server would refuse. A file may be damaged far behind its header."""
    files = {i: image for i, image in enumerate(samples.images) if isinstance(image, Path)}
    # Pillow decodes without Python's lock.
    with ThreadPoolExecutor() as pool:
        problems = zip(files, pool.map(_wrong_file, files.values()), strict=True)
        yield from ((index, what) for index, what in problems if what)
    for index, image in enumerate(samples.images):
        if not isinstance(image, Path) and (what := _wrong_array(image)):
            yield index, what


def _wrong_file(path: Path) -> str:
    try:
        content = read_regular(path)
        if not content:
            return "the file is empty"
        open_image(content)
    except BadRequest as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return ""


def _wrong_array(image: NDArray[Any]) -> str:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        return f"is {image.dtype} {image.shape}, not uint8 (H, W) or (H, W, 3)"
    return "" if image.size else "has no pixels"
