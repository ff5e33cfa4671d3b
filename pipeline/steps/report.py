"""Step `report`: what was measured, as a page that a person would rather look at."""

from __future__ import annotations

from pipeline.step import Job, Step

STEP = Step(
    name="report",
    sections=("name", "version", "description"),
    inputs=("meta.json", "quantise.json", "parity.json", "answers.json"),
    outputs=("report.html",),
)


def run(job: Job) -> str:
    """Draw the page. It reads reports and no model, so it is quick."""
    from report.model import write_model_page

    page = job.out / "report.html"
    write_model_page(page, job.recipe, job.inputs)
    return f"{page.stat().st_size / 1024:.0f} KiB"
