"""Step `parity`: the gate. Traced module and ONNX file against the checkpoint, on held-out data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.step import Job, Step, dataset_file, model_file

if TYPE_CHECKING:
    from archive.types import ParityReport
    from train.types import Splits

STEP = Step(
    name="parity",
    sections=("task", "data", "preprocess", "model", "export.atol", "export.rtol",
              "serve.batch_size"),
    inputs=("weights.safetensors", "meta.json", "model.pt", "model.onnx", "model.onnx.data"),
    outputs=("parity.json",),
    sources=lambda recipe: (model_file(recipe), dataset_file(recipe)),
    reads_data=True,
)  # fmt: skip


def run(job: Job) -> str:
    """Compare over the test split; a disagreement stops the build with the worst input saved."""
    from archive.parity import BATCHES, compare
    from archive.types import to_json
    from recipes.errors import ParityError
    from train.checkpoint import load_checkpoint, open_checkpoint
    from train.data import inputs_of, open_trained_dataset

    recipe = job.recipe
    checkpoint = open_checkpoint(job.inputs)
    splits = open_trained_dataset(recipe, checkpoint.meta)
    inputs = inputs_of(splits.samples, splits.test, checkpoint.meta.spec).numpy()
    report = compare(
        load_checkpoint(recipe, checkpoint),
        job.inputs["model.pt"],
        job.inputs["model.onnx"],
        inputs,
        atol=recipe.export.atol,
        rtol=recipe.export.rtol,
        classification=recipe.task == "classification",
        batches=tuple(sorted({*BATCHES, recipe.serve.batch_size})),
    )
    if not report.ok:
        raise ParityError(_save_failure(job, report, splits))
    (job.out / "parity.json").write_bytes(to_json(report))
    worst = report.worst()
    return f"largest difference {worst.max_abs:.1e} over {report.samples} samples"


def _save_failure(job: Job, report: ParityReport, splits: Splits) -> str:
    """Keep the report and the worst input for a person; returns the error's message."""
    from archive.types import to_json

    worst = report.worst()
    sample = int(splits.test[worst.worst_sample])
    body, content_type = splits.samples.request(sample)
    job.failed.mkdir(parents=True, exist_ok=True)
    worst_input = job.failed / f"worst_input.{content_type.partition('/')[2]}"
    worst_input.write_bytes(body)
    (job.failed / "parity.json").write_bytes(to_json(report))
    size = f": {worst.max_abs:.3g} absolute, {worst.max_rel:.3g} relative" * (worst.max_abs >= 0)
    return (
        f"{worst.backend} at batch {worst.batch} {worst.problem}{size} (atol {report.atol:g}, "
        f"rtol {report.rtol:g}); worst input: sample {sample} of the data set, saved as "
        f"{worst_input.relative_to(job.root)}, with the report beside it"
    )
