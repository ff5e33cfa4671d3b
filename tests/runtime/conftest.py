"""TorchServe's own context, so that what a handler tells it is what the server would see."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ContextMaker = Callable[..., Any]


@pytest.fixture
def make_context() -> ContextMaker:
    """Return a maker of contexts: of a batch of requests, or of an unpacked archive."""
    with warnings.catch_warnings():
        # TorchServe leaves a file of its own open on import.
        warnings.simplefilter("ignore", ResourceWarning)
        from ts.context import Context, RequestProcessor

    def make(
        requests: int = 0,
        folder: Path = Path(),
        config: dict[str, Any] | None = None,
        gpu: int | None = None,
    ) -> Any:
        manifest = {"model": {"serializedFile": "model.pt"}}
        context = Context(
            "tiny", str(folder), manifest, max(requests, 1), gpu, "1.0", model_yaml_config=config
        )
        context.request_processor = [RequestProcessor({}) for _ in range(requests)]
        return context

    return make
