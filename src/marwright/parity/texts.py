"""Texts as the gate has them: rows int64 `(n, L)` of the numbers of bytes, with padding behind.

What a server is sent is as long as the longest text of a batch. So batches are cut to that before
they go anywhere, and a text that is alone has no padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marwright.runtime.spec import IDS, PADDING

if TYPE_CHECKING:
    from marwright.parity.backends import Array

LOWEST, HIGHEST = PADDING + 1, IDS - 1
# Drawn texts are of so many neighbouring bytes, each of them so often in a row. Bytes that are
# drawn from all of them average out: to a mean, every such text is the same.
_ALPHABETS = (1, 2, 8, 32, HIGHEST)
_REPEATS = (1, 1, 2, 5)


def is_text(rows: Array) -> bool:
    """Whether rows are texts: all other samples are float32."""
    return rows.dtype == np.int64


def trimmed(rows: Array) -> Array:
    """Return a batch as long as its longest text; what are no texts, as they are."""
    if not is_text(rows):
        return rows
    longest = int(lengths(rows).max(initial=1))
    cut: Array = np.asarray(rows[:, :longest])
    return cut


def bare(row: Array) -> Array:
    """Return a text without its padding; what is no text, as it is."""
    text: Array = trimmed(row[None])[0]
    return text


def lengths(rows: Array) -> NDArray[np.int64]:
    """Return how long texts are, `(n,)`, in bytes."""
    found: NDArray[np.int64] = (rows != PADDING).sum(axis=1)
    return found


def halves(rows: Array) -> Array:
    """Return the first half of each text, one byte at least, with padding in place of the rest."""
    places = np.arange(rows.shape[1])
    return np.where(places < (lengths(rows)[:, None] + 1) // 2, rows, PADDING)


def side_by_side(texts: Sequence[Array]) -> Array:
    """Return texts `(length,)` each as rows, padded to the longest."""
    rows = np.full((len(texts), max(map(len, texts))), PADDING, dtype=np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = text
    return rows


def edges(longest: int) -> Iterator[tuple[str, Array]]:
    """Yield the edges of what a text can be, each with its name."""
    places = np.arange(longest)
    letter = _number("a")
    for name, number in (("the lowest", LOWEST), ("the highest", HIGHEST), ("a letter", letter)):
        yield f"one byte, {name}", _text([number])
    for name, number in (("the lowest", LOWEST), ("the highest", HIGHEST), ("one letter", letter)):
        yield f"full length of {name}", np.full(longest, number, dtype=np.int64)
    yield "alternating, low first", np.where(places % 2 == 0, LOWEST, HIGHEST)
    yield "alternating, high first", np.where(places % 2 == 0, HIGHEST, LOWEST)
    yield "every byte in order", places % HIGHEST + 1
    yield "every byte in reverse", HIGHEST - places % HIGHEST
    yield "two bytes", _text([_number("a"), _number("b")])
    yield "full length of blanks", np.full(longest, _number(" "), dtype=np.int64)
    yield "one byte less than full length", np.full(longest - 1, letter, dtype=np.int64)
    for place in sorted({0, longest // 2, longest - 1}):
        row = np.full(longest, LOWEST, dtype=np.int64)
        row[place] = HIGHEST
        yield f"single high byte {place}", row


def drawn_text(longest: int, chance: np.random.Generator) -> Array:
    """Return a random text of a random length, mostly short ones."""
    return drawn_of(max(1, int(longest * chance.uniform() ** 2)), chance)


def drawn_of(length: int, chance: np.random.Generator) -> Array:
    """Return a random text of a length: of neighbouring bytes, some of them in runs."""
    size, times = int(chance.choice(_ALPHABETS)), int(chance.choice(_REPEATS))
    first = int(chance.integers(LOWEST, HIGHEST - size + 2))
    row: Array = np.repeat(chance.integers(first, first + size, size=length), times)[:length]
    return row


def joined(one: Array, other: Array) -> Array:
    """Return the first half of a text with the second half of another behind it."""
    first, second = bare(one), bare(other)
    return np.concatenate([first[: (len(first) + 1) // 2], second[len(second) // 2 :]])


def replaced(rows: Array, share: float, chance: np.random.Generator) -> Array:
    """Return texts with a share of their bytes replaced, one at least: by any, or by others of
    theirs.
    """
    rows = rows.copy()
    found = rows[rows != PADDING]
    for row, length in zip(rows, lengths(rows), strict=True):
        places = chance.integers(length, size=max(1, round(share * length)))
        known = chance.choice(found, size=len(places))
        any_byte = chance.integers(LOWEST, HIGHEST + 1, size=len(places))
        row[places] = np.where(chance.uniform(size=len(places)) < 0.5, known, any_byte)
    return rows


def shown(row: Array) -> str:
    """Return a text as people read it; what is no UTF-8 is replaced."""
    return (bare(row) - 1).astype(np.uint8).tobytes().decode(errors="replace")


def _text(numbers: Sequence[int]) -> Array:
    return np.array(numbers, dtype=np.int64)


def _number(character: str) -> int:
    return ord(character) + 1
