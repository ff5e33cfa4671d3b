"""Batches of samples: kept as tensors where they fit, drawn anew each epoch, changed on the way.

All chance of an epoch comes from the seed and the epoch's number, so that a run that goes on from
its fifth epoch draws what an unbroken one does.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    WeightedRandomSampler,
)

from marwright.runtime.preprocess import normalised, padded, text_bytes
from marwright.runtime.spec import ImageSpec, TextSpec
from marwright.training import together
from marwright.training.loop.augment import Augmentation, Pair
from marwright.training.samples import ImageSamples, TextSamples
from marwright.training.tensors import pixels_of, targets_of

if TYPE_CHECKING:
    from marwright.recipe.types import Fit

# Bytes of a split's images that are kept decoded.
KEPT = 1 << 30
# Samples that are evaluated together: enough of them to be fast.
EVALUATED = 256
# Batches of texts that are sorted by length together. The more, the less padding there is in each,
# and the less it is by chance which texts meet.
_POOL = 50


class Split(Dataset[Pair]):
    """One split: inputs and targets of any of its samples, fetched a batch at once.

    `is_kept` says whether it decodes nothing any more.
    """

    def __init__(self, targets: torch.Tensor, *, is_kept: bool = True) -> None:
        self.targets = targets
        self.is_kept = is_kept

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, places: Sequence[int]) -> Pair:
        """Return inputs as the network takes them, and targets as the loss does."""
        raise NotImplementedError

    def parts(self) -> list[range]:
        """Return the places of all samples in order, as many at once as are evaluated together."""
        starts = range(0, len(self), EVALUATED)
        return [range(start, min(start + EVALUATED, len(self))) for start in starts]

    def __iter__(self) -> Iterator[Pair]:
        """Yield all of it in order."""
        for part in self.parts():
            yield self[part]


class Tensors(Split):
    """Samples that are kept as the network takes them, as rows of features are."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        super().__init__(targets)
        self._inputs = inputs

    def __getitem__(self, places: Sequence[int]) -> Pair:
        # Once for both: a list becomes a tensor in either.
        chosen = torch.tensor(places)
        return self._inputs[chosen], self.targets[chosen]


class Images(Split):
    """Images. Few or small ones are kept in the network's size, as they are before they are
    normalised; others are decoded each time.
    """

    def __init__(
        self,
        samples: ImageSamples,
        indices: NDArray[np.int64],
        spec: ImageSpec,
        *,
        augmentation: Augmentation | None = None,
        kept: int = KEPT,
    ) -> None:
        crops = augmentation is not None and augmentation.crops
        is_kept = not crops and len(indices) * int(np.prod(spec.shape)) <= kept
        super().__init__(targets_of(samples, indices, spec), is_kept=is_kept)
        self._samples = samples
        self._indices = indices
        self._spec = spec
        self._augmentation = augmentation
        self._kept = pixels_of(samples, indices, spec) if is_kept else None

    def __getitem__(self, places: Sequence[int]) -> Pair:
        pixels, targets, change = self._pixels(places), self.targets[places], self._augmentation
        if change is None:
            return self._normalised(pixels), targets
        return change.mixed(self._normalised(change.changed(pixels)), targets)

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(normalised(pixels.numpy(), self._spec))

    def _pixels(self, places: Sequence[int]) -> torch.Tensor:
        if self._kept is not None:
            return self._kept[places]
        indices, change = self._indices[places], self._augmentation
        if change is not None and change.crops:
            return change.cropped([self._samples.image(int(index)) for index in indices])
        return pixels_of(self._samples, indices, self._spec)


class Texts(Split):
    """Texts, kept as bytes; a batch is as long as its own longest. `lengths` are in bytes."""

    def __init__(self, samples: TextSamples, indices: NDArray[np.int64], spec: TextSpec) -> None:
        super().__init__(targets_of(samples, indices, spec))
        contents = [text_bytes(samples.texts[index], spec) for index in indices]
        self._contents = [np.frombuffer(content, dtype=np.uint8) for content in contents]
        self.lengths = [len(content) for content in contents]

    def __getitem__(self, places: Sequence[int]) -> Pair:
        inputs = padded([self._contents[place] for place in places])
        return torch.from_numpy(inputs), self.targets[places]


