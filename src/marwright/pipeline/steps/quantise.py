"""Step `quantise`: the ONNX file in int8, for recipes that ask for it."""

from __future__ import annotations

from marwright.pipeline.step import Job, Step

STEP = Step(
    name="quantise",
    applies=lambda recipe: recipe.export.precision == "int8",
    sections=("task", "data", "preprocess", "training.threads", "parity.max_metric_drop"),
    inputs=("meta.json", "model.onnx", "model.onnx.data"),
    outputs=("model.int8.onnx", "quantise.json"),
    sources=lambda recipe: (recipe.data.file,),
    reads_data=True,
)


def run(job: Job) -> str:
    """Calibrate on the training split; what int8 costs is measured on the validation split."""
    from marwright.archive.types import to_json
    from marwright.export.quantise.int8 import Samples, quantise, refusal
    from marwright.recipe.errors import ParityError
    from marwright.training.data import open_trained_dataset
    from marwright.training.types import read_meta

    recipe, meta = job.recipe, read_meta(job.inputs["meta.json"])
    report = quantise(
        job.inputs["model.onnx"],
        Samples(
            splits=open_trained_dataset(recipe, job.root, meta), spec=meta.spec, task=recipe.task
        ),
        job.out,
        limit=recipe.parity.max_metric_drop,
        threads=recipe.training.threads,
        progress=job.progress,
    )
    if not report.ok:
        job.failed.mkdir(parents=True, exist_ok=True)
        (job.failed / "quantise.json").write_bytes(to_json(report))
        raise ParityError(refusal(report))
    (job.out / "quantise.json").write_bytes(to_json(report))
    kept = f", {len(report.excluded)} of {report.layers} layers in float32" * bool(report.excluded)
    return (
        f"{report.int8_bytes / 1024:.0f} KiB instead of {report.float32_bytes / 1024:.0f}, "
        f"{-report.drop:+z.2f} points of {report.metric} on validation{kept}"
    )
