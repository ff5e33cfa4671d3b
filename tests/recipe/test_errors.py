"""The exit codes are an interface: scripts tell failures apart by them."""

from __future__ import annotations

from marwright.recipe import errors
from marwright.recipe.errors import MarwrightError

# Frozen: a code that has been given out is never given to another error.
EXIT_CODES = {
    "MarwrightError": 1,
    "UsageError": 2,
    "RecipeError": 3,
    "VerifyError": 4,
    "DataError": 5,
    "TrainError": 6,
    "ExportError": 7,
    "ParityError": 8,
    "PackError": 9,
    "StoreError": 10,
    "ServeError": 11,
    "MachineError": 12,
    "MissingError": 13,
    "NotTriedError": 14,
}


def tree() -> dict[str, type[MarwrightError]]:
    return {n: c for n, c in vars(errors).items() if isinstance(c, type)}


def test_exit_codes_are_frozen() -> None:
    assert {name: error.exit_code for name, error in tree().items()} == EXIT_CODES


def test_every_error_has_its_own_code_and_says_when_it_is_raised() -> None:
    codes = [error.exit_code for error in tree().values()]
    assert len(set(codes)) == len(codes)
    # 0 is success.
    assert 0 not in codes
    for error in tree().values():
        assert issubclass(error, MarwrightError)
        assert error.__doc__


def test_an_error_is_its_message() -> None:
    assert str(errors.DataError("train/datasets/a.py: no rows")) == "train/datasets/a.py: no rows"
