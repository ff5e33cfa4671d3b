"""Step `parity`: the gate. Traced module and ONNX file against the checkpoint, on held-out data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marwright.pipeline.step import Job, Step

if TYPE_CHECKING:
    from marwright.parity.gate import Outcome

STEP = Step(
    name="parity",
    sections=("name", "task", "data", "preprocess", "model", "export", "parity", "training.threads",
              "training.minimum_metric", "serve.batch_size"),
    inputs=("weights.safetensors", "losses.safetensors", "meta.json", "model.pt", "model.onnx",
            "model.onnx.data", "model.int8.onnx", "quantise.json"),
    outputs=("parity.json", "worst.safetensors"),
    sources=lambda recipe: (recipe.model.file, recipe.data.file),
    committed=lambda recipe: (kept_inputs(recipe.name),),
    packages=("onnxscript",),
    reads_data=True,
)  # fmt: skip


def kept_inputs(model: str) -> str:
    """Return where a model's committed worst inputs are, if it has any."""
    return f"archive/{model}/worst.safetensors"


def run(job: Job) -> str:
    """Run the gate; a failure stops the build, and leaves all that was found for a person."""
    return gate(job, quick=False)


def gate(job: Job, *, quick: bool) -> str:
    """Run the gate, or a quick look at it, and write what it found."""
    from marwright.archive.types import to_json
    from marwright.parity.inputs_file import write_inputs
    from marwright.recipe.errors import ParityError

    outcome = _compare(job, quick=quick)
    place = job.out if outcome.report.ok else job.failed
    place.mkdir(parents=True, exist_ok=True)
    name = "quick.json" if quick and outcome.report.ok else "parity.json"
    (place / name).write_bytes(to_json(outcome.report))
    if not (quick and outcome.report.ok):
        write_inputs(outcome.worst, place / "worst.safetensors")
    if not outcome.report.ok:
        raise ParityError(_refusal(job, outcome))
    summary = outcome.report.summary()
    return (
        f"errors ≤ {summary.max_error:.1e} on held-out samples; on {summary.samples} inputs at "
        f"most {100 * summary.worst_ratio:.0f} % of what is allowed"
    )


def _compare(job: Job, *, quick: bool) -> Outcome:
    from marwright.parity.gate import run_gate
    from marwright.parity.inputs_file import read_inputs
    from marwright.parity.subject import candidate_of, subject_of
    from marwright.training.checkpoint import open_checkpoint
    from marwright.training.data import open_trained_dataset

    recipe, checkpoint = job.recipe, open_checkpoint(job.inputs)
    return run_gate(
        candidate_of(recipe, job.root, checkpoint, job.inputs),
        subject_of(
            recipe,
            checkpoint,
            open_trained_dataset(recipe, job.root, checkpoint.meta),
            read_inputs(job.root / kept_inputs(recipe.name)),
        ),
        recipe.parity,
        threads=recipe.training.threads,
        quick=quick,
        repro=job.failed / "repro",
        progress=job.progress,
    )


def _refusal(job: Job, outcome: Outcome) -> str:
    """Return what a person needs to know first, and where the rest is."""
    from marwright.archive.types import read_json
    from marwright.export.quantise.types import QuantiseReport

    report, folder = outcome.report, job.failed.relative_to(job.root)
    lines = [f"{problem.backend}: {problem.text}" for problem in report.problems]
    if any(problem.backend == "int8" for problem in report.problems):
        quantised = read_json(job.inputs["quantise.json"], QuantiseReport)
        if quantised is not None:
            lines.append(f"of the layers in int8 these cost the most: {quantised.costliest()}")
    if (where := report.divergence) is not None:
        lines.append(f"it begins in {where.backend} at {where.node} ({where.op}): {where.how}")
    if (job.failed / "repro").exists():
        lines.append(f"{folder}/repro/ shows it alone: python {folder}/repro/repro.py")
    lines.append(
        f"{folder}/report.html has it all; `make keep-worst MODEL={job.recipe.name}` keeps the "
        "worst inputs, so that they are tried first from then on"
    )
    return "\n".join(lines)
