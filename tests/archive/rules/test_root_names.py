"""Names at an archive's root that the worker's Python would take for its own."""

from __future__ import annotations

import pytest

from marwright.archive.rules.root_names import root_problems


@pytest.mark.parametrize(
    "name",
    [
        "sitecustomize.py", "usercustomize.py", "usercustomize/__init__.py", "json.py", "typing.py",
        "encodings/__init__.py", "json/__init__.pyc", "typing.pyc", "types.so",
        "random.cpython-311-x86_64-linux-gnu.so", "email/__init__.abi3.so", "ts/__init__.py",
        "torch/__init__.py", "torch.py", "numpy.py", "yaml/__init__.py", "psutil.py",
    ],
)  # fmt: skip
def test_module_that_takes_the_place_of_another_is_named(name: str) -> None:
    [problem] = root_problems(["handler.py", name, "labels.json"])
    assert problem.startswith(f"{name}: ")
    assert problem.endswith((": rename it", ": remove it"))


@pytest.mark.parametrize(
    "name",
    [
        "calendar/days.txt", "numpy/weights.bin", "lib/json.py", "json.txt", "torch.pt",
        "ts/data/__init__.py", "handlers/types.py", "types/module.py", "my_json.py", "site",
    ],
)  # fmt: skip
def test_what_nobody_would_import_is_let_be(name: str) -> None:
    assert [*root_problems([name])] == []
