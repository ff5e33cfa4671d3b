"""A build can be told to compute as an older processor does, and its key says so."""

from __future__ import annotations

import pytest

from marwright.pipeline.isa import LEVELS, VARIABLE, level_environment
from marwright.pipeline.keys import device_class
from marwright.pipeline.run_step import step_environment
from marwright.recipe.errors import MarwrightError


def test_without_a_level_nothing_chooses_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert level_environment() == {}
    # Such a variable would change weights without being in any key.
    assert "ATEN_CPU_CAPABILITY" not in step_environment(1)
    assert "/" not in device_class("cpu")


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_reaches_steps_and_keys(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    plain = device_class("cpu")
    monkeypatch.setenv(VARIABLE, level)
    assert step_environment(1).items() >= LEVELS[level].environment.items()
    assert step_environment(1)["ATEN_CPU_CAPABILITY"] == level
    assert device_class("cpu") == f"{plain}/{level}"
    assert device_class("auto").startswith(f"{plain}/{level}")


def test_an_unknown_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "avx3")
    with pytest.raises(MarwrightError, match="avx3: no such level; there are default, avx2, avx51"):
        step_environment(1)
