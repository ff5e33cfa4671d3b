"""Step `quick`: a look before the gate, in a fraction of its time. Nothing is packed after it."""

from __future__ import annotations

from dataclasses import replace

from marwright.pipeline.step import Job
from marwright.pipeline.steps import parity

STEP = replace(parity.STEP, name="quick", outputs=("quick.json",))


def run(job: Job) -> str:
    """Compare on fewer inputs, at fewer batch sizes, without a search."""
    return parity.gate(job, quick=True)
