"""`make release VERSION=…`: every recipe from clean, every gate, and what to publish in `dist/`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec

from marwright.archive.types import to_json
from marwright.cli.alone import alone
from marwright.cli.summary import summarise
from marwright.files import sha256_file, sync
from marwright.pipeline.build import build, damaged
from marwright.pipeline.layout import Layout
from marwright.pipeline.plan import STEPS
from marwright.recipe.errors import UsageError, VerifyError
from marwright.recipe.load import load_recipes

_VERSION = r"[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?"


def release(version: str, layout: Layout, *, jobs: int) -> int:
    """Build a release of all models into `dist/`; returns the exit code.

    Builds in a folder of its own, so that nothing of an earlier build can get in and nothing of
    the person's own is touched. `dist/` is replaced only once everything is there. Raises
    `UsageError` for a version that is not one, `RecipeError` for any bad recipe, and
    `VerifyError` when an output is not what was just built.
    """
    if not re.fullmatch(_VERSION, version):
        raise UsageError(f"VERSION={version}: not a version like 1.2.0 (without a v)")
    dist = layout.root / "dist"
    if dist.is_symlink() or (dist.exists() and not dist.is_dir()):
        raise UsageError("dist: is not a folder; a release replaces it, so move it away")
    recipes, unreadable = load_recipes(layout.recipes)
    for error in unreadable.values():
        raise error
    place = layout.root / "build" / "release"
    clean = Layout(root=layout.root, build="build/release/build", store="build/release/model_store")
    # Two releases at once would take each other's files.
    with alone(place, "another release"):
        for old in (place / "build", place / "model_store", place / "dist", place / "old"):
            if old.exists():
                shutil.rmtree(old)
        outcomes = build(recipes, STEPS, clean, jobs=jobs)
        if code := summarise(outcomes, ["release"], clean):
            return code
        _require_undamaged([*recipes], clean)
        _collect(version, [*recipes], clean, place / "dist")
        if dist.exists():
            dist.rename(place / "old")
        (place / "dist").rename(dist)
        sync(layout.root)
    print(f"\ndist/ holds release {version}:")
    print((dist / "SHA256SUMS").read_text(encoding="utf-8"), end="")
    return 0


def _require_undamaged(models: list[str], layout: Layout) -> None:
    if problems := [line for model in models for line in damaged(model, layout)]:
        raise VerifyError("\n".join(problems))


def _collect(version: str, models: list[str], layout: Layout, dist: Path) -> None:
    """Copy what is published: archives, ONNX files, the parity reports as one, and digests."""
    dist.mkdir()
    reports = {}
    for model in models:
        folder = layout.folder(model)
        shutil.copyfile(layout.store_target(model), dist / f"{model}-{version}.mar")
        onnx = dist / f"{model}-{version}.onnx"
        if (folder / "model.onnx.data").exists():
            from marwright.export.to_onnx import copy_with_side_file

            copy_with_side_file(folder / "model.onnx", onnx)
        else:
            shutil.copyfile(folder / "model.onnx", onnx)
        if (int8 := folder / "model.int8.onnx").exists():
            shutil.copyfile(int8, dist / f"{model}-{version}.int8.onnx")
        reports[model] = msgspec.json.decode((folder / "parity.json").read_bytes())
    (dist / "parity.json").write_bytes(to_json(reports))
    lines = [f"{sha256_file(path)}  {path.name}\n" for path in sorted(dist.iterdir())]
    (dist / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
