"""Step `report`: what was measured, as a page that a person would rather look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marwright.pipeline.layout import Layout
from marwright.pipeline.step import Job, Step
from marwright.pipeline.steps.train import STEP as TRAIN

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe


def study_file(model: str) -> str:
    """Return where the committed study of a model is, if it has any."""
    return f"archive/{model}/study.json"


def study_key(recipe: Recipe, layout: Layout) -> str:
    """Return the digest of what the trainings of a study are a function of.

    Without the parts of the machine that it was made on: the committed one is for all of them.
    """
    from marwright.pipeline.keys import KeyMaker, digest
    from marwright.training.study import variants_of

    keys = KeyMaker(layout)
    parts = {
        f"{variant}: {name}": part
        for variant, other in variants_of(recipe).items()
        for name, part in keys.parts(TRAIN, other, {}).items()
        if name.partition(" ")[0] in ("recipe", "source", "data", "file")
    }
    return digest(parts | {"seeds": recipe.study.seeds})


STEP = Step(
    name="report",
    # Training's too: a study is of a recipe as it was.
    sections=("name", "version", "description", *TRAIN.sections),
    inputs=("meta.json", "train.json", "quantise.json", "parity.json", "answers.json"),
    outputs=("report.html",),
    committed=lambda recipe: (study_file(recipe.name),),
)


def run(job: Job) -> str:
    """Draw the page. It reads reports and no model, so it is quick."""
    from marwright.report.model import write_model_page

    page, study = job.out / "report.html", job.root / study_file(job.recipe.name)
    files, key = job.inputs, ""
    if study.exists():
        files, key = {**files, "study.json": study}, study_key(job.recipe, Layout(root=job.root))
    write_model_page(page, job.recipe, files, study_key=key)
    return f"{page.stat().st_size / 1024:.0f} KiB"
