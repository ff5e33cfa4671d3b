"""Step `answers`: the rest of the gate. The handler over each export, from requests to JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marwright.pipeline.step import Job, Step, handler_file

if TYPE_CHECKING:
    from marwright.archive.types import AnswersReport

STEP = Step(
    name="answers",
    # A handler of TorchServe's own style is told the version and all of [serve] too: its golden
    # answers, which `archive` records over all of them, show whether that changes anything.
    sections=("task", "data", "preprocess", "model", "training.threads", "postprocess",
              "serve.handler", "serve.batch_size", "serve.threads"),
    inputs=("weights.safetensors", "meta.json", "model.pt", "model.onnx", "model.onnx.data",
            "model.int8.onnx", "parity.json"),
    outputs=("answers.json",),
    sources=lambda recipe: (recipe.model.file, recipe.data.file, handler_file(recipe)),
    reads_data=True,
)  # fmt: skip


def run(job: Job) -> str:
    """Send held-out samples through the handler; a wrong answer stops the build."""
    from marwright.archive.types import to_json
    from marwright.project import place
    from marwright.recipe.entry import entry_in
    from marwright.recipe.errors import ParityError

    is_service = entry_in(place(job.recipe.serve.file, job.root)).is_service
    report = _by_service(job) if is_service else _by_handle(job)
    if not report.ok:
        job.failed.mkdir(parents=True, exist_ok=True)
        (job.failed / "answers.json").write_bytes(to_json(report))
        raise ParityError("\n".join(report.problems))
    (job.out / "answers.json").write_bytes(to_json(report))
    unknown = [*report.notes, *(f"not checked: {text}" for text in report.absent)]
    said = "; ".join(unknown) or "as the data set says"
    return f"{report.requests} requests to {len(report.exports)} exports; {said}"


def _by_service(job: Job) -> AnswersReport:
    from marwright.archive.answers.check import check_answers, served_exports
    from marwright.archive.model_config import handler_options
    from marwright.training.data import open_trained_dataset
    from marwright.training.types import read_meta

    recipe, meta = job.recipe, read_meta(job.inputs["meta.json"])
    return check_answers(
        recipe,
        job.root,
        meta,
        open_trained_dataset(recipe, job.root, meta),
        served_exports(job.inputs, recipe.training.threads, meta.spec.dtype),
        handler_options(recipe),
    )


def _by_handle(job: Job) -> AnswersReport:
    import msgspec

    from marwright.archive.answers.check import served_exports
    from marwright.archive.answers.handled import Reference, check_handled
    from marwright.parity.backends import reference_backend
    from marwright.parity.types import ParityReport
    from marwright.training.checkpoint import load_checkpoint, open_checkpoint
    from marwright.training.data import open_trained_dataset

    recipe, checkpoint = job.recipe, open_checkpoint(job.inputs)
    meta = checkpoint.meta
    gate = msgspec.json.decode(job.inputs["parity.json"].read_bytes(), type=ParityReport)
    return check_handled(
        recipe,
        job.root,
        meta,
        open_trained_dataset(recipe, job.root, meta),
        job.inputs["model.pt"],
        served_exports(job.inputs, recipe.training.threads, meta.spec.dtype)["torchscript"],
        Reference(
            run=reference_backend(load_checkpoint(recipe, job.root, checkpoint)),
            atol=gate.limit,
            rtol=gate.tolerance.floor,
        ),
    )
