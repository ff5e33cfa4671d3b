"""What holds for every test: a run without torch does not even import it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

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
