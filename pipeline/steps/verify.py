"""Step `verify`: the archive proves itself in a clean process, and only then is published."""

from __future__ import annotations

from pipeline.step import Job, Step

STEP = Step(
    name="verify",
    inputs=("model.mar",),
    outputs=("verify.json",),
    # Started by path, not imported.
    sources=lambda _: ("archive/probe.py",),
    publishes=True,
)


def run(job: Job) -> str:
    """Verify the archive; publish it to the model store."""
    from archive.store import publish
    from archive.types import to_json
    from archive.verify import verify
    from recipes.errors import VerifyError

    mar = job.inputs["model.mar"]
    report = verify(mar)
    if not report.ok:
        raise VerifyError("\n".join(f"{mar.name}: {problem}" for problem in report.problems))
    publish(mar, report, job.store_target)
    (job.out / "verify.json").write_bytes(to_json(report))
    return f"{report.golden_samples} golden samples; published as {job.store_target.name}"
