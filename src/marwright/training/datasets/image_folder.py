"""Images in folders, one for each class, or first one for each split.

`<root>/<class>/**/*.jpg`, or `<root>/train/<class>/…` with `val` and `test` beside it. Hidden
files are passed over; whatever else is no image there is a fault.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from marwright.recipe.errors import DataError
from marwright.training.samples import Fault, ImageSamples, SplitName
from marwright.training.splits import Fixed, decided

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
# What people call the folders of splits.
_SPLITS: dict[str, SplitName] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
# What Windows and macOS leave in folders.
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")


def load(*paths: Path) -> ImageSamples:
    """Return the images as files, in the order of their names; classes are sorted by name.

    Raises `DataError` where the folders are not as described above.
    """
    if len(paths) != 1 or not paths[0].is_dir():
        raise DataError("[data] files: name one folder, in which each class is a folder of images")
    root = paths[0]
    faults: list[Fault] = []
    folders = _folders(root, root, faults)
    splits = _splits(folders, root)
    parts: list[tuple[Fixed, Path]] = [("", folder) for folder in folders]
    if splits:
        parts = [(name, f) for top, name in splits.items() for f in _folders(top, root, faults)]
    if not parts:
        raise DataError(f"{root.name}/: no folders of classes")
    found = sorted(
        (_name(file, root), _readable(folder.name), name, file)
        for name, folder in parts
        for file in _files(folder, root, faults)
    )
    labels = sorted({_readable(folder.name) for _, folder in parts})
    places = {label: place for place, label in enumerate(labels)}
    return ImageSamples(
        images=[file for *_, file in found],
        targets=np.array([places[label] for _, label, _, _ in found], dtype=np.int64),
        labels=tuple(labels),
        names=[name for name, *_ in found],
        fixed=decided([split for _, _, split, _ in found]),
        faults=tuple(sorted(faults, key=lambda fault: fault.where)),
    )


def _splits(folders: Sequence[Path], root: Path) -> dict[Path, SplitName]:
    """Return the splits that some folders are; none where they are classes.

    A class may be called `train` where others stand beside it. Raises `DataError` for what is
    neither.
    """
    splits = {
        folder: _SPLITS[folder.name.lower()] for folder in folders if folder.name.lower() in _SPLITS
    }
    names = ", ".join(sorted(folder.name for folder in splits))
    if len(splits) == 1 and ("train" not in splits.values() or len(folders) > 1):
        return {}
    if splits and "train" not in splits.values():
        raise DataError(f"{root.name}/: {names}, but no train")
    if len(set(splits.values())) < len(splits):
        raise DataError(f"{root.name}/: {names}: two of them are the same split")
    if splits and (others := [folder for folder in folders if folder not in splits]):
        raise DataError(
            f"{root.name}/: {names} are splits, but {_readable(others[0].name)} is none: move it "
            "elsewhere"
        )
    return splits


def _folders(parent: Path, root: Path, faults: list[Fault]) -> list[Path]:
    """Return the folders in one; a file beside them belongs to no class."""
    found = []
    for entry in sorted(parent.iterdir()):
        if _hidden(entry):
            continue
        if _is_folder(entry, root, faults):
            found.append(entry)
        elif not entry.is_dir():
            faults.append(Fault(where=_name(entry, root), what="not in the folder of a class"))
    return found


def _files(folder: Path, root: Path, faults: list[Fault]) -> Iterator[Path]:
    """Yield the images in a folder and below."""
    for entry in sorted(folder.iterdir()):
        if _hidden(entry):
            continue
        if _is_folder(entry, root, faults):
            yield from _files(entry, root, faults)
        elif entry.suffix.lower() in SUFFIXES:
            yield entry
        elif not entry.is_dir():
            faults.append(Fault(where=_name(entry, root), what="not an image file name"))


def _is_folder(entry: Path, root: Path, faults: list[Fault]) -> bool:
    if not entry.is_dir():
        return False
    # Its files are not in the digest of [data] files, so a change of them would train nothing.
    if entry.is_symlink():
        faults.append(Fault(where=_name(entry, root), what="a link to a folder is not followed"))
        return False
    return True


def _hidden(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name.lower() in _LITTER


def _name(entry: Path, root: Path) -> str:
    return _readable(entry.relative_to(root).as_posix())


def _readable(name: str) -> str:
    """Return a file's name as text of one form: systems keep accents in two, or bytes."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", errors="replace"))
