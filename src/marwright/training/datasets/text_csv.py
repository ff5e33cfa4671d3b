"""A CSV file with a header, in UTF-8: a column of texts, and one of their labels.

Rows are numbered as a spreadsheet does: the header is row 1.
"""

from __future__ import annotations

from pathlib import Path

from marwright.recipe.errors import DataError
from marwright.training.csv_file import CsvFile
from marwright.training.samples import TextSamples


def load(
    *paths: Path, text: str, target: str, delimiter: str = ",", split_column: str = ""
) -> TextSamples:
    """Return the texts of a file; `text` and `target` name the columns of texts and labels.

    `split_column` holds train, validation or test. `delimiter` may be "tab". Raises `DataError`
    for what is wrong with the file as a whole.
    """
    file = CsvFile(paths, delimiter)
    for key, column in (("text", text), ("target", target)):
        file.check(key, [column])
    if len({text, target, split_column}) < 3:
        raise DataError(f"{file.name}: text, target and split_column are columns of their own")
    for column in (text, target):
        file.leave_out_missing(column)
    file.leave_out_unknown_splits(split_column)
    targets, labels = file.labels(target)
    return TextSamples(
        texts=[*file.column(text).values()],
        targets=targets,
        labels=labels,
        names=file.names,
        fixed=file.splits(split_column),
        faults=file.faults,
    )
