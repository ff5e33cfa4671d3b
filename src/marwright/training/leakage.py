"""What training may have seen of the held-out samples: copies, and near copies.

Equal samples fall into one split by the way that samples are split, unless the data set itself
has decided it. Near copies (a photograph saved again, a row measured twice) are found by distance.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from marwright.runtime.preprocess import upright
from marwright.runtime.request import trimmed
from marwright.training.record import Duplicates, Pair
from marwright.training.samples import ImageSamples, TableSamples, TextSamples

if TYPE_CHECKING:
    from marwright.training.types import Splits

# Pairs that a report names.
SHOWN = 20
# Held-out samples that are compared with training, at most; each costs a product with all of it.
MOST = 20_000
_SIDE = 16
# A JPEG is decoded no larger than it must be, which is several times as fast.
_DECODED = (64, 64)
# In levels of grey. Below this one, root mean square, an image is of one colour, and nothing but
# its brightness tells it from another; up to the second its noise is not scaled up to a pattern.
_ONE_COLOUR, _LOW_CONTRAST = 1.0, 4.0
# The part of its contrast that a near copy may differ by, and the part of a deviation that a row
# may, root mean square over its columns; docs/reference/data.md has what was measured.
_NEAR_IMAGE, _NEAR_ROW = 0.08, 0.01
# With fewer columns of numbers rows lie near each other by chance.
_COLUMNS = 3
# Distances that are in memory at once: of so many held-out samples from so many of training.
_ASKED, _KNOWN = 1024, 16_384

# Numbers of a held-out sample and of the one of training that is nearest to it.
Near = tuple[int, int]


def duplicates(splits: Splits, *, max_bytes: int | None = None, before: int = 0) -> Duplicates:
    """Compare all samples with each other, and the held-out ones with those of training.

    Of texts the network reads `max_bytes`; None is all of them. `before` is passed on.
    """
    contents, targets = splits.contents, splits.samples.targets.tolist()
    by_content: dict[str, set[float]] = defaultdict(set)
    for content, target in zip(contents, targets, strict=True):
        by_content[content].add(target)
    first = {contents[index]: index for index in reversed(splits.train.tolist())}
    held_out = np.concatenate([splits.test, splits.validation]).tolist()
    copies = [(index, first[contents[index]]) for index in held_out if contents[index] in first]
    others = [index for index in held_out if contents[index] not in first][:MOST]
    compared, near = _near(splits, np.array(others, dtype=np.int64), max_bytes)
    return Duplicates(
        exact=len(contents) - len(by_content),
        conflicting=sum(len(found) > 1 for found in by_content.values()),
        leaked=len(copies),
        near=len(near),
        compared=compared,
        before=before,
        pairs=[_pair(splits, *both) for both in [*copies, *near][:SHOWN]],
    )


def _pair(splits: Splits, held_out: int, train: int) -> Pair:
    samples = splits.samples
    labels = None
    if samples.labels:
        labels = (
            samples.labels[int(samples.targets[held_out])],
            samples.labels[int(samples.targets[train])],
        )
    return Pair(held_out=samples.name(held_out), train=samples.name(train), labels=labels)


def _near(
    splits: Splits, held_out: NDArray[np.int64], max_bytes: int | None
) -> tuple[int, list[Near]]:
    """Return how many samples were compared with training, and those that it has near copies of."""
    samples = splits.samples
    if isinstance(samples, ImageSamples):
        return _near_images(samples, held_out, splits.train)
    if isinstance(samples, TextSamples):
        return len(held_out), _same_words(samples, held_out, splits.train, max_bytes)
    return _near_rows(samples, held_out, splits.train)


def _same_words(
    samples: TextSamples,
    held_out: NDArray[np.int64],
    train: NDArray[np.int64],
    max_bytes: int | None,
) -> list[Near]:
    """Return texts that are one of training to the network, or nearly so to a person.

    To the network are those whose first `max_bytes` are the same; to a person those that differ by
    case, blanks and forms of characters only. Forms are those that Unicode calls compatible (NFKC),
    as full-width letters and ligatures are.
    """
    known: dict[str, int] = {}
    for index in train.tolist():
        for seen in _seen(samples.texts[index], max_bytes):
            known.setdefault(seen, index)
    found = {
        index: [known[seen] for seen in _seen(samples.texts[index], max_bytes) if seen in known]
        for index in held_out.tolist()
    }
    return [(index, others[0]) for index, others in found.items() if others]


def _seen(text: str, max_bytes: int | None) -> tuple[str, str]:
    return _plain(text), trimmed(text).encode()[:max_bytes].decode(errors="ignore")


def _plain(text: str) -> str:
    # Folding the case can take a composed character apart.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def _near_images(
    samples: ImageSamples, held_out: NDArray[np.int64], train: NDArray[np.int64]
) -> tuple[int, list[Near]]:
    asked, asked_pixels = _thumbnails(samples, held_out)
    known, known_pixels = _thumbnails(samples, train)
    found = _nearest(asked_pixels, known_pixels, _NEAR_IMAGE)
    return len(asked), [(int(asked[place]), int(known[other])) for place, other in found]


def _thumbnails(
    samples: ImageSamples, indices: NDArray[np.int64]
) -> tuple[NDArray[np.int64], torch.Tensor]:
    """Return images as grey float32 `(N, 256)`, without mean and by their contrast.

    So brightness changes nothing. Images of one colour are left out; the others are named first.
    """

    def thumbnail(index: int) -> NDArray[np.float32]:
        image = samples.image(index, near=_DECODED)
        grey = upright(image, 1).resize((_SIDE, _SIDE))
        return np.asarray(grey, dtype=np.float32).reshape(-1)

    # Pillow decodes without Python's lock.
    with ThreadPoolExecutor() as pool:
        rows = [*pool.map(thumbnail, indices.tolist())]
    pixels = torch.from_numpy(np.array(rows, dtype=np.float32).reshape(-1, _SIDE**2))
    pixels -= pixels.mean(dim=1, keepdim=True)
    contrast = pixels.square().mean(dim=1).sqrt()
    pixels /= contrast.clamp(min=_LOW_CONTRAST)[:, None] * _SIDE
    patterned = contrast >= _ONE_COLOUR
    return indices[patterned.numpy()], pixels[patterned]


def _near_rows(
    samples: TableSamples, held_out: NDArray[np.int64], train: NDArray[np.int64]
) -> tuple[int, list[Near]]:
    """Compare rows that have the same categories, and miss the same values."""
    categories = samples.categories or ((),) * len(samples.columns)
    missing = np.isnan(samples.rows)
    numbers = [
        place
        for place, found in enumerate(categories)
        if not found and not missing[train, place].all()
    ]
    if len(numbers) < _COLUMNS:
        return 0, []
    scaled = torch.from_numpy(_scaled(samples.rows[:, numbers], train))
    kinds = np.where(missing, -1.0, samples.rows)
    kinds[:, numbers] = missing[:, numbers]
    _, kind = np.unique(kinds, axis=0, return_inverse=True)
    limit = _NEAR_ROW * len(numbers) ** 0.5
    found = []
    for one in np.unique(kind[held_out]):
        asked, known = held_out[kind[held_out] == one], train[kind[train] == one]
        for place, other in _nearest(scaled[asked], scaled[known], limit):
            found.append((int(asked[place]), int(known[other])))
    order = {index: place for place, index in enumerate(held_out.tolist())}
    return len(held_out), sorted(found, key=lambda both: order[both[0]])


def _scaled(rows: NDArray[np.float64], train: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return rows by deviations from the middle; what is missing is in the middle.

    By the quartiles where they differ: a deviation is mostly of a few extreme values.
    """
    known = rows[train]
    # Values of any size: fitting the preprocessing refuses those that are too large.
    with np.errstate(all="ignore"):
        low, middle, high = np.nanquantile(known, (0.25, 0.5, 0.75), axis=0)
        # Three quarters of the width between quartiles are a normal distribution's deviation.
        scale = np.where(high > low, (high - low) * 0.7413, np.nanstd(known, axis=0))
        # Rounding gives a column of one value a deviation.
        scale[np.nanmin(known, axis=0) == np.nanmax(known, axis=0)] = 1.0
        scaled = (rows - middle) / scale
    # Squares of larger ones would drown the differences between the other columns.
    plain: NDArray[np.float64] = np.nan_to_num(scaled.clip(-1e4, 1e4))
    return plain


def _nearest(asked: torch.Tensor, known: torch.Tensor, limit: float) -> Iterator[Near]:
    """Yield the rows of `asked` that lie within the limit of one of `known`, and the nearest."""
    if not len(known):
        return
    for start in range(0, len(asked), _ASKED):
        some = asked[start : start + _ASKED]
        least = torch.full((len(some),), torch.inf, dtype=asked.dtype)
        nearest = torch.zeros(len(some), dtype=torch.int64)
        for first in range(0, len(known), _KNOWN):
            block = known[first : first + _KNOWN]
            # The square of the distance, less that of the row itself.
            found = torch.addmm(block.square().sum(dim=1), some, block.T, alpha=-2.0).min(dim=1)
            nearer = found.values < least
            least = torch.where(nearer, found.values, least)
            nearest = torch.where(nearer, found.indices + first, nearest)
        squares = least + some.square().sum(dim=1)
        for place in torch.nonzero(squares <= limit**2).flatten().tolist():
            yield start + place, int(nearest[place])
