"""Step `archive`: payload, handler and proof into one .mar."""

from __future__ import annotations

from pipeline.step import Job, Step, dataset_file, handler_file, model_file

STEP = Step(
    name="archive",
    # The canonical recipe is packed, so all of it counts.
    sections=("name", "version", "task", "description", "data", "preprocess", "model", "fit",
              "export", "postprocess", "serve"),
    inputs=("weights.safetensors", "meta.json", "model.pt", "parity.json"),
    outputs=("model.mar",),
    sources=lambda recipe: (model_file(recipe), dataset_file(recipe)),
    packed=lambda recipe: (handler_file(recipe),),
    reads_data=True,
)  # fmt: skip


def run(job: Job) -> str:
    """Record golden samples and write the archive."""
    import msgspec

    from archive.golden import golden_members
    from archive.model_config import handler_options
    from archive.proven import pack_proven
    from archive.types import ParityReport
    from train.checkpoint import load_checkpoint, open_checkpoint
    from train.data import open_trained_dataset

    recipe = job.recipe
    checkpoint = open_checkpoint(job.inputs)
    report = msgspec.json.decode(job.inputs["parity.json"].read_bytes(), type=ParityReport)
    golden = golden_members(
        load_checkpoint(recipe, checkpoint),
        checkpoint.meta,
        open_trained_dataset(recipe, checkpoint.meta),
        recipe,
        handler_options(recipe),
    )
    artifact = pack_proven(
        recipe,
        job.inputs["model.pt"],
        report,
        checkpoint.meta,
        golden,
        root=job.root,
        target=job.out / "model.mar",
    )
    return f"{len(artifact.members)} members, {artifact.size / 1024:.0f} KiB"
