"""Step `onnx`: weights to an ONNX file."""

from __future__ import annotations

from pipeline.step import Job, Step, model_file

STEP = Step(
    name="onnx",
    sections=("model", "export.opset"),
    inputs=("weights.safetensors", "meta.json"),
    outputs=("model.onnx",),
    # Weights beyond what one protobuf message may hold.
    optional_outputs=("model.onnx.data",),
    sources=lambda recipe: (model_file(recipe),),
    packages=("onnxscript",),
)


def run(job: Job) -> str:
    """Export the checkpoint and have the ONNX checker look at it."""
    from archive.onnx_export import export_onnx
    from train.checkpoint import load_checkpoint, open_checkpoint

    checkpoint = open_checkpoint(job.inputs)
    model = load_checkpoint(job.recipe, checkpoint)
    path = export_onnx(model, checkpoint.meta.spec.shape, job.recipe.export.opset, job.out)
    return f"opset {job.recipe.export.opset}, {path.stat().st_size / 1024:.0f} KiB"
