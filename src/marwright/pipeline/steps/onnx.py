"""Step `onnx`: weights to an ONNX file."""

from __future__ import annotations

from marwright.pipeline.step import Job, Step

STEP = Step(
    name="onnx",
    sections=("model", "export.opset", "export.dynamic"),
    inputs=("weights.safetensors", "meta.json"),
    outputs=("model.onnx",),
    # Weights beyond what one protobuf message may hold.
    optional_outputs=("model.onnx.data",),
    sources=lambda recipe: (recipe.model.file,),
    packages=("onnxscript",),
)


def run(job: Job) -> str:
    """Export the checkpoint and have the ONNX checker look at it."""
    from marwright.export.error import of_factory
    from marwright.export.to_onnx import export_onnx
    from marwright.files import sha256_file
    from marwright.training.checkpoint import WEIGHTS, load_checkpoint, open_checkpoint

    checkpoint, export = open_checkpoint(job.inputs), job.recipe.export
    spec = checkpoint.meta.spec
    with of_factory(job.recipe):
        path = export_onnx(
            load_checkpoint(job.recipe, job.root, checkpoint),
            spec.shape,
            export.opset,
            job.out,
            dtype=spec.dtype,
            dynamic=job.recipe.dynamic_axes,
            origin=sha256_file(job.inputs[WEIGHTS]),
        )
    return f"opset {export.opset}, {path.stat().st_size / 1024:.0f} KiB"
