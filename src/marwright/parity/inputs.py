"""The inputs that backends are compared on, beside held-out samples: edges, draws, other sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from marwright.parity.backends import Array
from marwright.parity.texts import (
    HIGHEST,
    LOWEST,
    drawn_of,
    drawn_text,
    edges,
    joined,
    side_by_side,
)
from marwright.parity.types import Kind
from marwright.runtime.spec import Dtype, ImageSpec, PreprocessSpec, TextSpec

# Of each dynamic axis: its ends and so many sizes between them.
_SIZES_BETWEEN = 2
_ROWS_OF_A_SIZE = 3
# Side lengths of the patches that drawn images are made of. Noise by the pixel alone averages out:
# every such image is the same to a deep network.
_PATCHES = (1, 2, 4, 8, 16)
_MOST_HOT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What a preprocessed sample of `shape` can be: from `low` to `high`, which broadcast to it.

    `dynamic` maps an axis of the sample to the least and the most that it may have. Of texts,
    `dtype` int64, the shape is that of the longest.
    """

    shape: tuple[int, ...]
    low: Array
    high: Array
    dynamic: dict[int, tuple[int, int]] = field(default_factory=dict)
    dtype: Dtype = "float32"

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a sample may have this shape."""
        ends = [self.dynamic.get(axis, (size, size)) for axis, size in enumerate(self.shape)]
        return len(shape) == len(ends) and all(
            least <= size <= most for size, (least, most) in zip(shape, ends, strict=True)
        )

    def holds(self, sample: Array) -> bool:
        """Whether this is a sample: of its type and shape; values are looked at of texts only."""
        if sample.dtype != self.dtype or not self.takes(sample.shape):
            return False
        if self.dtype == "float32":
            return True
        return bool(((sample >= self.low) & (sample <= self.high)).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows `(n, *shape)` of one kind: float32, or texts as int64, with padding behind them.

    `names` says of each row what it is.
    """

    kind: Kind
    rows: Array
    names: tuple[str, ...]

    def at(self, places: NDArray[np.int64]) -> Group:
        """Return some of the rows."""
        names = tuple(self.names[place] for place in places)
        return Group(kind=self.kind, rows=self.rows[places], names=names)


def domain_of(
    spec: PreprocessSpec, rows: Array, dynamic: Mapping[int, tuple[str, int, int]] | None = None
) -> Domain:
    """Return the domain of a fitted preprocessing.

    Pixels go from 0 to 1 before they are normalised; a table's columns as far as `rows`
    `(n, columns)`, preprocessed, do; texts are of any bytes. `dynamic` are the recipe's axes that
    vary.
    """
    sizes = {axis: (least, most) for axis, (_, least, most) in (dynamic or {}).items()}
    if isinstance(spec, TextSpec):
        low, high = np.array(LOWEST), np.array(HIGHEST)
        return Domain(shape=spec.shape, low=low, high=high, dynamic=sizes, dtype=spec.dtype)
    if isinstance(spec, ImageSpec):
        mean, std = (
            np.array(values, dtype=np.float32)[:, None, None] for values in (spec.mean, spec.std)
        )
        return Domain(
            shape=spec.shape,
            low=(0 - mean) / std,
            high=(1 - mean) / std,
            dynamic=sizes,
        )
    return Domain(shape=spec.shape, low=rows.min(axis=0), high=rows.max(axis=0))


def boundary(domain: Domain) -> Group:
    """Return the edges of the domain: constants, extremes, single hot elements, alternation."""
    if domain.dtype == "int64":
        texts = dict(edges(domain.shape[0]))
        return Group(kind="boundary", rows=side_by_side([*texts.values()]), names=tuple(texts))
    named = dict(_edges(domain))
    rows = np.stack([np.broadcast_to(row, domain.shape) for row in named.values()])
    return Group(kind="boundary", rows=rows.astype(np.float32), names=tuple(named))


