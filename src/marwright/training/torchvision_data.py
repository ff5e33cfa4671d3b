"""Published data sets, by torchvision's own loaders, from a local copy or downloaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marwright.recipe.errors import DataError
from marwright.training.samples import ImageSamples
from marwright.training.splits import Fixed, decided


def both_parts(
    what: str,
    holds: str,
    paths: Sequence[Path],
    root: str,
    download: bool,
    part: Callable[[Path, bool, bool], Any],
) -> tuple[Any, Any]:
    """Return a data set's training and test parts.

    They lie below the one of `paths`, or below `root`, from the working folder, which is the
    project's root; `part` opens one,
    given the folder, whether it is training's, and whether to download it. `holds` says which
    files are needed. Raises `DataError` where they are not there, or cannot be downloaded.
    """
    if len(paths) > 1 or (paths and download):
        raise DataError(
            f"[data] files: name the one folder that holds {what}; to download it, name the folder "
            "as [data.params] root instead, as what is in [data] files must be there before"
        )
    folder, shown = (paths[0], paths[0].name) if paths else (Path(root).absolute(), root)
    try:
        return part(folder, True, download), part(folder, False, False)
    # Whatever it is: of files that are missing, damaged or cannot be fetched, each of torchvision's
    # loaders says so in its own way.
    except Exception as error:
        advice = "" if download or paths else ", or set [data.params] download = true"
        raise DataError(
            f"{what} cannot be read from {shown}/: put {holds} there{advice} "
            f"({type(error).__name__}: {error})"
        ) from error


def image_samples(
    labels: Iterable[str],
    train: Sequence[NDArray[np.uint8] | Path],
    test: Sequence[NDArray[np.uint8] | Path],
    targets: tuple[Any, Any],
    names: Sequence[str] = (),
) -> ImageSamples:
    """Return the images of both parts and the indices of their labels; the test part is fixed."""
    parts: tuple[tuple[Fixed, int], ...] = (("train", len(train)), ("test", len(test)))
    found = [(part, place) for part, count in parts for place in range(count)]
    return ImageSamples(
        images=[*train, *test],
        targets=np.concatenate([np.asarray(part, dtype=np.int64) for part in targets]),
        labels=tuple(labels),
        names=names or [f"{part} {place}" for part, place in found],
        fixed=decided([part for part, _ in found]),
    )
