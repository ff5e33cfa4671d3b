"""`make release VERSION=…`: every recipe from clean, every gate, and what to publish in `dist/`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec

from archive.files import sha256_file, sync_folder
from archive.types import to_json
from pipeline.build import build
from pipeline.layout import Layout
from pipeline.plan import STEPS
from pipeline.summary import summarise
from recipes.errors import MarwrightError
from recipes.load import load_recipes

_VERSION = r"[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?"


def release(version: str, layout: Layout, *, jobs: int) -> int:
    """Build a release of all models into `dist/`; returns the exit code.

    Builds in a folder of its own, so that nothing of an earlier build can get in and nothing of
    the person's own is touched. `dist/` is replaced only once everything is there. Raises
    `MarwrightError` for a version that is not one, `RecipeError` for any bad recipe.
    """
    if not re.fullmatch(_VERSION, version):
        raise MarwrightError(f"VERSION={version}: not a version like 1.2.0 (without a v)")
    recipes, unreadable = load_recipes(layout.recipes)
    for error in unreadable.values():
        raise error
    clean = Layout(root=layout.root, build="build/release", store="build/release/model_store")
    shutil.rmtree(clean.root / clean.build, ignore_errors=True)
    outcomes = build(recipes, STEPS, clean, jobs=jobs)
    if code := summarise(outcomes, STEPS[-1].name, clean):
        return code
    staged = clean.root / clean.build / "dist"
    _collect(version, [*recipes], clean, staged)
    dist = layout.root / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    staged.rename(dist)
    sync_folder(layout.root)
    print(f"\ndist/ holds release {version}:")
    print((dist / "SHA256SUMS").read_text(encoding="utf-8"), end="")
    return 0


def _collect(version: str, models: list[str], layout: Layout, dist: Path) -> None:
    """Copy what is published: archives, ONNX files, the parity reports as one, and digests."""
    dist.mkdir()
    reports = {}
    for model in models:
        folder = layout.folder(model)
        shutil.copyfile(layout.store_target(model), dist / f"{model}-{version}.mar")
        shutil.copyfile(folder / "model.onnx", dist / f"{model}-{version}.onnx")
        side_file = folder / "model.onnx.data"
        if side_file.exists():
            # The ONNX file names it, so it keeps its name and gets a folder of its own.
            (dist / f"{model}-{version}").mkdir()
            shutil.copyfile(side_file, dist / f"{model}-{version}" / side_file.name)
        reports[model] = msgspec.json.decode((folder / "parity.json").read_bytes())
    (dist / "parity.json").write_bytes(to_json(reports))
    files = sorted(path for path in dist.rglob("*") if path.is_file())
    lines = [f"{sha256_file(path)}  {path.relative_to(dist).as_posix()}\n" for path in files]
    (dist / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