class ByLength(Sampler[list[int]]):
    """Batches of samples of about one length, in random order.

    Of a random order of the samples, some batches at a time are sorted by length. As many samples
    as fill no whole batch are left out, each epoch others, unless there is one batch only.
    """

    def __init__(
        self,
        order: Sampler[int],
        lengths: Sequence[int],
        batch_size: int,
        generator: torch.Generator,
    ) -> None:
        self._order, self._lengths, self._size = order, lengths, batch_size
        self._generator = generator

    def __len__(self) -> int:
        return max(1, len(self._lengths) // self._size)

    def __iter__(self) -> Iterator[list[int]]:
        # Before they are sorted, or it would always be the longest that are left out.
        order = [*self._order][: len(self) * self._size]
        pool = _POOL * self._size
        batches = []
        for start in range(0, len(order), pool):
            some = sorted(order[start : start + pool], key=self._lengths.__getitem__)
            batches += [some[i : i + self._size] for i in range(0, len(some), self._size)]
        for place in torch.randperm(len(batches), generator=self._generator).tolist():
            yield batches[place]


class Share(Sampler[list[int]]):
    """This process's part of each batch; all parts are of one size."""

    def __init__(self, batches: BatchSampler | ByLength) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            whole = len(batch) // together.size() * together.size()
            yield batch[together.rank() : whole : together.size()]


class Batches:
    """The training split, an epoch at a time: of each batch, what this process trains on."""

    def __init__(self, split: Split, fit: Fit, device: torch.device) -> None:
        self._generator = torch.Generator()
        self._seed = fit.seed
        self._batches = Share(_batches(split, fit, self._generator))
        self._split, self._device = split, device
        self._loader = None
        workers = 0 if split.is_kept else fit.workers
        # What it does for an epoch takes as long as a small network's whole epoch.
        if workers or device.type == "cuda":
            self._loader = DataLoader(
                split,
                sampler=self._batches,
                batch_size=None,
                num_workers=workers,
                pin_memory=device.type == "cuda",
            )

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, number: int) -> Iterator[Pair]:
        """Yield the batches of one epoch, on the device. Seeds all chance."""
        # What is drawn for samples differs by process, and their order must not.
        order = np.random.SeedSequence([self._seed, number]).generate_state(2)
        own = np.random.SeedSequence([self._seed, number, together.rank()]).generate_state(1)
        chance = int(own[0] if together.rank() else order[0])
        # Not `torch.manual_seed`: without a GPU it keeps a note of each call for the time when
        # there is one.
        torch.default_generator.manual_seed(chance)
        if self._device.type == "cuda":
            torch.cuda.manual_seed_all(chance)
        self._generator.manual_seed(int(order[1]))
        # Not ours, but a person's network or data set may draw from them.
        random.seed(int(own[0]))
        np.random.seed(int(own[0]))
        for inputs, targets in self._loader or map(self._split.__getitem__, self._batches):
            yield (
                inputs.to(self._device, non_blocking=True),
                targets.to(self._device, non_blocking=True),
            )


def in_order(split: Split, fit: Fit) -> Iterable[Pair]:
    """Return all of a split in order, in large batches; `workers` decode what is not kept."""
    if split.is_kept or not fit.workers:
        return split
    return DataLoader(split, sampler=split.parts(), batch_size=None, num_workers=fit.workers)


def _batches(split: Split, fit: Fit, generator: torch.Generator) -> BatchSampler | ByLength:
    order = _order(split, fit, generator)
    if isinstance(split, Texts):
        return ByLength(order, split.lengths, fit.batch_size, generator)
    # A last batch of one sample would stop batch norm; each epoch drops other samples.
    return BatchSampler(order, fit.batch_size, drop_last=len(split) > fit.batch_size)


def _order(split: Split, fit: Fit, generator: torch.Generator) -> Sampler[int]:
    if fit.imbalance == "sampler":
        weights = class_weights(split.targets)[split.targets]
        return WeightedRandomSampler(weights.tolist(), len(split), generator=generator)
    return RandomSampler(split, generator=generator)


def class_weights(targets: torch.Tensor) -> torch.Tensor:
    """Return a weight for each class, float32: all classes weigh the same together, 1 a sample."""
    counts = torch.bincount(targets).float()
    return len(targets) / (counts.count_nonzero() * counts.clamp(min=1))
