"""How much of an archive is believed: beyond this it is refused before anything is unpacked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# Of the central directory, which is read at once.
MAX_DIRECTORY = 64 << 20
# Of a member that is read at once: the manifest, the configuration, the handler.
MAX_TEXT = 1 << 20
# Of the inventory, which has a line for each member.
MAX_INVENTORY = 16 << 20
MAX_TOTAL = 1 << 40
# Deflate packs a thousand to one at most. Real weights reach two to one; all zeros, which an
# untrained model may be, pass as long as they are this small.
MAX_RATIO = 20
RATIO_COUNTS_FROM = 512 << 20


def most_text(name: str) -> int:
    """Return how many bytes a member that is read at once may have."""
    return MAX_INVENTORY if name.endswith("-INF/inventory.json") else MAX_TEXT


def most_plain(archive_size: int) -> int:
    """Return how many bytes an archive of `archive_size` bytes may unpack to."""
    return min(max(RATIO_COUNTS_FROM, MAX_RATIO * archive_size), MAX_TOTAL)


def size_problems(sizes: Iterable[int], archive_size: int) -> Iterator[str]:
    """Say when the unpacked sizes, in bytes, are those of a bomb."""
    total = sum(sizes)
    if total > MAX_TOTAL:
        yield f"unpacks to {total} bytes; more than {MAX_TOTAL} are refused"
    elif total > most_plain(archive_size):
        yield (
            f"unpacks to {total} bytes, {total // archive_size} times its own size; no weights "
            "shrink like that"
        )
