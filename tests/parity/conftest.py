"""Healthy models, made once for all tests that break them or find nothing wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bench.mutants.healthy import Healthy

Shelf = Callable[[str], "Healthy"]


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Return the healthy models by name, trained, traced and exported at the first use.

    What the exporter makes of one is made once as well, and not for each report that asks for it:
    that would be two thirds of the time of these tests.
    """
    from bench.mutants.healthy import make
    from marwright.parity import explain
    from tests.archive.proven import one_thread

    exported: dict[int, Any] = {}
    export = explain.export_program

    @cache
    def healthy(name: str) -> Healthy:
        made = make(name, tmp_path_factory.mktemp(name))
        exported[id(made.eager)] = None
        return made

    def export_once(model: Any, *arguments: Any) -> Any:
        if id(model) not in exported:
            return export(model, *arguments)
        exported[id(model)] = exported[id(model)] or export(model, *arguments)
        return exported[id(model)]

    with one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain, "export_program", export_once)
        yield healthy
