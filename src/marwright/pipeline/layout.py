"""Where things are: the folders of a project, and what a step's outputs are called in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from marwright.pipeline.step import Step
from marwright.recipe.paths import RECIPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A project's folders. `build` and `store` are relative to `root`; no key reads them."""

    root: Path
    build: str = "build"
    store: str = "model_store"

    @property
    def recipes(self) -> Path:
        """The folder of the recipes."""
        return self.root / RECIPES

    def folder(self, model: str) -> Path:
        """Return the build folder of a model."""
        return self.root / self.build / model

    def failed(self, model: str, step: str) -> Path:
        """Return where a step that failed leaves what a person should look at."""
        return self.folder(model) / "failed" / step

    def resume(self, model: str, step: str) -> Path:
        """Return where a step keeps what it goes on from after a kill."""
        return self.folder(model) / "resume" / step

    def record(self, model: str, step: str) -> Path:
        """Return the file that records a step's last complete run."""
        return self.folder(model) / "state" / f"{step}.json"

    def store_target(self, model: str) -> Path:
        """Return the model's place in the model store."""
        return self.root / self.store / f"{model}.mar"

    def output(self, model: str, name: str) -> str:
        """Return the path of an output, relative to the root; the archive is named by its model."""
        return f"{self.build}/{model}/{model + '.mar' if name == 'model.mar' else name}"

    def outputs(self, model: str, step: Step, made: Iterable[str]) -> list[str]:
        """Return the paths of what a step made, and of what it published, relative to the root."""
        paths = [self.output(model, name) for name in made]
        return [*paths, f"{self.store}/{model}.mar"] if step.publishes else paths
