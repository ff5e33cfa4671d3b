"""Oxford-IIIT Pet: 7,349 photographs of cats and dogs, 37 breeds.

Source: O. M. Parkhi, A. Vedaldi, A. Zisserman and C. V. Jawahar, Cats and Dogs, 2012.
"""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import OxfordIIITPet

from marwright.training.samples import ImageSamples
from marwright.training.torchvision_data import both_parts, image_samples


def load(*paths: Path, root: str = "data", download: bool = False) -> ImageSamples:
    """Return the photographs of `<root>/oxford-iiit-pet/` as files; its test list is tested on."""
    train, test = both_parts(
        "Oxford-IIIT Pet",
        "oxford-iiit-pet/images/ and oxford-iiit-pet/annotations/, unpacked,",
        paths,
        root,
        download,
        lambda folder, is_train, fetch: OxfordIIITPet(
            folder, split="trainval" if is_train else "test", download=fetch
        ),
    )
    return image_samples(
        train.classes,
        train._images,
        test._images,
        (train._labels, test._labels),
        [f"images/{path.name}" for path in [*train._images, *test._images]],
    )
