"""Fitted preprocessing that tests are about in passing."""

from __future__ import annotations

from marwright.runtime.spec import TableSpec


def numbers(
    columns: tuple[str, ...],
    *,
    center: tuple[float, ...],
    scale: tuple[float, ...],
    target: str = "y",
    target_mean: float = 0.0,
    target_std: float = 1.0,
) -> TableSpec:
    """A table of numbers, none of which may be missing."""
    return TableSpec(
        columns=columns,
        categories=((),) * len(columns),
        optional=(False,) * len(columns),
        fill=(0.0,) * len(columns),
        center=center,
        scale=scale,
        target=target,
        target_mean=target_mean,
        target_std=target_std,
    )
