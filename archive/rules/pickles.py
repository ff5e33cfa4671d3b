"""What in a model file could run code when it is unpickled, found without unpickling it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, NamedTuple, cast

from archive.container.budget import Budget, Exhausted
from archive.names import printable
from archive.rules.nested import (
    UNREADABLE,
    ZIP_STARTS,
    Packed,
    copied,
    has_one_directory,
    is_tar,
    opens_as_zip,
    sealed_kind,
    skip_array_header,
    tar_members,
    unpacked,
    zip_members,
)
from archive.rules.pickle_stream import MOST_BYTES
from archive.rules.pickle_walk import ADVICE, PickleWalk, is_marked
from recipes.regular import open_regular

_NESTED = 2
_ENDINGS = (".pkl", ".pickle", ".debug_pkl")
# Loaders take these for pickles too, whatever they begin with.
_MODELS = (".pt", ".pth", ".ckpt", ".bin", ".joblib")
_TOO_DEEP = "a file of files that is too deep or too large to look into"


class _Look(NamedTuple):
    """Whether it is a pickle, and what is wrong; or what it is where nothing here opens it."""

    is_pickle: bool
    problems: list[str]
    sealed: str = ""


def pickle_problems(file: Path, budget: Budget | None = None) -> list[str]:
    """Return what in a model file could run code when it is unpickled: a line each, sorted.

    As `look_through`, without what it did not look into.
    """
    return look_through(file, budget)[0]


def look_through(file: Path, budget: Budget | None = None) -> tuple[list[str], list[str]]:
    """Return what could run code, and what of it no reader here opens: a line each, sorted.

    Looks at a pickle, or two and more in a row, and at those inside of zip and tar files, of
    compressed streams, and of NumPy's arrays: by their names, and by how they begin. The lines name
    the member, not the file. `budget` is that of the archive that the file is a member of. Raises
    `OSError` where the file is not there to be read; a damaged one is a problem, and so is one of
    which the budget does not allow to see all.
    """
    with os.fdopen(open_regular(file), "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        share = budget.share(size) if budget else Budget(size)
        lines, sealed = set[str](), set[str]()
        try:
            for look in _look(opened, share):
                lines.update(look.problems)
                sealed.update(filter(None, [look.sealed]))
        except Exhausted as ended:
            lines.add(f"cannot be looked through for pickles: {ended}")
        return sorted(lines), sorted(sealed)


def _look(file: IO[bytes], budget: Budget) -> Iterator[_Look]:
    start = _start(file)
    if start[:4] not in ZIP_STARTS:
        walk = PickleWalk(file, start, budget, named=False)
        if walk.is_pickle():
            yield _Look(True, [*walk.problems()])
        if kind := sealed_kind(start):
            yield _Look(False, [], kind)
        yield from _look_inside(file, start, "", 0, budget)
    # A zip file is found by its end, whatever it begins with.
    if start[:4] in ZIP_STARTS or opens_as_zip(file, budget):
        yield from _look_into_zip(file, "", 0, budget)


def _start(file: IO[bytes]) -> bytes:
    start = file.read(512)
    file.seek(0)
    return start


def _look_into_zip(file: IO[bytes], where: str, depth: int, budget: Budget) -> Iterator[_Look]:
    try:
        if not has_one_directory(file):
            yield _Look(False, [f"{where}two readers of zip files can see different members in it"])
        for info, member in zip_members(file, budget):
            packed = info.compress_type != 0 and info.file_size > MOST_BYTES
            yield from _look_at_member(member, info.filename, where, depth, budget, packed)
    except UNREADABLE as error:
        yield _Look(False, [f"{where}cannot be read as a zip file: {error}"])


def _look_at_member(
    member: IO[bytes], name: str, where: str, depth: int, budget: Budget, too_large: bool = False
) -> Iterator[_Look]:
    """Look at what is in a file of files; `too_large` where it is packed and does not fit."""
    start, where = _start(member), f"{where}{printable(name)}: "
    name = name.lower()
    named = name.endswith(_ENDINGS)
    if start[:4] == ZIP_STARTS[0]:
        if depth == _NESTED or too_large:
            yield _Look(False, [f"{where}{_TOO_DEEP}"])
            return
        with copied(member) as copy:
            yield from _look_into_zip(copy, where, depth + 1, budget)
        return
    if named or is_marked(start) or name.endswith(_MODELS):
        walk = PickleWalk(member, start, budget, named=named)
        if walk.is_pickle():
            yield _Look(True, [where + line for line in walk.problems()])
    # What begins so may be a tar file all the same, of a member of such a name.
    if kind := sealed_kind(start):
        yield _Look(False, [], f"{where}{kind}")
    if not too_large:
        yield from _look_inside(member, start, where, depth, budget)


def _look_inside(
    file: IO[bytes], start: bytes, where: str, depth: int, budget: Budget
) -> Iterator[_Look]:
    """Look into a tar file, a compressed stream or an array; nothing for other files."""
    if skip_array_header(file, start):
        walk = PickleWalk(file, b"", budget, named=True)
        yield _Look(True, [where + line for line in walk.problems()])
    if is_tar(start):
        with copied(file) if isinstance(file, Packed) else nullcontext(file) as tar:
            yield from _look_into_tar(tar, where, depth, budget)
        return
    with unpacked(file, start, budget) as plain:
        if plain is not None and depth < _NESTED:
            yield from _look_at_member(plain, "unpacked.bin", where, depth + 1, budget)
        elif plain is not None:
            yield _Look(False, [f"{where}{_TOO_DEEP}"])


def _look_into_tar(file: IO[bytes], where: str, depth: int, budget: Budget) -> Iterator[_Look]:
    if depth == _NESTED:
        yield _Look(False, [f"{where}{_TOO_DEEP}"])
        return
    for name, member in tar_members(file, budget):
        if name == "pickle" and depth == 0:
            yield _Look(True, [f"pickle: in a tar file, as torch wrote until 2016; {ADVICE}"])
        yield from _look_at_member(cast("IO[bytes]", member), name, where, depth + 1, budget)
