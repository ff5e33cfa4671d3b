"""Tiny recipes and archives. Importing this needs no torch; the payload here is not a model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy

from marwright.archive.proven import pack_proven
from marwright.archive.types import (
    GOLDEN,
    GOLDEN_INDEX,
    GOLDEN_TENSORS,
    INVENTORY,
    MANIFEST,
    AnswersReport,
    VerifyReport,
    to_json,
)
from marwright.archive.write import write_archive, write_members
from marwright.parity.types import Case, ParityReport, Problem, Tolerance
from marwright.recipe.types import Recipe
from marwright.runtime.spec import ImageSpec, spec_to_dict
from marwright.training.types import Meta
from tests.specs import numbers

ROOT = Path(__file__).resolve().parents[2]
LABELS = ("left", "right", "top")

_IMAGE: dict[str, Any] = {
    "name": "tiny_image",
    "version": "1.2",
    "task": "classification",
    "data": {"dataset": "digits"},
    "preprocess": {"kind": "image", "channels": 1, "height": 8, "width": 8},
    "model": {"factory": "small_cnn", "params": {"width": 4}},
    "fit": {"epochs": 4, "batch_size": 16, "learning_rate": 0.01},
    "augment": {"shift": 1},
    "postprocess": {"top_k": 2},
    "serve": {"handler": "classify_image"},
}
_TABLE: dict[str, Any] = {
    "name": "tiny_table",
    "version": "1.0",
    "task": "regression",
    "data": {"dataset": "diabetes"},
    "preprocess": {"kind": "table"},
    "model": {"factory": "mlp", "params": {"hidden": 4}},
    "fit": {"epochs": 4, "batch_size": 16},
    "postprocess": {"decimals": 3},
    "serve": {"handler": "predict_table"},
}


def image_recipe(**sections: Any) -> Recipe:
    """A classification recipe; each section given replaces keys of the tiny one."""
    return _recipe(_IMAGE, sections)


def table_recipe(**sections: Any) -> Recipe:
    """A regression recipe; each section given replaces keys of the tiny one."""
    return _recipe(_TABLE, sections)


def _recipe(base: dict[str, Any], sections: dict[str, Any]) -> Recipe:
    values = dict(base)
    for name, value in sections.items():
        old = base.get(name, {})
        values[name] = {**old, **value} if isinstance(value, dict) else value
    return msgspec.convert(values, Recipe)


def image_meta() -> Meta:
    spec = ImageSpec(
        channels=1, height=8, width=8, fit="crop", interpolation="bilinear",
        mean=(0.5,), std=(0.25,),
    )  # fmt: skip
    return _meta("classification", spec_to_dict(spec), list(LABELS), {"accuracy": 0.75})


def table_meta() -> Meta:
    spec = numbers(
        ("a", "b"), center=(0.5, 1.5), scale=(1.0, 2.0),
        target="y", target_mean=10.0, target_std=4.0,
    )  # fmt: skip
    return _meta("regression", spec_to_dict(spec), [], {"r2": 0.5})


def _meta(
    task: Any, preprocess: dict[str, Any], labels: list[str], metrics: dict[str, float]
) -> Meta:
    return Meta(
        task=task,
        preprocess=preprocess,
        labels=labels,
        outputs=max(1, len(labels)),
        metrics=metrics,
        baseline=dict.fromkeys(metrics, 0.25),
        gain=(0.1, 0.4),
        test_loss=0.25,
        validation_loss=0.5,
        epochs=2,
        best_epoch=1,
        seed=0,
        device="cpu",
        splits={"train": "1" * 64, "validation": "2" * 64, "test": "3" * 64},
        split_sizes={"train": 10, "validation": 2, "test": 3},
        versions={"torch": "0", "numpy": "0"},
    )


def parity_case(**values: Any) -> Case:
    """A case that passed, but for the values given."""
    passed: dict[str, Any] = {
        "backend": "onnx", "kind": "held-out", "batch": 2, "shape": [1, 8, 8], "samples": 10,
        "max_error": 1e-6, "ratio": 0.25, "batch_ratio": 0.125, "flips": 0, "forgiven": 0,
        "worst_sample": 3, "ok": True,
    }  # fmt: skip
    return Case(**{**passed, **values})


def parity_report(*cases: Case, problems: Iterable[Problem] = ()) -> ParityReport:
    """A report over these cases, or over one that passed."""
    chosen, found = list(cases) or [parity_case()], list(problems)
    return ParityReport(
        ok=all(case.ok for case in chosen) and not found,
        task="classification",
        precision="fp32",
        tolerance=Tolerance(k=8.0, floor=1e-6),
        samples={"held-out": 10},
        signal=1.0,
        noise=1e-7,
        size=4.0,
        limit=4e-6,
        flops=1000,
        cases=chosen,
        problems=found,
    )


def answers_report(*problems: str) -> AnswersReport:
    """A report of answers that were right, but for these problems."""
    return AnswersReport(
        ok=not problems, requests=10, exports=["torchscript"], problems=list(problems)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What `pack_proven` is given. The bytes of the model and of the tensors are made up."""

    recipe: Recipe
    meta: Meta
    traced: Path
    golden: dict[str, bytes]

    def pack(
        self,
        target: Path,
        *,
        root: Path = ROOT,
        report: ParityReport | None = None,
        answers: AnswersReport | None = None,
    ) -> Path:
        artifact = pack_proven(
            self.recipe,
            self.traced,
            report or parity_report(),
            answers or answers_report(),
            self.meta,
            self.golden,
            root=root,
            target=target,
        )
        return artifact.path