def _edges(domain: Domain) -> Iterator[tuple[str, Array]]:
    shape, size = domain.shape, int(np.prod(domain.shape))
    low, high = (
        np.broadcast_to(end, shape).astype(np.float32) for end in (domain.low, domain.high)
    )
    middle = ((low + high) / 2).astype(np.float32)
    yield "zeros", np.zeros(shape, np.float32)
    yield "ones", np.ones(shape, np.float32)
    yield "all lowest", low
    yield "all highest", high
    yield "all in the middle", middle
    even = np.indices(shape).sum(axis=0) % 2 == 0
    yield "alternating, low first", np.where(even, low, high)
    yield "alternating, high first", np.where(even, high, low)
    if len(shape) == 3:
        for channel in range(shape[0]):
            row = low.copy()
            row[channel] = high[channel]
            yield f"channel {channel} highest", row
    count = min(size, _MOST_HOT if len(shape) == 1 else 3)
    for place in sorted({int(p) for p in np.linspace(0, size - 1, count)}):
        for name, background, value in (("hot", low, high), ("cold", high, low)):
            row = background.copy()
            row.flat[place] = value.flat[place]
            yield f"single {name} element {place}", row
    if len(shape) == 1:
        for place in range(min(size, _MOST_HOT)):
            row = middle.copy()
            row[place] = high[place]
            yield f"column {place} highest", row


def drawn(domain: Domain, count: int, seed: int, held_out: Array | None = None) -> Group:
    """Return random rows of the domain, every fourth a blend of two held-out ones if there are.

    Images are patches of several sizes at several contrasts; rows of a table are uniform; texts
    are of any length and of some neighbouring bytes, and a blend of two is a half of each.
    """
    chance = np.random.default_rng(seed)
    if domain.dtype == "int64":
        return _drawn_texts(domain, count, chance, held_out)
    rows, names = [], []
    for number in range(count):
        if held_out is not None and len(held_out) > 1 and number % 4 == 3:
            one, other = chance.choice(len(held_out), size=2, replace=False)
            share = np.float32(chance.uniform())
            rows.append(share * held_out[one] + (1 - share) * held_out[other])
            names.append(f"blend of held-out rows {one} and {other}")
        else:
            rows.append(_draw(domain, domain.shape, chance))
            names.append(f"random {number}")
    return Group(kind="random", rows=np.stack(rows).astype(np.float32), names=tuple(names))


def _drawn_texts(
    domain: Domain, count: int, chance: np.random.Generator, held_out: Array | None
) -> Group:
    (longest,) = domain.shape
    texts, names = [], []
    for number in range(count):
        if held_out is not None and len(held_out) > 1 and number % 4 == 3:
            one, other = chance.choice(len(held_out), size=2, replace=False)
            texts.append(joined(held_out[one], held_out[other])[:longest])
            names.append(f"halves of held-out rows {one} and {other}")
        else:
            texts.append(drawn_text(longest, chance))
            names.append(f"random {number}")
    return Group(kind="random", rows=side_by_side(texts), names=tuple(names))


def _draw(domain: Domain, shape: tuple[int, ...], chance: np.random.Generator) -> Array:
    if domain.dtype == "int64":
        return drawn_of(shape[0], chance)
    unit = chance.uniform(size=shape)
    if len(shape) == 3:
        patches = min(int(chance.choice(_PATCHES)), *shape[1:])
        rows, columns = (np.arange(side) * patches // side for side in shape[1:])
        coarse = unit[:, :patches, :patches][:, rows][:, :, columns]
        noise = chance.uniform(0, 0.5)
        unit = (1 - noise) * coarse + noise * unit
        contrast, brightness = chance.uniform(0.2, 1), chance.uniform(size=(shape[0], 1, 1))
        unit = contrast * unit + (1 - contrast) * brightness
    values = domain.low + (domain.high - domain.low) * unit
    return np.asarray(values, dtype=np.float32)


def other_shapes(domain: Domain, seed: int) -> list[Group]:
    """Return a group of random rows for each other size: the ends of every dynamic axis and a
    few drawn between them; none where nothing is dynamic.
    """
    chance = np.random.default_rng(seed)
    shapes = []
    for axis, (least, most) in domain.dynamic.items():
        between = chance.integers(least, most + 1, size=_SIZES_BETWEEN)
        shapes += [_resized(domain.shape, {axis: int(s)}) for s in (least, most, *between)]
    # All at their least, and all at their most: together they break what neither does alone.
    for pick in range(2):
        ends = {axis: sizes[pick] for axis, sizes in domain.dynamic.items()}
        shapes.append(_resized(domain.shape, ends))
    return [
        Group(
            kind="shapes",
            rows=np.stack([_draw(domain, shape, chance) for _ in range(_ROWS_OF_A_SIZE)]),
            names=tuple(f"random of {'×'.join(map(str, shape))}" for _ in range(_ROWS_OF_A_SIZE)),
        )
        for shape in dict.fromkeys(shapes)
        if shape != domain.shape
    ]


def _resized(shape: tuple[int, ...], sizes: dict[int, int]) -> tuple[int, ...]:
    return tuple(sizes.get(axis, length) for axis, length in enumerate(shape))
