"""Small workflows, packed. Importing this needs no torch; the models' payload is not a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marwright.archive.types import WORKFLOW_INVENTORY, WORKFLOW_MANIFEST, Packed
from marwright.archive.workflow import pack_workflow
from marwright.recipe.errors import PackError
from tests.archive.unproven import make, packing

SPEC = "models:\n  m1: {url: m1.mar}\n  m2: {url: m2.mar}\ndag:\n  pre: [m1]\n  m1: [m2]\n"
FLOW = "def pre(data, context):\n    return None if data is None else data\n"
# What every workflow of ours describes itself with.
OWN = {WORKFLOW_MANIFEST, WORKFLOW_INVENTORY}


def make_project() -> None:
    """Write two models into model_store/, and a spec and a handler for them."""
    for name in ("m1", "m2"):
        packing(model_name=name, export_path="model_store")
    make({"flow.yaml": SPEC, "flow.py": FLOW})


def packing_workflow(**options: Any) -> Packed:
    """Pack the workflow that lies here, but for the options given."""
    return pack_workflow(
        **{"workflow_name": "flow", "spec_file": "flow.yaml", "handler": "flow.py", **options}
    )


def workflow_refusal(**options: Any) -> str:
    """Return why `packing_workflow` refuses; it must, and leave nothing behind."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(PackError) as error:
        packing_workflow(**options)
    assert sorted(Path().rglob("*")) == before
    return str(error.value)