def payload(folder: Path, *, table: bool = False, handler: str = "classify_image") -> Payload:
    traced = folder / "model.pt"
    traced.write_bytes(bytes(range(256)) * 8)
    numbers = range(4)
    names = [f"{GOLDEN}/{number}.request" for number in numbers]
    samples = [{"request": n, "content_type": "image/png", "answer": "right"} for n in names]
    tensors = {f"input.{n}": np.ones((1, 1, 8, 8), np.float32) for n in numbers}
    tensors |= {f"output.{n}": np.arange(3, dtype=np.float32)[None] for n in numbers}
    golden = {
        **dict.fromkeys(names, b"the bytes of a request"),
        GOLDEN_INDEX: to_json({"atol": 1e-4, "rtol": 1e-4, "samples": samples}),
        GOLDEN_TENSORS: safetensors.numpy.save(tensors),
    }
    return Payload(
        recipe=table_recipe() if table else image_recipe(serve={"handler": handler}),
        meta=table_meta() if table else image_meta(),
        traced=traced,
        golden=golden,
    )


def members_of(mar: Path) -> dict[str, bytes]:
    """Return the bytes of an archive's members by name."""
    with zipfile.ZipFile(mar) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(
    mar: Path, target: Path, changes: Mapping[str, bytes | None], *, proven: bool = False
) -> Path:
    """Write an archive again with some members changed, added, or (None) left out.

    With `proven`, the inventory is made to fit, as someone would who wants to deceive: only what
    the archive does can still give it away.
    """
    members = {**members_of(mar), **changes}
    kept = {name: content for name, content in members.items() if content is not None}
    if proven:
        del kept[INVENTORY]
        return write_archive(target, kept, proven=True).path
    return write_members(target, kept)


def edited(mar: Path, name: str, old: str, new: str) -> dict[str, bytes]:
    """Return the change that replaces text in a member; it must be there."""
    text = members_of(mar)[name].decode()
    assert old in text, f"{name} does not contain {old!r}"
    return {name: text.replace(old, new).encode()}


def edited_json(mar: Path, name: str, **values: Any) -> dict[str, bytes]:
    """Return the change that sets keys of a JSON member."""
    return {name: to_json({**json.loads(members_of(mar)[name]), **values})}


def edited_manifest(mar: Path, **values: Any) -> dict[str, bytes]:
    """Return the change that sets keys of the manifest's `model`; None removes one."""
    manifest = json.loads(members_of(mar)[MANIFEST])
    model = {**manifest["model"], **values}
    manifest["model"] = {key: value for key, value in model.items() if value is not None}
    return {MANIFEST: to_json(manifest)}


def verified(mar: Path, **values: Any) -> VerifyReport:
    """The report of an archive that was found to be proven, but for the values given."""
    from marwright.files import sha256_file

    found: dict[str, Any] = {
        "sha256": sha256_file(mar), "size": mar.stat().st_size, "members": 3,
        "golden_samples": 4, "handler": "tried", "proven": True, "problems": [],
    }  # fmt: skip
    return VerifyReport(**{**found, **values})
