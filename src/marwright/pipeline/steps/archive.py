"""Step `archive`: payload, handler and proof into one .mar."""

from __future__ import annotations

from marwright.pipeline.step import Job, Step, handler_file
from marwright.recipe.types import PROVEN_SECTIONS

STEP = Step(
    name="archive",
    # They are packed as they are, so all of them count.
    sections=PROVEN_SECTIONS,
    inputs=("weights.safetensors", "meta.json", "model.pt", "parity.json", "answers.json"),
    outputs=("model.mar",),
    sources=lambda recipe: (recipe.model.file, recipe.data.file),
    packed=lambda recipe: (handler_file(recipe),),
    reads_data=True,
)  # fmt: skip


def run(job: Job) -> str:
    """Record golden samples and write the archive."""
    import msgspec

    from marwright.archive.golden import golden_members
    from marwright.archive.model_config import handler_options
    from marwright.archive.proven import pack_proven
    from marwright.archive.types import AnswersReport
    from marwright.parity.types import ParityReport
    from marwright.training.checkpoint import load_checkpoint, open_checkpoint
    from marwright.training.data import open_trained_dataset
    from marwright.training.precision import in_precision

    recipe = job.recipe
    checkpoint = open_checkpoint(job.inputs)
    report = msgspec.json.decode(job.inputs["parity.json"].read_bytes(), type=ParityReport)
    answers = msgspec.json.decode(job.inputs["answers.json"].read_bytes(), type=AnswersReport)
    golden = golden_members(
        in_precision(load_checkpoint(recipe, job.root, checkpoint), recipe.export.precision),
        checkpoint.meta,
        open_trained_dataset(recipe, job.root, checkpoint.meta),
        recipe,
        job.root,
        handler_options(recipe),
        traced=job.inputs["model.pt"],
        atol=report.limit,
        rtol=report.tolerance.floor,
    )
    artifact = pack_proven(
        recipe,
        job.inputs["model.pt"],
        report,
        answers,
        checkpoint.meta,
        golden,
        root=job.root,
        target=job.out / "model.mar",
    )
    return f"{len(artifact.members)} members, {artifact.size / 1024:.0f} KiB"
