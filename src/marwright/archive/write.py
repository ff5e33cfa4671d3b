"""Write archives: the same members give the same bytes, on any machine, in any year."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from marwright.archive.container.budget import Budget
from marwright.archive.container.folder import FolderWriter
from marwright.archive.container.limits import MAX_INVENTORY
from marwright.archive.container.tar_write import TarGzWriter
from marwright.archive.container.writer import Content, Writer
from marwright.archive.container.zip_write import ZipWriter
from marwright.archive.names import collisions, is_plain
from marwright.archive.types import FORMAT, INVENTORY, Artifact, Inventory, to_json
from marwright.files import replacing, replacing_folder
from marwright.recipe.errors import PackError

# torch-model-archiver's names; its `default` deflates, ours stores as `zip-store` does.
ArchiveFormat = Literal["default", "zip-store", "tgz", "no-archive"]
FORMATS: tuple[ArchiveFormat, ...] = get_args(ArchiveFormat)
SUFFIXES: dict[ArchiveFormat, str] = {
    "default": ".mar",
    "zip-store": ".mar",
    "tgz": ".tar.gz",
    "no-archive": "",
}
# The range of dates that a zip can hold.
EPOCH = datetime(1980, 1, 1, tzinfo=UTC)
_LAST = datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)


def archive_date() -> datetime:
    """Return the date of all members: that of SOURCE_DATE_EPOCH, else 1980-01-01.

    https://reproducible-builds.org/specs/source-date-epoch/. Raises `PackError` for a value that
    is no time or that no zip can hold; earlier dates than 1980 become 1980.
    """
    value = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not value:
        return EPOCH
    try:
        date = datetime.fromtimestamp(int(value), UTC)
    except (ValueError, OverflowError, OSError):
        raise PackError(f"SOURCE_DATE_EPOCH={value}: not a number of seconds") from None
    if date > _LAST:
        raise PackError(f"SOURCE_DATE_EPOCH={value}: no zip file can hold a date after 2107")
    return max(date, EPOCH)


def write_archive(
    target: Path,
    members: Mapping[str, Content],
    *,
    proven: bool,
    format: ArchiveFormat = "default",
    inventory: str = INVENTORY,
    force: bool = True,
) -> Artifact:
    """Write members and an inventory of them, atomically; names are POSIX and relative.

    Members are sorted, what TorchServe and we say of them last, and the inventory after all.
    Raises `PackError` for a name that would not survive, for a file that changes meanwhile, and
    for more members than `verify` would read the inventory of.
    Without `force` something that has come to be there stays: raises `FileExistsError`.
    """
    check_names([*members, inventory])
    with _writer(target, format, force=force) as writer:
        digests = _add(writer, members)
        record = _inventory(digests, proven=proven)
        if len(record) > MAX_INVENTORY:
            raise PackError(
                f"{target}: {inventory} would have {len(record)} bytes, more than `verify` reads: "
                "pack fewer files, or with shorter names"
            )
        digests[inventory] = writer.add(inventory, record)
        writer.close()
    return Artifact(path=target, size=_size(target), members=digests)


def budget_of(members: Mapping[str, Content], format: ArchiveFormat) -> Budget:
    """Return the budget that `verify` will have for these members and their inventory, in use.

    Raises `Exhausted` for more of them than it will look at.
    """
    known = [len(each) if isinstance(each, bytes) else each.stat().st_size
             for each in members.values()]  # fmt: skip
    record = _inventory(dict.fromkeys(members, "0" * 64), proven=False)
    budget = Budget(sum(known) + len(record))
    folders = {folder for name in (*members, INVENTORY) for folder in PurePosixPath(name).parents}
    # Of a folder, its folders count too: all but the one that is the archive.
    budget.enter(len(members) + 1 + (len(folders) - 1) * (format == "no-archive"))
    return budget


def _inventory(digests: dict[str, str], *, proven: bool) -> bytes:
    return to_json(Inventory(format=FORMAT, proven=proven, members=digests))


def write_members(
    target: Path, members: Mapping[str, Content], format: ArchiveFormat = "default"
) -> Path:
    """Write members and nothing else, by the rules of `write_archive`."""
    check_names([*members])
    with _writer(target, format) as writer:
        _add(writer, members)
        writer.close()
    return target


def check_names(names: list[str]) -> None:
    """Raise `PackError` for names that would not unpack to themselves everywhere."""
    for name in names:
        if not is_plain(name):
            raise PackError(f"{name!r}: members have plain relative ASCII names")
    for problem in collisions(names):
        raise PackError(f"{problem}: rename one of them")


def _add(writer: Writer, members: Mapping[str, Content]) -> dict[str, str]:
    order = sorted(members, key=lambda name: (name.startswith(("MAR-INF/", "WAR-INF/")), name))
    return {name: writer.add(name, members[name]) for name in order}


@contextmanager
def _writer(target: Path, format: ArchiveFormat, *, force: bool = True) -> Iterator[Writer]:
    date = archive_date()
    if format == "no-archive":
        with replacing_folder(target, force=force) as folder:
            yield FolderWriter(folder)
        return
    with replacing(target, force=force) as file:
        if format == "tgz":
            root = target.name.removesuffix(".tar.gz")
            check_names([root])
            yield TarGzWriter(file, root, date)
        else:
            yield ZipWriter(file, date)


def _size(target: Path) -> int:
    if target.is_dir():
        return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return target.stat().st_size
