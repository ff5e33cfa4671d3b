"""What goes into a proven archive, what stays out, and what its proof says of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from marwright.archive.manifest import ARCHIVER
from marwright.archive.sources import SourceReader
from marwright.archive.types import GOLDEN, INVENTORY, MANIFEST, PROOF, Inventory, Proof
from marwright.project import ENGINE
from marwright.recipe.errors import PackError
from marwright.recipe.types import canonical
from marwright.runtime.spec import load_spec
from tests.archive.tiny import (
    LABELS,
    ROOT,
    answers_report,
    image_recipe,
    members_of,
    parity_case,
    parity_report,
    payload,
)

RUNTIME = "marwright/runtime"
COMMON = {
    MANIFEST,
    INVENTORY,
    PROOF,
    *(f"{GOLDEN}/{number}.request" for number in range(4)),
    f"{GOLDEN}/index.json",
    f"{GOLDEN}/tensors.safetensors",
    "marwright/__init__.py",
    f"{RUNTIME}/__init__.py",
    *(f"{RUNTIME}/images/{file.name}" for file in (ENGINE / RUNTIME / "images").glob("*.py")),
    f"{RUNTIME}/preprocess.py",
    f"{RUNTIME}/read.py",
    f"{RUNTIME}/request.py",
    f"{RUNTIME}/service.py",
    f"{RUNTIME}/spec.py",
    "model-config.yaml",
    "model.pt",
    "preprocess.json",
}


def test_classifier_is_packed_with_its_handler_as_a_tree(packed: Path) -> None:
    members = members_of(packed)
    assert set(members) == COMMON | {
        f"{RUNTIME}/classify_image.py",
        f"{RUNTIME}/ranked.py",
        "labels.json",
    }
    for name in members:
        if name.startswith("handlers/"):
            assert members[name] == (ROOT / name).read_bytes()
    assert json.loads(members["labels.json"]) == list(LABELS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gain": (-0.125, 0.25)}, "may be above its baseline, 0.2500, by chance"),
        ({"gain": (0.0, 0.25)}, "may be above its baseline, 0.2500, by chance"),
        ({"metrics": {"accuracy": 0.2}, "gain": (-0.5, -0.1)}, "is not above its baseline, 0.25"),
        # As an older checkpoint has it, or one that somebody edited.
        ({"baseline": {}, "gain": None}, "its baseline was not measured: train it again"),
        ({"gain": None}, "its baseline was not measured: train it again"),
        ({"metrics": {}}, "accuracy nan"),
    ],
)
def test_what_is_not_worth_shipping_is_not_packed(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    made = payload(tmp_path)
    bad = replace(made, meta=msgspec.structs.replace(made.meta, **changes))
    with pytest.raises(PackError, match=f"^tiny_image: not packed: .*{said}"):
        bad.pack(tmp_path / "tiny.mar")
    assert not (tmp_path / "tiny.mar").exists()
    recipe = image_recipe(fit={"minimum_metric": "any"})
    assert replace(bad, recipe=recipe).pack(tmp_path / "tiny.mar").exists()


def test_what_misses_its_minimum_is_not_packed(tmp_path: Path) -> None:
    made = replace(payload(tmp_path), recipe=image_recipe(fit={"minimum_metric": 0.8}))
    with pytest.raises(PackError, match=r"0\.7500 on the test split, below \[fit\] minimum_metric"):
        made.pack(tmp_path / "tiny.mar")


def test_regression_has_no_labels(tmp_path: Path) -> None:
    mar = payload(tmp_path, table=True).pack(tmp_path / "tiny.mar")
    assert set(members_of(mar)) == COMMON | {f"{RUNTIME}/predict_table.py"}


def test_nothing_of_the_other_rooms_is_packed_with_any_handler() -> None:
    runtime = "marwright/runtime/"
    names = {file.name for file in (ENGINE / runtime).glob("*.py")}
    assert names > {"classify_image.py", "predict_table.py"}
    for name in names:
        files = {*SourceReader(ROOT, engine=ENGINE).closure([runtime + name]).files}
        assert runtime + name in files
        others = {path for path in files if not path.startswith(runtime)}
        assert others == {"marwright/__init__.py"}


def test_preprocess_json_is_the_spec(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "preprocess.json").write_bytes(members_of(packed)["preprocess.json"])
    assert load_spec(tmp_path / "preprocess.json") == payload(tmp_path).meta.spec


def project_with(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_a_handler_imports_is_packed_where_it_will_be_imported_from(tmp_path: Path) -> None:
    root = project_with(
        tmp_path,
        {
            "handlers/own.py": "from handlers.vision.boxes import crop\nimport words\n",
            "handlers/vision/__init__.py": "",
            "handlers/vision/boxes.py": "def f():\n    from . import edges\n",
            "handlers/vision/edges.py": "",
            "handlers/vision/unused.py": "",
            "words.py": "",
            "train/data.py": "",
        },
    )
    members = members_of(
        payload(tmp_path, handler="handlers/own.py").pack(tmp_path / "tiny.mar", root=root)
    )
    assert {name for name in members if name.endswith(".py")} == {
        "handlers/own.py",
        "handlers/vision/__init__.py",
        "handlers/vision/boxes.py",
        "handlers/vision/edges.py",
        "words.py",
    }


def test_a_handler_takes_of_the_engine_what_is_for_it_alone(tmp_path: Path) -> None:
    root = project_with(tmp_path, {"handlers/own.py": "import marwright.training.data\n"})
    with pytest.raises(
        PackError, match=r"^handlers/own\.py:1: imports marwright\.training\.data, and of m"
    ):
        payload(tmp_path, handler="handlers/own.py").pack(tmp_path / "tiny.mar", root=root)


def test_missing_handler_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"handlers/own\.py: no such file"):
        payload(tmp_path, handler="handlers/own.py").pack(tmp_path / "tiny.mar", root=tmp_path)


def test_manifest_names_the_recipes_model_and_handler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    mar = payload(tmp_path).pack(tmp_path / "tiny.mar")
    assert json.loads(members_of(mar)[MANIFEST]) == {
        "createdOn": "01/01/1980 00:00:00",
        "runtime": "python",
        "archiverVersion": ARCHIVER,
        "model": {
            "modelName": "tiny_image",
            "modelVersion": "1.2",
            "handler": "marwright.runtime.classify_image:handle",
            "serializedFile": "model.pt",
            "configFile": "model-config.yaml",
        },
    }


def test_inventory_lists_every_other_member_with_its_digest(packed: Path) -> None:
    members = members_of(packed)
    inventory = msgspec.json.decode(members.pop(INVENTORY), type=Inventory)
    assert inventory.members == {n: hashlib.sha256(c).hexdigest() for n, c in members.items()}
    assert inventory.proven
    assert inventory.format == 2


def test_proof_says_where_the_model_comes_from(tmp_path: Path) -> None:
    made = payload(tmp_path)
    mar = made.pack(tmp_path / "tiny.mar")
    proof = msgspec.json.decode(members_of(mar)[PROOF], type=Proof)
    declared = canonical(image_recipe())
    # A study changes nothing of what is packed.
    del declared["study"]
    assert proof.recipe == declared
    assert (proof.metrics, proof.splits) == (made.meta.metrics, made.meta.splits)
    assert proof.versions == made.meta.versions
    assert proof.parity == parity_report().summary()
    assert proof.answers == answers_report()


def test_failed_parity_is_never_packed(tmp_path: Path) -> None:
    failed = parity_report(parity_case(), parity_case(ok=False))
    (tmp_path / "tiny.mar").write_bytes(b"old")
    with pytest.raises(PackError, match="tiny_image: not packed: the parity gate did not pass"):
        payload(tmp_path).pack(tmp_path / "tiny.mar", report=failed)
    assert (tmp_path / "tiny.mar").read_bytes() == b"old"


def test_wrong_answers_are_never_packed(tmp_path: Path) -> None:
    wrong = answers_report("sample 3 of the test split: refused: too small for me")
    with pytest.raises(PackError, match="tiny_image: not packed: the parity gate did not pass"):
        payload(tmp_path).pack(tmp_path / "tiny.mar", answers=wrong)
    assert not (tmp_path / "tiny.mar").exists()


def test_same_project_in_another_folder_gives_the_same_archive(
    packed: Path, tmp_path: Path
) -> None:
    root = project_with(tmp_path / "deep" / "down", {})
    mar = payload(tmp_path).pack(tmp_path / "other.mar", root=root)
    assert mar.read_bytes() == packed.read_bytes()


def test_no_path_of_this_machine_is_inside(packed: Path) -> None:
    content = packed.read_bytes()
    assert str(ROOT).encode() not in content
    assert str(Path.home()).encode() + b"/" not in content
