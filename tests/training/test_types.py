"""What splits and checkpoints are by themselves, without torch."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.recipe.errors import TrainError
from marwright.runtime.spec import spec_to_dict
from marwright.training.samples import Fault, ImageSamples, Samples
from marwright.training.types import Meta, Splits, read_meta, write_meta
from tests.projects import ROOT
from tests.specs import numbers
from tests.training.conftest import image_samples, table_samples

SPEC = numbers(("a",), center=(0.1,), scale=(3.0,), target_mean=1.0, target_std=2.0)
META = Meta(
    task="regression",
    preprocess=spec_to_dict(SPEC),
    labels=[],
    outputs=1,
    metrics={"r2": 0.5},
    test_loss=0.125,
    validation_loss=0.25,
    epochs=3,
    best_epoch=2,
    seed=0,
    device="cpu",
    splits={"train": "0" * 64},
    split_sizes={"train": 10},
    faults=[Fault(where="a.csv row 7", what="price is 'nan'")],
    versions={"torch": "2"},
)


def splits_of(samples: Samples, train: list[int], validation: list[int], test: list[int]) -> Splits:
    return Splits(
        samples=samples,
        contents=tuple(samples.content(index).hex() for index in range(len(samples))),
        train=np.sort(train),
        validation=np.sort(validation),
        test=np.sort(test),
    )


def rearranged(samples: Samples, order: list[int]) -> Samples:
    """Return the samples in another order."""
    if isinstance(samples, ImageSamples):
        images = [samples.images[index] for index in order]
        return dataclasses.replace(samples, images=images, targets=samples.targets[order])
    return dataclasses.replace(samples, rows=samples.rows[order], targets=samples.targets[order])


@pytest.mark.parametrize("samples", [image_samples(12), table_samples(12)], ids=["image", "table"])
@settings(derandomize=True, database=None, deadline=None, max_examples=30)
@given(order=st.permutations(range(12)))
def test_digests_do_not_know_the_order(samples: Samples, order: list[int]) -> None:
    moved = rearranged(samples, order)
    place = [order.index(number) for number in range(12)]
    before = splits_of(samples, list(range(6)), [6, 7, 8], [9, 10, 11])
    after = splits_of(moved, place[:6], place[6:9], place[9:])
    assert before.digests() == after.digests()


def test_digests_know_every_sample_and_every_label() -> None:
    samples = image_samples(12)
    parts: tuple[list[int], ...] = (list(range(6)), [6, 7, 8], [9, 10, 11])
    before = splits_of(samples, *parts).digests()
    assert len(set(before.values())) == 3
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in before.values())

    targets = samples.targets.copy()
    targets[7] = 1 - targets[7]
    relabelled = splits_of(dataclasses.replace(samples, targets=targets), *parts).digests()
    images = [image.copy() for image in samples.images]
    images[7][0, 0] ^= 1
    redrawn = splits_of(dataclasses.replace(samples, images=images), *parts).digests()
    removed = splits_of(samples, parts[0], [6, 8], parts[2]).digests()
    twice = splits_of(samples, parts[0], [6, 7, 7, 8], parts[2]).digests()
    for after in (relabelled, redrawn, removed, twice):
        assert after["validation"] != before["validation"]
        assert (after["train"], after["test"]) == (before["train"], before["test"])
    assert relabelled["validation"] != redrawn["validation"]


def test_a_digest_knows_the_last_bit_of_a_value() -> None:
    samples = table_samples(4)
    before = splits_of(samples, [0, 1], [2], [3]).digests()
    targets = samples.targets.copy()
    targets[0] = np.nextafter(targets[0], np.inf)
    after = splits_of(dataclasses.replace(samples, targets=targets), [0, 1], [2], [3]).digests()
    assert after["train"] != before["train"]


def test_meta_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_meta(META, tmp_path / "meta.json")
    assert read_meta(tmp_path / "meta.json") == META
    assert read_meta(tmp_path / "meta.json").spec == SPEC


def test_meta_is_the_same_bytes_each_time_and_readable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_meta(META, tmp_path / name)
    text = (tmp_path / "a").read_text(encoding="utf-8")
    assert text == (tmp_path / "b").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    keys = list(json.loads(text))
    assert keys == sorted(keys)


def damaged(**values: Any) -> bytes:
    import msgspec

    return json.dumps(msgspec.to_builtins(META) | values).encode()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", damaged(seed="0"), damaged(more=1), damaged(metrics={"r2": None})],
)
def test_damaged_meta_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "meta.json").write_bytes(content)
    with pytest.raises(TrainError, match=r"^meta\.json: "):
        read_meta(tmp_path / "meta.json")


def test_missing_meta_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"^meta\.json: "):
        read_meta(tmp_path / "meta.json")


def test_nothing_of_it_needs_torch() -> None:
    names = ", ".join(f"marwright.training.{name}" for name in ("types", "splits", "card"))
    code = f"import sys, {names}; assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
