"""Step `answers`: the rest of the gate. The handler over each export, from requests to JSON."""

from __future__ import annotations

from marwright.pipeline.step import Job, Step, handler_file

STEP = Step(
    name="answers",
    sections=("task", "data", "preprocess", "training.threads", "postprocess", "serve.handler",
              "serve.batch_size", "serve.threads"),
    inputs=("meta.json", "model.pt", "model.onnx", "model.onnx.data", "model.int8.onnx",
            "parity.json"),
    outputs=("answers.json",),
    sources=lambda recipe: (recipe.data.file, handler_file(recipe)),
    reads_data=True,
)  # fmt: skip


def run(job: Job) -> str:
    """Send held-out samples through the handler; a wrong answer stops the build."""
    from marwright.archive.answers.check import check_answers, served_exports
    from marwright.archive.model_config import handler_options
    from marwright.archive.types import to_json
    from marwright.recipe.errors import ParityError
    from marwright.training.data import open_trained_dataset
    from marwright.training.types import read_meta

    recipe, meta = job.recipe, read_meta(job.inputs["meta.json"])
    report = check_answers(
        recipe,
        job.root,
        meta,
        open_trained_dataset(recipe, job.root, meta),
        served_exports(job.inputs, recipe.training.threads, meta.spec.dtype),
        handler_options(recipe),
    )
    if not report.ok:
        job.failed.mkdir(parents=True, exist_ok=True)
        (job.failed / "answers.json").write_bytes(to_json(report))
        raise ParityError("\n".join(report.problems))
    (job.out / "answers.json").write_bytes(to_json(report))
    said = "as the data set says" if not report.notes else "; ".join(report.notes)
    return f"{report.requests} requests to {len(report.exports)} exports; {said}"
