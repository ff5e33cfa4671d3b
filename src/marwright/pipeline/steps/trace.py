"""Step `trace`: weights to TorchScript."""

from __future__ import annotations

from marwright.pipeline.step import Job, Step

STEP = Step(
    name="trace",
    sections=("model", "export.precision"),
    inputs=("weights.safetensors", "meta.json"),
    outputs=("model.pt",),
    sources=lambda recipe: (recipe.model.file,),
)


def run(job: Job) -> str:
    """Trace the checkpoint and check the trace at several batch sizes."""
    from marwright.export.error import of_factory
    from marwright.export.trace import BATCHES, trace
    from marwright.files import sha256_file
    from marwright.training.checkpoint import WEIGHTS, load_checkpoint, open_checkpoint

    checkpoint = open_checkpoint(job.inputs)
    spec, precision = checkpoint.meta.spec, job.recipe.export.precision
    with of_factory(job.recipe):
        trace(
            load_checkpoint(job.recipe, job.root, checkpoint),
            spec.shape,
            job.out,
            dtype=spec.dtype,
            precision=precision,
            origin=sha256_file(job.inputs[WEIGHTS]),
        )
    computes = "bfloat16, " if precision == "bf16" else ""
    return f"{computes}equal at batches {', '.join(map(str, BATCHES))}"
