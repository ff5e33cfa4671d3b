"""Step `trace`: weights to TorchScript."""

from __future__ import annotations

from pipeline.step import Job, Step, model_file

STEP = Step(
    name="trace",
    sections=("model",),
    inputs=("weights.safetensors", "meta.json"),
    outputs=("model.pt",),
    sources=lambda recipe: (model_file(recipe),),
)


def run(job: Job) -> str:
    """Trace the checkpoint and check the trace at several batch sizes."""
    from train.checkpoint import load_checkpoint, open_checkpoint
    from train.trace import BATCHES, trace

    checkpoint = open_checkpoint(job.inputs)
    model = load_checkpoint(job.recipe, checkpoint)
    trace(model, checkpoint.meta.spec.shape, job.out)
    return f"equal at batches {', '.join(map(str, BATCHES))}"
