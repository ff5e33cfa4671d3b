"""A CSV file with a header, in UTF-8: columns of numbers and of categories, and a target.

Rows are numbered as a spreadsheet does: the header is row 1. An empty cell is a missing value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from marwright.recipe.errors import DataError
from marwright.training.csv_file import NUMBER, Cells, CsvFile
from marwright.training.samples import TableSamples

# A column of more is a name or a number of something, and would become as many features.
MOST_CATEGORIES = 50
TargetKind = Literal["auto", "label", "value"]

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def load(
    *paths: Path,
    target: str,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    delimiter: str = ",",
    split_column: str = "",
    target_kind: str = "auto",
) -> TableSamples:
    """Return the rows of a file.

    `target` names the column to predict: labels unless all of it are numbers, or as `target_kind`
    says. `drop` are columns to leave out, `categorical` such as look like numbers and are none.
    `split_column` holds train, validation or test. `delimiter` may be "tab". Raises `DataError`
    for what is wrong with the file as a whole.
    """
    file = CsvFile(paths, delimiter)
    file.check("target", [target])
    file.check("drop", drop)
    file.check("categorical", categorical)
    columns = [name for name in file.header if name not in {target, split_column, *drop}]
    if target in drop or not columns:
        raise DataError(f"{file.name}: needs the column {target!r}, and others to tell it by")
    file.leave_out_missing(target)
    file.leave_out_unknown_splits(split_column)
    is_label = _is_label(file, target, target_kind)
    advice = "or list it in [data.params] categorical"
    numeric = {
        name for name in columns if name not in categorical and _is_numeric(file, name, advice)
    }
    for name in file.header:
        if name in numeric or (name == target and not is_label):
            file.leave_out(name, _not_finite)
    encoded = [
        (_numbers(file.column(name)), ()) if name in numeric else _categories(file, name)
        for name in columns
    ]
    targets, labels = file.labels(target) if is_label else (_numbers(file.column(target)), ())
    return TableSamples(
        rows=np.stack([values for values, _ in encoded], axis=1),
        targets=targets,
        labels=labels,
        columns=tuple(columns),
        target=target,
        categories=tuple(categories for _, categories in encoded),
        optional=tuple(bool(np.isnan(values).any()) for values, _ in encoded),
        names=file.names,
        fixed=file.splits(split_column),
        faults=file.faults,
    )


def _is_label(file: CsvFile, target: str, kind: str) -> bool:
    if kind not in get_args(TargetKind):
        raise DataError(
            f"[data.params] target_kind: {kind!r} is not one of {', '.join(get_args(TargetKind))}"
        )
    if kind != "auto":
        return kind == "label"
    return not _is_numeric(file, target, "or set [data.params] target_kind")


def _is_numeric(file: CsvFile, name: str, advice: str) -> bool:
    """Whether all of a column's cells are numbers; raises `DataError` if some of them are."""
    cells = {row: cell for row, cell in file.column(name).items() if cell}
    words = {row: cell for row, cell in cells.items() if not NUMBER.fullmatch(cell)}
    if not cells:
        raise DataError(f"{file.name}: {name!r} has no value at all: [data.params] drop it")
    if words and len(words) < len(cells):
        row, cell = next(iter(words.items()))
        raise DataError(
            f"{file.name}: {len(cells) - len(words)} cells of {name!r} are numbers, and "
            f"{len(words)} are not, as {cell!r} in row {row}: empty the cells of missing "
            f"values, {advice}"
        )
    if words and all(_DECIMAL_COMMA.fullmatch(cell) for cell in words.values()):
        raise DataError(
            f"{file.name}: the cells of {name!r} are numbers with a comma, as "
            f"{next(iter(words.values()))!r}: write a decimal one as a point, leave out one that "
            f"parts thousands, {advice}"
        )
    return not words


def _not_finite(cell: str) -> str:
    if not cell or (NUMBER.fullmatch(cell) and math.isfinite(float(cell))):
        return ""
    return f"is {cell!r}"


def _numbers(cells: Cells) -> NDArray[np.float64]:
    return np.array([float(cell or "nan") for cell in cells.values()], dtype=np.float64)


def _categories(file: CsvFile, name: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    cells = file.words(name)
    found = sorted({cell for cell in cells.values() if cell})
    if len(found) > MOST_CATEGORIES:
        raise DataError(
            f"{file.name}: {name!r} has {len(found)} categories, more than {MOST_CATEGORIES}, as "
            f"{found[0]!r}, {found[1]!r}: [data.params] drop it, or group them"
        )
    places = {category: float(place) for place, category in enumerate(found)}
    return np.array([places.get(cell, np.nan) for cell in cells.values()]), tuple(found)
