"""Texts on their way to a model: what is the same, what is a fault, what a client would send."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from marwright.recipe.errors import DataError
from marwright.runtime.preprocess import text_array
from marwright.runtime.read import read_text
from marwright.runtime.spec import TextSpec
from marwright.training.audit import audited, without
from marwright.training.data import open_dataset
from marwright.training.leakage import duplicates
from marwright.training.metrics import Evaluation
from marwright.training.preprocess import fit_preprocess
from marwright.training.run import prepare, tensors_of, train
from marwright.training.samples import TextSamples
from marwright.training.splits import split
from marwright.training.tensors import inputs_of, targets_of
from marwright.training.types import Splits
from marwright.training.wrong import most_wrong
from tests.training.conftest import ModuleMaker, table_recipe, table_samples
from tests.training.texts import LABELS, text_recipe, text_samples

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

SPEC = TextSpec(max_bytes=40)


def texts_of(*texts: str, targets: list[int] | None = None) -> TextSamples:
    labels = np.array(targets or [n % 2 for n in range(len(texts))], dtype=np.int64)
    return TextSamples(texts=texts, targets=labels, labels=LABELS)


def test_what_a_text_is_is_its_utf8() -> None:
    samples = texts_of("größe", "große", "größe", "gro\u0308ße")
    contents = [samples.content(index) for index in range(4)]
    assert contents[0] == contents[2] == "größe".encode()
    assert len(set(contents)) == 3


@pytest.mark.parametrize("text", ["plain", ' "quoted" ', "[1]", "{", '\n{"text": "a"}', "größe"])
def test_what_a_client_sends_is_read_as_training_reads_it(text: str) -> None:
    samples = texts_of(text)
    body, content_type = samples.request(0)
    expected = inputs_of(samples, np.array([0]), SPEC).numpy()
    assert np.array_equal(read_text(body, SPEC), expected)
    if content_type == "application/json":
        # As a worker has decoded it.
        assert text.lstrip().startswith("{")
        assert np.array_equal(read_text(json.loads(body), SPEC), expected)
    else:
        assert content_type == "text/plain; charset=utf-8"
        assert np.array_equal(read_text(body.decode(), SPEC), expected)


def test_inputs_are_the_numbers_of_bytes_and_targets_are_labels() -> None:
    samples = texts_of("ab", "c", "def")
    chosen = np.array([2, 1])
    inputs = inputs_of(samples, chosen, SPEC)
    assert inputs.dtype == torch.int64
    assert np.array_equal(inputs, text_array(["def", "c"], SPEC))
    assert targets_of(samples, chosen, SPEC).tolist() == [0, 1]


def test_texts_that_a_server_refuses_are_faults() -> None:
    odd: list[str] = ["", " \n", "\ud800", 3]  # type: ignore[list-item]
    samples = texts_of("a", *odd, "b", "c", "d", targets=[0, 0, 1, 0, 1, 1, 0, 1])
    clean, faults = audited(samples, skip=True, where="here")
    assert [*clean.texts] == ["a", "b", "c", "d"]
    assert clean.targets.tolist() == [0, 1, 0, 1]
    assert [(fault.where, fault.what) for fault in faults] == [
        ("sample 1", "the text is empty"),
        ("sample 2", "the text is blank"),
        ("sample 3", "the text holds half a surrogate pair"),
        ("sample 4", "is a int, not a text"),
    ]
    with pytest.raises(DataError, match="4 faults in the data"):
        audited(samples, skip=False, where="here")
    assert [*without(samples, faults).texts] == [*clean.texts]


def pairs_of(*texts: str, held_out: int = 1) -> list[tuple[str, str]]:
    """Return which of the first texts are near copies of others."""
    places = np.arange(len(texts))
    samples = texts_of(*texts)
    splits = Splits(
        samples=samples,
        contents=tuple(samples.content(int(n)).hex() for n in places),
        test=places[:held_out],
        validation=places[:0],
        train=places[held_out:],
    )
    found = duplicates(splits)
    assert found.compared + found.leaked == held_out
    return [(pair.held_out, pair.train) for pair in found.pairs]


@pytest.mark.parametrize(
    "copy",
    [
        "the  cat\nsat",
        " The Cat Sat ",
        "THE CAT SAT",
        "ｔｈｅ cat sat",
        "the\u00a0cat sat",
        "the cat ſat",
    ],
)
def test_a_text_that_only_looks_otherwise_is_a_near_copy(copy: str) -> None:
    assert pairs_of(copy, "a dog", "the cat sat") == [("sample 0", "sample 2")]


def test_case_that_folds_to_two_letters_is_a_near_copy() -> None:
    assert pairs_of("STRASSE", "a dog", "straße") == [("sample 0", "sample 2")]
    assert pairs_of("CAFE\u0301", "a dog", "café") == [("sample 0", "sample 2")]


@pytest.mark.parametrize("other", ["the cat sits", "thecat sat", "the cat, sat", "the cát sat"])
def test_other_words_are_no_near_copy(other: str) -> None:
    assert pairs_of(other, "a dog", "the cat sat") == []


def test_the_length_is_the_recipes() -> None:
    splits = split(text_samples(), validation=0.2, test=0.2, salt="")
    assert fit_preprocess(text_recipe(max_bytes=12), splits) == TextSpec(max_bytes=12)


def test_a_data_set_of_another_kind_is_refused(make_module: ModuleMaker) -> None:
    make_module("marwright.training.datasets.tiny", load=text_samples)
    with pytest.raises(DataError, match="holds TextSamples, not TableSamples"):
        open_dataset(table_recipe(), Path())
    make_module("marwright.training.datasets.tiny", load=table_samples)
    with pytest.raises(DataError, match="holds TableSamples, not TextSamples"):
        open_dataset(text_recipe(), Path())


def test_as_many_texts_as_targets_are_needed(make_module: ModuleMaker) -> None:
    short = replace(text_samples(), targets=np.zeros(3, dtype=np.int64))
    make_module("marwright.training.datasets.tiny", load=lambda: short)
    with pytest.raises(DataError, match="80 texts, but 3 targets"):
        open_dataset(text_recipe(), Path())


def test_what_is_most_wrong_is_shown_as_a_text() -> None:
    samples = texts_of("long" * 200, "b", targets=[0, 1])
    places = np.arange(2)
    splits = Splits(
        samples=samples, contents=("a", "b"), test=places, validation=places, train=places
    )
    tested = Evaluation(
        outputs=torch.tensor([[0.0, 1.0], [2.0, 0.0]]),
        targets=torch.tensor([0, 1]),
        losses=torch.tensor([1.0, 2.0]),
        metric=0.0,
    )
    worst = most_wrong(tested, splits, SPEC)
    assert [(each.truth, each.answer, each.picture) for each in worst] == [
        ("latin", "greek", ""), ("greek", "latin", ""),
    ]  # fmt: skip
    assert worst[0].text == "b"
    assert worst[1].text.startswith("longlong")
    assert worst[1].text.endswith("…")
    assert len(worst[1].text) == 500


@pytest.mark.parametrize("factory", ["text_cnn", "text_gru"])
def test_a_network_learns_two_alphabets(
    tmp_path: Path, make_module: ModuleMaker, factory: str
) -> None:
    make_module("marwright.training.datasets.tiny", load=text_samples)
    recipe = text_recipe(factory=factory, params={"width": 8}, epochs=20, batch_size=16)
    checkpoint = train(recipe, tmp_path, tmp_path, lambda *_: None)
    assert checkpoint.meta.metrics["accuracy"] > 0.9
    assert checkpoint.meta.spec == TextSpec(max_bytes=40)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, make_module: ModuleMaker) -> None:
    make_module("marwright.training.datasets.tiny", load=text_samples)
    recipe = text_recipe(epochs=2, batch_size=16, minimum_metric="any")
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made = train(recipe, tmp_path, tmp_path / name, lambda *_: None)
        written.append(made.weights.read_bytes())
    assert written[0] == written[1]


def test_batches_of_every_split_are_texts(tmp_path: Path, make_module: ModuleMaker) -> None:
    make_module("marwright.training.datasets.tiny", load=text_samples)
    recipe = text_recipe()
    ready = prepare(recipe, tmp_path)
    splits = ready.opened.splits
    for name, indices in splits.named().items():
        part = tensors_of(name, recipe, splits, ready.spec)
        assert len(part) == len(indices)
        [(inputs, targets)] = part
        assert inputs.dtype == targets.dtype == torch.int64
