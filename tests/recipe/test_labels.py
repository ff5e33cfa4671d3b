"""Labels in their order: from a list, or from any file that TorchServe reads them of."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.recipe.labels import read_labels
from tests.projects import TABLE
from tests.recipe.conftest import IMAGE, House, edited


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"0": "cat", "1": "dog"}'),
        ("a.json", '{"1": "dog", "0": "cat"}'),
        ("a.json", '{"0": ["n02123045", "cat"], "1": ["n02099601", "dog"]}'),
        ("a.json", '{"object_type_names": ["cat", "dog"]}'),
        ("a.json", '["cat", "dog"]'),
        ("a.json", '\ufeff{"0": "cat", "1": "dog"}'),
        ("a.txt", "cat\ndog"),
        ("a.txt", "\ufeffcat\r\ndog \r\n\n"),
    ],
)
def test_every_form_of_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_labels(name, tmp_path) == ("cat", "dog")


def test_numbers_are_labels_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"0": 7, "1": 3}')
    assert read_labels("a.json", tmp_path) == ("7", "3")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"0": "cat", "0": "dog"}', "the key '0' is there twice"),
        ("a.json", '{"0": "cat", "2": "dog"}', "output 1 has no label: its keys go from 0 to 1"),
        ("a.json", '{"1": "cat", "2": "dog"}', "output 0 has no label: its keys go from 0 to 1"),
        ("a.json", '{"0": "cat", "1": "cat"}', "the label 'cat' is there twice"),
        ("a.json", '{"0": "é", "1": "e\\u0301"}', "the label 'é' is there twice"),
        ("a.json", '{"cat": 0, "dog": 1}', "the key 'cat' is not the number of an output"),
        ("a.json", '{"00": "cat", "1": "dog"}', "the key '00' is not the number of an output"),
        ("a.json", '{"0": null, "1": "dog"}', "output 0 holds null, not a label"),
        ("a.json", '["cat", true]', "place 1 holds true, not a label"),
        ("a.json", '["cat", ""]', "label 2 of 2 is empty"),
        ("a.json", '["cat"]', "1 labels: a classification has two or more"),
        ("a.json", '"cat"', "holds no labels"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[" * 100_000, "maximum recursion"),
        ("a.txt", "cat\n\ndog", "label 2 of 3 is empty"),
        ("a.txt", b"cat\n\xff", "not UTF-8"),
        ("b.txt", "", "0 labels"),
    ],
)
def test_what_is_no_file_of_labels(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        read_labels(name, tmp_path)
    assert str(caught.value).startswith(f"{name}: ") and said in str(caught.value)


WITH_LABELS = edited(IMAGE, 'dataset = "digits"', 'dataset = "digits"\nlabels = "names.json"')


def test_a_recipe_names_the_file_that_is_wrong(house: House) -> None:
    said = "[data] labels: there is no names.json"
    assert house.refusal(WITH_LABELS) == said
    (house.folder / "names.json").mkdir()
    assert house.refusal(WITH_LABELS) == "[data] labels: names.json is no file"
    (house.folder / "names.json").rmdir()
    (house.folder / "names.json").write_text('["a", "a"]')
    assert house.refusal(WITH_LABELS) == "[data] labels: names.json: the label 'a' is there twice"
    (house.folder / "names.json").write_text('["a", "b"]')
    assert house.load(WITH_LABELS).data.read_files == ("names.json",)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('"../names.json"', "[data] labels: '../names.json': not below the project"),
        ('"names"', '[data]: labels = "names": it is a list, or a .json or .txt file'),
        ('["a", "a"]', "[data] labels: the label 'a' is there twice"),
        ("[]", "[data] labels: 0 labels: a classification has two or more"),
        ("[1, 2]", "[data] labels[0]: expected `str`, got `int`: put it in quotes (it says 1)"),
    ],
)
def test_labels_that_no_recipe_may_say(house: House, value: str, said: str) -> None:
    assert house.refusal(edited(WITH_LABELS, '"names.json"', value)).startswith(said)


def test_labels_are_of_classifications(house: House) -> None:
    recipe = edited(TABLE, 'dataset = "diabetes"', 'dataset = "diabetes"\nlabels = ["a", "b"]')
    assert "[data] labels are of a classification: remove it" in house.refusal(recipe)


FACTORY = 'factory = "small_cnn"\n'
FILE = f'{FACTORY}init_from = "w.pt"\n'


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (f'{FACTORY}init_labels = ["a", "b"]\n', "init_labels are of a file in init_from"),
        (f'{FACTORY}init_from = "recipe:x"\ninit_labels = "same"\n', "init_labels are of a file"),
        (f'{FILE}init_labels = "sam"\n', 'init_labels = "sam": it is same, other, a list, or a'),
        (f'{FILE}init_labels = "same"\n', 'init_labels = "same" needs [data] labels'),
        (f'{FILE}init_labels = "x.json"\n', "[model] init_labels: there is no x.json"),
        (f'{FILE}init_labels = ["a", "a"]\n', "[model] init_labels: the label 'a' is there twice"),
    ],
)
def test_init_labels_that_no_recipe_may_say(house: House, model: str, said: str) -> None:
    (house.folder / "w.pt").touch()
    assert said in house.refusal(edited(IMAGE, FACTORY, model))


def test_a_regression_has_no_labels_to_name(house: House) -> None:
    (house.folder / "w.pt").touch()
    model = 'factory = "mlp"\ninit_from = "w.pt"\ninit_labels = '
    named = edited(TABLE, 'factory = "mlp"', f'{model}["y", "z"]')
    assert 'init_labels of a regression is "same" or "other"' in house.refusal(named)
    assert house.load(edited(TABLE, 'factory = "mlp"', f'{model}"same"'))


def test_any_is_the_only_word_for_a_minimum(house: House) -> None:
    fit = "epochs = 2\n"
    assert house.load(edited(IMAGE, fit, f'{fit}minimum_metric = "any"\n')).fit.minimum_metric == (
        "any"
    )
    assert house.load(edited(IMAGE, fit, f"{fit}minimum_metric = 0\n")).fit.minimum_metric == 0
    said = house.refusal(edited(IMAGE, fit, f'{fit}minimum_metric = "none"\n'))
    assert said.startswith("[fit] minimum_metric: ")
