"""The errors that a person can cause or mend, one tree for the whole project.

A message says what is wrong, where (file, key or member) and what to do next. The command
line prints it without a traceback and exits with the error's own code.
"""

from __future__ import annotations


class MarwrightError(Exception):
    """Something that a person can mend. `exit_code` is the process's exit status."""

    exit_code = 1


class UsageError(MarwrightError):
    """The command line asks for something that there is not; argparse exits with 2 as well."""

    exit_code = 2


class RecipeError(MarwrightError):
    """A recipe is missing, cannot be read or declares something impossible."""

    exit_code = 3


class VerifyError(MarwrightError):
    """An archive or a build output is not what it was recorded to be."""

    exit_code = 4


class DataError(MarwrightError):
    """The data cannot be used as the recipe says."""

    exit_code = 5


class TrainError(MarwrightError):
    """Training cannot go on, or did not reach what the recipe asks for."""

    exit_code = 6


class ExportError(MarwrightError):
    """The model cannot be traced or exported faithfully."""

    exit_code = 7


class ParityError(MarwrightError):
    """The traced module or the ONNX file disagrees with the checkpoint."""

    exit_code = 8


class PackError(MarwrightError):
    """An archive cannot be written as asked."""

    exit_code = 9


class StoreError(MarwrightError):
    """The model store refuses an archive, or holds one that it should not."""

    exit_code = 10


class ServeError(MarwrightError):
    """The model server cannot start, answer or stop."""

    exit_code = 11


class MachineError(MarwrightError):
    """The machine refuses: a disk is full, something may not be written or has gone, no memory."""

    exit_code = 12


class MissingError(MarwrightError):
    """A package is not installed, or in another version than the command needs."""

    exit_code = 13


class NotTriedError(MarwrightError):
    """An archive is not wrong as far as was seen, and its handler was not tried."""

    exit_code = 14
