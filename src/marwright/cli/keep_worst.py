"""`keep-worst`: the worst inputs that the gate found, committed, to be tried first from then on."""

from __future__ import annotations

from collections.abc import Iterable

from marwright.parity.inputs_file import keep, read_inputs
from marwright.pipeline.layout import Layout
from marwright.pipeline.steps.parity import kept_inputs
from marwright.recipe.errors import UsageError


def keep_worst(models: Iterable[str], layout: Layout) -> int:
    """Add what the last run of the gate found to each model's committed inputs.

    That of a failed run counts, where there is one: it is the newer. Raises `UsageError` for a
    model that was never compared.
    """
    for model in models:
        folder = layout.folder(model)
        places = (layout.failed(model, "parity"), layout.failed(model, "quick"), folder)
        found = [f for place in places if (f := place / "worst.safetensors").exists()]
        if not found:
            raise UsageError(f"{model}: nothing to keep; run `make parity MODEL={model}` first")
        latest = max(found, key=lambda file: file.stat().st_mtime)
        path = kept_inputs(model)
        new, total = keep(read_inputs(latest), layout.root / path)
        print(f"{path}: {new} new, {total} in all; commit it, and `make parity` tries them first")
    return 0
