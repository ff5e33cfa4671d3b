"""A CSV file with a header, in UTF-8, as data sets read it: rows, and the faults of others.

Rows are numbered as a spreadsheet does: the header is row 1. Blanks around cells do not count.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from marwright.recipe.errors import DataError
from marwright.recipe.regular import read_regular
from marwright.recipe.suggest import suggestion
from marwright.runtime.request import BOM, trimmed, word
from marwright.training.samples import Fault, SplitName
from marwright.training.splits import Fixed, decided

# Not all that Python takes for a number: 1_000 is one, and so are the digits of other scripts.
NUMBER = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)", re.IGNORECASE | re.ASCII
)
# A cell of a row, and the row's number.
Cells = dict[int, str]

# Python's own limit, of 128 KiB, is shorter than some texts.
csv.field_size_limit(sys.maxsize)


class CsvFile:
    """The rows of a file that can be used so far, by their numbers, and the faults of others.

    `delimiter` is one character, or "tab". Raises `DataError` for what is wrong with the file as a
    whole.
    """

    def __init__(self, paths: Sequence[Path], delimiter: str) -> None:
        if len(paths) != 1:
            raise DataError("[data] files: name one CSV file")
        self.name = paths[0].name
        self.rows: dict[int, list[str]] = {}
        self._faults: dict[int, str] = {}
        lines = _lines(paths[0], "\t" if delimiter == "tab" else delimiter)
        self.header = lines.pop(1, [])
        for place, name in enumerate(self.header, start=1):
            if not name:
                raise DataError(f"{self.name}: column {place} has no name: give it one")
            if self.header.count(name) > 1:
                raise DataError(f"{self.name}: two columns are called {name!r}")
        for row, cells in lines.items():
            if len(cells) == len(self.header):
                self.rows[row] = cells
            else:
                self._faults[row] = f"has {len(cells)} cells, not {len(self.header)}"
        self._check_rest()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What could not be used, in the order of the rows."""
        found = sorted(self._faults.items())
        return tuple(Fault(where=self._where(row), what=what) for row, what in found)

    @property
    def names(self) -> list[str]:
        """Where a person finds each row that can be used."""
        return [self._where(row) for row in self.rows]

    def _where(self, row: int) -> str:
        return f"{self.name} row {row}"

    def check(self, key: str, names: Iterable[str]) -> None:
        """Refuse names of columns that there are not; `key` is the parameter that has them."""
        for name in names:
            if name not in self.header:
                if len(self.header) == 1 and (found := re.search(r"[;\t|]", self.header[0])):
                    shown = "tab" if found[0] == "\t" else found[0]
                    raise DataError(
                        f"{self.name}: its header is one column, {self.header[0]!r}: set "
                        f'[data.params] delimiter = "{shown}"'
                    )
                raise DataError(
                    f"[data.params] {key}: {self.name} has no column {name!r}"
                    f"{suggestion(name, self.header)}"
                )

    def column(self, name: str) -> Cells:
        """Return a column's cells by the numbers of their rows."""
        place = self.header.index(name)
        return {row: cells[place] for row, cells in self.rows.items()}

    def words(self, name: str) -> Cells:
        """Return a column of categories or labels, each in one form, as in a request."""
        return {row: word(cell) for row, cell in self.column(name).items()}

    def leave_out(self, name: str, problem: Callable[[str], str]) -> None:
        """Take out the rows in whose cell of a column there is a problem, and keep what it is."""
        for row, cell in self.column(name).items():
            if what := problem(cell):
                self._faults[row] = f"{name} {what}"
                del self.rows[row]
        self._check_rest()

    def leave_out_missing(self, name: str) -> None:
        """Take out the rows in which a column has nothing."""
        self.leave_out(name, lambda cell: "" if cell else "is missing")

    def leave_out_unknown_splits(self, column: str) -> None:
        """Take out the rows of which a column says that they are in a split that there is not."""
        if column:
            self.check("split_column", [column])
            cells = [cell for cell in self.column(column).values() if cell]
            if cells and not {*cells} & {*get_args(SplitName)}:
                raise DataError(
                    f"[data.params] split_column: no cell of {column!r} is "
                    f"{', '.join(get_args(SplitName))}; the first is {cells[0]!r}"
                )
            self.leave_out(column, _no_split)

    def splits(self, column: str) -> list[Fixed]:
        """Return the splits that a column decides; none without one."""
        return decided(cast("list[SplitName]", [*self.column(column).values()])) if column else []

    def labels(self, column: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return a column as indices of labels int64 `(N,)`, and the labels, sorted."""
        cells = self.words(column)
        found = {*cells.values()}
        numbers = all(NUMBER.fullmatch(cell) for cell in found)
        if numbers and len({float(cell) for cell in found}) < len(found):
            by_value = sorted(found, key=lambda cell: (float(cell), cell))
            one, other = next(
                pair for pair in itertools.pairwise(by_value) if float(pair[0]) == float(pair[1])
            )
            raise DataError(
                f"the labels {one!r} and {other!r} are one number: write them in one way"
            )
        # Ten after nine.
        labels = sorted(found, key=lambda cell: (float(cell) if numbers else 0.0, cell))
        places = {label: place for place, label in enumerate(labels)}
        return np.array([places[cell] for cell in cells.values()], dtype=np.int64), tuple(labels)

    def _check_rest(self) -> None:
        if not self.rows:
            fault = self.faults[-1]
            raise DataError(f"no row can be used; of the last one, {fault.where}: {fault.what}")


def _lines(path: Path, delimiter: str) -> dict[int, list[str]]:
    """Return the rows of a file by their numbers, without those that are blank."""
    content = read_regular(path)
    try:
        # A mark for each program that wrote one; behind it, a first cell may be quoted.
        text = content.decode().lstrip(BOM)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}: not UTF-8 (the byte 0x{content[error.start]:02x} in line {line}): save "
            "it as UTF-8"
        ) from None
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"[data.params] delimiter: {delimiter!r}: {error}") from None
    try:
        rows = {
            row: [trimmed(cell) for cell in cells] for row, cells in enumerate(reader, 1) if cells
        }
    except csv.Error as error:
        raise DataError(f"{path.name}: line {reader.line_num}: not CSV: {error}") from None
    if 1 not in rows or len(rows) < 2:
        raise DataError(f"{path.name}: needs a header in its first line, and rows below")
    return rows


def _no_split(cell: str) -> str:
    known = get_args(SplitName)
    return "" if cell in ("", *known) else f"is {cell!r}, not {', '.join(known)} or empty"
