"""One thread, as gates have; and a handler of one's own for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.archive.proven import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def handler(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Add a handler to the project's, for one test, with parts of it replaced."""
    monkeypatch.chdir(tmp_path_factory.mktemp("project"))
    Path("handlers").mkdir()

    def add(code: str = "", *, read: str = "read_image", answer: str = "ranked_labels") -> str:
        Path("handlers", "strange.py").write_text(
            "import numpy as np\nimport torch\n"
            "from marwright.runtime.classify_image import ranked_labels\n"
            "from marwright.runtime.predict_table import row_values\n"
            "from marwright.runtime.read import read_image, read_table\n"
            "from marwright.runtime.request import BadRequest\n"
            "from marwright.runtime.service import Service\n"
            f"{code}\n"
            f"service = Service(read={read}, answer={answer})\n"
            "handle = service.handle\n"
        )
        return "handlers/strange.py"

    return add
