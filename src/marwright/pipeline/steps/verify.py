"""Step `verify`: the archive proves itself in a clean process, and only then is published."""

from __future__ import annotations

from marwright.pipeline.step import Job, Step, handler_file

STEP = Step(
    name="verify",
    inputs=("model.mar",),
    outputs=("verify.json",),
    # Started by path, not imported; and the handler runs in it, with the libraries that it needs.
    sources=lambda recipe: (
        "marwright/archive/probe.py",
        "marwright/archive/sandbox.py",
        handler_file(recipe),
    ),
    publishes=True,
)


def run(job: Job) -> str:
    """Verify the archive; the pipeline publishes it when all of this was accepted."""
    from marwright.archive.types import to_json
    from marwright.archive.verify import verify
    from marwright.recipe.errors import NotTriedError, VerifyError

    mar = job.inputs["model.mar"]
    report = verify(mar, job.out)
    if not report.ok:
        raise VerifyError("\n".join(f"{mar.name}: {problem}" for problem in report.problems))
    if report.untried:
        raise NotTriedError(f"{mar.name}: not published: {report.untried}")
    (job.out / "verify.json").write_bytes(to_json(report))
    return f"{report.members} members, {report.golden_samples} golden samples"
