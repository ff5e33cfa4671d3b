"""Which split a sample belongs to: decided by its own content, so that it never moves.

A sample's hash is a uniform number from 0 to 1; the shares of the recipe cut that interval.
Adding samples moves none of the others, equal samples always fall into one split (so an exact
duplicate cannot leak), and each class is divided in about the same proportions. Only where that
leaves a small class out of a split is it made up for; see docs/adr/0010-splits-by-digest.md.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from marwright.recipe.errors import DataError
from marwright.training.samples import Samples, SplitName
from marwright.training.types import Splits

# In the order of the interval, and of what a small class is given first.
_ORDER: tuple[SplitName, ...] = ("test", "validation", "train")

Fixed = SplitName | Literal[""]
# A part of the interval for each split that takes samples.
Intervals = Mapping[SplitName, tuple[float, float]]


def decided(found: Sequence[Fixed]) -> list[Fixed]:
    """Return the splits that a data set decides, from where each of its samples was found.

    What was found under `train` is free where validation or test is not there, to be divided.
    """
    complete = {"validation", "test"} <= set(found)
    return [name if name != "train" or complete else "" for name in found]


def split(samples: Samples, *, validation: float, test: float, salt: str) -> Splits:
    """Divide samples into train, validation and test.

    `validation` and `test` are shares from 0 to 1 of the samples that are free: a split that the
    data set itself has decided takes nothing else. Raises `DataError` if one is empty, or a class
    is not in all of them.
    """
    contents, places = [], []
    for index in range(len(samples)):
        content = samples.content(index)
        contents.append(hashlib.sha256(content).hexdigest())
        places.append(_place(content, salt))
    fixed: Sequence[Fixed] = samples.fixed if len(samples.fixed) else [""] * len(samples)
    intervals = _intervals({name for name in fixed if name}, validation, test)
    if not intervals and "" in fixed:
        raise DataError(
            f"{samples.name(list(fixed).index(''))} is free, but the data set decides all three "
            "splits: give it one of them"
        )
    names = np.array(
        [name or _cut(place, intervals) for name, place in zip(fixed, places, strict=True)],
        dtype=object,
    )
    if samples.labels:
        free = [index for index, name in enumerate(fixed) if not name]
        _represent(names, places, samples, free, intervals)
    chosen = {part: np.flatnonzero(names == part).astype(np.int64) for part in _ORDER}
    _check(chosen, samples)
    return Splits(samples=samples, contents=tuple(contents), **chosen)


def _place(content: bytes, salt: str) -> float:
    """Return a sample's place in the interval from 0 to 1."""
    digest = hashlib.sha256(salt.encode() + b"\0" + content).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _intervals(fixed: Collection[SplitName], validation: float, test: float) -> Intervals:
    """Cut the interval into the splits that are not decided."""
    names = [name for name in _ORDER if name not in fixed]
    # Train has what the others leave.
    shares = {"test": test, "validation": validation, "train": 1.0}
    ends = [*accumulate(shares[name] for name in names)]
    if "train" not in names:
        ends = [end / ends[-1] for end in ends]
    return dict(zip(names, pairwise([0.0, *ends]), strict=True))


def _cut(place: float, intervals: Intervals) -> SplitName:
    *others, last = intervals
    return next((name for name in others if place < intervals[name][1]), last)


def _represent(
    names: NDArray[np.object_],
    places: Sequence[float],
    samples: Samples,
    free: Sequence[int],
    intervals: Intervals,
) -> None:
    """Give each class a sample in each split that is not decided, where it has enough of them.

    The one that lies nearest is moved, and what equals it.
    """
    equal: dict[float, list[int]] = defaultdict(list)
    held: dict[tuple[int, SplitName], set[float]] = defaultdict(set)
    for index in free:
        equal[places[index]].append(index)
        held[int(samples.targets[index]), names[index]].add(places[index])

    def spared(place: float, name: SplitName) -> bool:
        """Whether each class of the samples that lie there keeps another one in their split."""
        return all(len(held[int(samples.targets[index]), name]) > 1 for index in equal[place])

    for label in range(len(samples.labels)):
        for name, (start, end) in intervals.items():
            if held[label, name]:
                continue
            movable = [
                (max(start - place, place - end), place, other)
                for other in intervals
                for place in held[label, other]
                if spared(place, other)
            ]
            if not movable:
                continue
            _, place, other = min(movable)
            for index in equal[place]:
                held[int(samples.targets[index]), other].discard(place)
                held[int(samples.targets[index]), name].add(place)
            names[equal[place]] = name


def _check(chosen: Mapping[SplitName, NDArray[np.int64]], samples: Samples) -> None:
    """Refuse splits that are too small to train with, or to say something."""
    for part in ("train", "validation", "test"):
        # Batch norm needs two samples, and a metric of one sample says nothing.
        if len(chosen[part]) < 2:
            raise DataError(
                f"the {part} split holds {len(chosen[part])} of {len(samples)} samples: add "
                "samples, or change [data] validation or test"
            )
    for label, called in enumerate(samples.labels):
        counts = {part: int((samples.targets[chosen[part]] == label).sum()) for part in _ORDER}
        if missing := [part for part in _ORDER if not counts[part]]:
            raise DataError(
                f"the class {called!r} has {sum(counts.values())} samples, none of them for "
                f"{' and '.join(missing)}: add some, or leave it out of the data set"
            )
