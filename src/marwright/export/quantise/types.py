"""What int8 costs, measured on the validation split: `quantise.json`, torch-free.

Drops are in points, hundredths of the metric: what float32 reaches less what int8 does.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

FORMAT = 1


class LayerCost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One layer in int8 alone: the error of the model's outputs, root mean square over that by
    which outputs vary. `layer` is the node's name in `model.onnx`, `op` its operator. A layer that
    was measured `together` with others has its share of their error.
    """

    layer: str
    op: str
    error: float
    together: int = 1


class Attempt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The drop with so many of the costliest layers left in float32."""

    excluded: int
    drop: float


class QuantiseReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model was made int8, and what that cost; `ok` only if the drop is within `limit`.

    `layers` counts those that can be int8; `excluded` names those of them that stayed float32.
    `sensitivity` has the costliest layer first. `attempts` are in the order in which they were
    made, the first with every layer in int8. Sizes are in bytes, external weights included.
    """

    format: int = FORMAT
    ok: bool
    calibration: Literal["minmax"] = "minmax"
    calibration_samples: int
    validation_samples: int
    metric: str
    float32: float
    limit: float
    drop: float
    layers: int
    excluded: list[str]
    sensitivity: list[LayerCost]
    attempts: list[Attempt]
    float32_bytes: int
    int8_bytes: int

    def __post_init__(self) -> None:
        if self.ok != (self.drop <= self.limit):
            raise ValueError(f"ok is {self.ok}; a drop of {self.drop} of {self.limit} says not")

    @property
    def drop_before(self) -> float:
        """The drop with every layer in int8."""
        return self.attempts[0].drop

    def costliest(self, most: int = 3) -> str:
        """Say which of the layers in int8 cost the most: for a message."""
        kept = [cost for cost in self.sensitivity if cost.layer not in self.excluded]
        return ", ".join(f"{c.layer} ({c.op}, {c.error:.2g})" for c in kept[:most])
