"""What holds for every test: a run without torch does not even import it."""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.archive.tiny import image_recipe, table_recipe
from tests.projects import built, make_project

if TYPE_CHECKING:
    from tests.archive.proven import Proven

# Whoever builds packages may have set it; it dates archives, and tests compare their bytes.
os.environ.pop("SOURCE_DATE_EPOCH", None)
# Nothing that a test runs is to open a window.
for _name in ("DISPLAY", "WAYLAND_DISPLAY"):
    os.environ.pop(_name, None)

_NEEDS_TORCH = re.compile(r"^pytestmark = \[?pytest\.mark\.torch\b", re.MULTILINE)


@pytest.fixture(autouse=True)
def same_random_numbers_in_any_order() -> None:
    """Seed torch: what a test draws must not depend on the tests before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files that are about torch as a whole, before their imports cost seconds."""
    wanted: str = config.option.markexpr
    if "not torch" not in wanted or " or " in wanted or collection_path.suffix != ".py":
        return None
    return True if _NEEDS_TORCH.search(collection_path.read_text(encoding="utf-8")) else None


@pytest.fixture(scope="session")
def proven_image(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    """A classifier that was trained for a moment, traced and packed."""
    from tests.archive.proven import image_samples, prove

    return prove(image_recipe(), image_samples(), tmp_path_factory.mktemp("proven_image"))


@pytest.fixture(scope="session")
def proven_table(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    """A regression that was trained for a moment, traced and packed."""
    from tests.archive.proven import prove, table_samples

    return prove(table_recipe(), table_samples(), tmp_path_factory.mktemp("proven_table"))


@pytest.fixture(scope="session")
def built_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two tiny models, fully built. Not to be written to."""
    project = make_project(tmp_path_factory.mktemp("built"))
    built(project, "train", "archive", "--jobs", "2")
    return project


@pytest.fixture
def project(built_project: Path, tmp_path: Path) -> Path:
    """A copy of the built project: other inodes and times, the same bytes."""
    return Path(shutil.copytree(built_project, tmp_path / "project"))


@pytest.fixture
def calm_torch() -> Iterator[None]:
    """One thread, as tests run beside each other; all that training sets is set back."""
    import numpy as np
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
    if torch.are_deterministic_algorithms_enabled() != strict:
        torch.use_deterministic_algorithms(strict)
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
