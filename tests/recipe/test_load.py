"""A recipe becomes a `Recipe`, or a `RecipeError` that names the file, the key and the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.pipeline.plan import GOALS
from marwright.recipe.errors import RecipeError
from marwright.recipe.load import (
    BUILD_VERBS,
    RESERVED_NAMES,
    load_recipe,
    load_recipes,
)
from marwright.recipe.modules import STOCK_HANDLERS
from marwright.recipe.suggest import suggestion
from marwright.recipe.types import Recipe
from tests.projects import ROOT, TABLE
from tests.recipe.conftest import IMAGE, House, edited

# The same examples on every machine: what fails here fails everywhere.
STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=100)


def test_a_recipe_is_read_with_its_name_from_the_file(house: House) -> None:
    recipe = house.load(IMAGE, "tiny_2")
    assert (recipe.name, recipe.version, recipe.fit.epochs) == ("tiny_2", "1.0", 2)
    assert recipe.model.params == {"width": 4, "dropout": 0.1}


def test_a_byte_order_mark_is_no_part_of_a_recipe(house: House) -> None:
    plain = house.load(IMAGE, "tiny_2")
    assert house.load(f"\ufeff{IMAGE}", "tiny_2") == plain


def test_the_shipped_recipes_are_read() -> None:
    recipes, errors = load_recipes(ROOT / "archive")
    assert {"diabetes", "digits"} <= recipes.keys()
    assert errors == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        # An unknown key in each section.
        ("task =", 'taks = "a"\ntask =', 'taks: unknown key; did you mean "task"?'),
        ("[fit]", "[fitt]", 'fitt: unknown key; did you mean "fit"?'),
        ("test =", "tset =", '[data] tset: unknown key; did you mean "test"?'),
        ("fit =", "fiit =", '[preprocess] fiit: unknown key; did you mean "fit"?'),
        ("params =", "prams =", '[model] prams: unknown key; did you mean "params"?'),
        ("epochs =", "epoch =", '[fit] epoch: unknown key; did you mean "epochs"?'),
        ("opset =", "op_set =", '[export] op_set: unknown key; did you mean "opset"?'),
        ("floor =", "flor =", '[parity] flor: unknown key; did you mean "floor"?'),
        ("top_k =", "topk =", '[postprocess] topk: unknown key; did you mean "top_k"?'),
        ("handler =", "handlers =", '[serve] handlers: unknown key; did you mean "handler"?'),
        ("top_k =", "zzz =", "[postprocess] zzz: unknown key; known: decimals, params, top_k"),
        ("opset = 20", "dynamic.heigth = [4, 16]", '[export.dynamic] heigth: unknown key; did you'),
        # A wrong type.
        ('"1.0"', "1.0", "version: expected `str`, got `float`: put it in quotes (it says 1.0)"),
        ("epochs = 2", 'epochs = "2"', "[fit] epochs: expected `int`, got `str` (it says '2')"),
        ("epochs = 2", "epochs = 2.5", "[fit] epochs: expected `int`, got `float` (it says 2.5)"),
        ("epochs = 2", "epochs = true", "[fit] epochs: expected `int`, got `bool`"),
        ("epochs = 2", "epochs = 2026-01-01", "[fit] epochs: expected `int`, got `date`"),
        ("mean = [0.5]", 'mean = ["a"]', "[preprocess] mean[0]: expected `float`, got `str`"),
        ("width = 4", "width = [4]", "[model.params] width: expected `bool | int | float | str`"),
        ("width = 4", "width.a = 4", "[model.params] width: expected `bool | int | float | str`"),
        ("[data]\n", "[[data]]\n", "[data]: expected a table, got `array`"),
        # Out of range.
        ("epochs = 2", "epochs = 0", "[fit] epochs: expected `int` >= 1 (it says 0)"),
        ("test = 0.2", "test = 0.5", "[data] test: expected `float` < 0.5 (it says 0.5)"),
        ("[0.5]", "[0.5]\nstd = [0.0]", "[preprocess] std[0]: expected `float` > 0.0 (it says"),
        ("opset = 20", "dynamic = { height = [4, 16], width = [0, 8] }",
         "[export.dynamic] width[0]: expected `int` >= 1 (it says 0)"),
        ("1e-7", "0", "[parity] floor: expected `float` > 0.0 (it says 0)"),
        ("1e-7", "inf", "[parity] floor: inf is not a number to compute with"),
        ("1e-3", "nan", "[fit] learning_rate: nan is not a number to compute with"),
        ("[0.5]", "[-inf]", "[preprocess] mean: -inf is not a number to compute with"),
        ("0.1 }", "nan }", "[model.params] dropout: nan is not a number to compute with"),
        ("epochs = 2", f"epochs = {2**63}", "[fit] epochs: a whole number of more than 64 bits"),
        ("epochs = 2", f"epochs = 0x{'f' * 5000}", "[fit] epochs: a whole number of more than"),
        ('"1.0"', '"1.0\\n"', "version: holds a line break or another control character"),
        ('"Hand', '"\\u001b[2J', "description: holds a line break or another control character"),
        ("top_k = 3", '"a\\nb" = 3', "[postprocess] a\\nb: holds a line break or another control"),
        # A choice that there is not.
        ('"classification"', '"clasification"', 'task: not one of the possible values; did you'),
        ('"stretch"', '"stretched"', '[preprocess] fit: not one of the possible values; did you'),
        ('"image"', '"picture"', "[preprocess] kind: not one of the possible values; known: im"),
        ("channels = 1", "channels = 2", "[preprocess] channels: not one of the possible values"),
        ("opset = 20", 'precision = "fp16"', "[export] precision: not one of the possible values"),
        # Missing.
        ('version = "1.0"\n', "", "version: required, but missing"),
        ('dataset = "digits"\n', "", "[data] dataset: required, but missing"),
        ('kind = "image"\n', "", "[preprocess] kind: required, but missing"),
        ('[serve]\nhandler = "classify_image"\n', "", "[serve]: required, but missing"),
        # Together impossible.
        ("[0.5]", "[0.5, 0.5]", "[preprocess]: mean needs one value a channel: 1, not 2"),
        ("[serve]", "[serve]\nmin_workers = 2", "[serve]: max_workers = 1 is less than min_w"),
        ('"classification"', '"regression"', 'task = "regression" goes with [preprocess] kind'),
        ("opset = 20", "dynamic.width = [9, 16]", "[export] dynamic width = [9, 16] does not hold"),
        ("opset = 20", "dynamic.width = [9, 8]", "[export]: dynamic width = [9, 8]: the least"),
        ("1e-7", "2e-6", "[parity]: floor = 2e-06 is looser than 1e-06: say why"),
        ("1e-7", "1e-7\nk = 9", "[parity]: k = 9 is looser than 8: say why"),
        ("1e-7", "2e-6\nreason = ' '", "[parity]: floor = 2e-06 is looser than 1e-06: say"),
        # Not there.
        ('"digits"', '"digit"', "[data] dataset: marwright has no 'digit'; did you mean"),
        ('"small_cnn"', '"smal_cnn"', "[model] factory: marwright has no 'smal_cnn'; did you mean"),
        ('y_image"', 'y_images"', "[serve] handler: marwright has no 'classify_images'; did"),
        # Not in the factory's signature.
        ("width = 4,", "wdith = 4,", '[model.params] wdith: unknown key; did you mean "width"?'),
        ("width = 4,", "shape = 4,", "[model.params] shape: unknown key"),
        # Not for a file to say.
        ("version", 'name = "tiny"\nversion', "name: remove the key; the file's name is the mod"),
        # Not TOML.
        ('version = "1.0"', "version =", "not TOML: Invalid value (at line 1, column 10)"),
        ("[data]", "[fit]\n[data]", "not TOML: Cannot declare ('fit',) twice"),
        ("epochs = 2", f"epochs = {'[' * 5000}", "not TOML: "),
        ("epochs = 2", f"epochs = 1{'0' * 5000}", "not TOML: "),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_key_and_reason(
    house: House, old: str, new: str, said: str
) -> None:
    assert house.load(IMAGE)
    refusal = house.refusal(edited(IMAGE, old, new))
    assert said in refusal
    # A section's key comes first; what concerns two sections names both.
    assert refusal.startswith((said, "the recipe: "))


def test_a_looser_tolerance_needs_a_reason_and_a_tighter_one_none(house: House) -> None:
    looser = "floor = 1e-5\nk = 20\nreason = 'the outputs are softmax over 1e4 logits'"
    assert house.load(edited(IMAGE, "floor = 1e-7", looser)).parity.k == 20
    assert house.load(edited(IMAGE, "floor = 1e-7", "k = 2")).parity.reason == ""


def test_sizes_that_vary_are_axes_of_a_sample(house: House) -> None:
    both = "dynamic = { width = [8, 16], height = [4, 8] }"
    declared = house.load(edited(IMAGE, "opset = 20", both))
    assert declared.dynamic_axes == {1: ("height", 4, 8), 2: ("width", 8, 16)}
    assert house.load(IMAGE).dynamic_axes == {}
    refusal = house.refusal(f"{TABLE}[export]\ndynamic.width = [4, 16]\n")
    assert refusal.startswith("the recipe: [export] dynamic is of images")


def test_a_shift_of_rows_is_refused(house: House) -> None:
    assert house.load(TABLE)
    said = house.refusal(f"{TABLE}[augment]\nshift = 1\n")
    assert "[augment] changes images, and this is a table: remove it" in said


@pytest.mark.parametrize("handler", sorted(STOCK_HANDLERS))
def test_a_handler_named_like_one_of_torchserve_is_refused(house: House, handler: str) -> None:
    (house.folder / "handlers" / f"{handler}.py").write_text("")
    refusal = house.refusal(edited(IMAGE, "classify_image", handler))
    assert refusal.startswith(f"[serve] handler: '{handler}' is a name of TorchServe's own")


def test_the_list_of_stock_handlers_is_torchserves_own() -> None:
    import importlib.util

    # Found without importing it, which would import torch.
    spec = importlib.util.find_spec("ts")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "torch_handler"
    modules = {path.stem for path in folder.glob("*.py")}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert (modules | packages) - {"__init__"} == STOCK_HANDLERS


@pytest.mark.parametrize("name", ["Tiny", "1st", "tiny-cnn", "tiny.v2", "_tiny", "tïny", ""])
def test_a_file_that_is_no_name_is_refused(house: House, name: str) -> None:
    assert house.refusal(IMAGE, name).startswith("a model is named by its file: small letters")


@pytest.mark.parametrize("name", ["release", "serve"])
def test_a_file_named_like_a_folder_of_the_pipeline_is_refused(house: House, name: str) -> None:
    said = f"build/{name}/ is taken by the pipeline itself: rename the file"
    assert house.refusal(IMAGE, name) == said


@pytest.mark.parametrize("name", ["train", "onnx", "parity", "report", "archive", "verify"])
def test_a_file_named_like_a_verb_is_refused(house: House, name: str) -> None:
    said = f"`{name}` is a verb on the command line, where it could not name a model: rename the fi"
    assert house.refusal(IMAGE, name).startswith(said)


def test_the_reserved_verbs_are_those_of_the_command_line() -> None:
    # The same words stand in two rooms, because recipes may not import the pipeline.
    assert set(GOALS) == BUILD_VERBS
    assert {"parity-zoo", "release", "serve"} | BUILD_VERBS == RESERVED_NAMES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (IMAGE.encode("utf-16"), "byte 0 is not UTF-8: save it as UTF-8"),
        (b"", "version: required, but missing"),
        (b"\0", "not TOML: "),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(house: House, text: bytes, said: str) -> None:
    assert house.refusal(text).startswith(said)


def test_a_folder_in_place_of_a_recipe_is_refused(house: House) -> None:
    (house.recipes / "tiny.toml").mkdir()
    with pytest.raises(RecipeError, match=r"^archive/tiny\.toml: cannot be read: "):
        load_recipe(house.recipes / "tiny.toml")


def test_a_missing_recipe_is_named_with_its_neighbour(house: House) -> None:
    house.load(IMAGE, "digits")
    with pytest.raises(RecipeError, match=r'^archive/digts\.toml: no such recipe; did you mean "d'):
        load_recipe(house.recipes / "digts.toml")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def build(:", "[model] factory: train/odd.py is not Python: "),
        ("build = None", "[model] factory: train/odd.py has no `build` function"),
        ("def build(shape, outputs, *, depth): ...", "[model.params] depth: required, but missing"),
        ("def build(shape, outputs, width): ...", "[model.params] width: unknown key"),
    ],
)
def test_a_factory_is_read_without_running_it(house: House, source: str, said: str) -> None:
    (house.folder / "train/odd.py").write_text(f"{source}\nraise SystemExit(3)\n")
    text = edited(IMAGE, "small_cnn", "train/odd.py")
    if "depth" in source:
        text = edited(text, "{ width = 4, dropout = 0.1 }", "{}")
    assert house.refusal(text).startswith(said)


def test_a_factory_may_take_any_parameters(house: House) -> None:
    (house.folder / "train/odd.py").write_text("def build(shape, outputs, **more): ...\n")
    assert house.load(edited(IMAGE, "small_cnn", "train/odd.py")).model.params["width"] == 4


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def handle(:", " is not Python: "),
        ("", " needs a function `handle`, or exactly one class; it has none: add `service = "),
        ("service = 1", " has no `handle`: add `handle = service.handle`"),
        ("def f():\n    service = handle = 1", " needs a function `handle`, or exactly one"),
        ("service: object", " needs a function `handle`, or exactly one class; it has none"),
        (
            "import io\nclass A: ...\nclass B(A): ...\n",
            ":3: needs a function `handle`, or exactly one class; it has A, B: keep one here, and ",
        ),
        (
            "import io\n\nclass A:\n    def handle(self, data, context): ...\n",
            ":3: class A has no `initialize` method, which TorchServe calls: write `def ",
        ),
        (
            "class A(object):\n    def initialize(self, context): ...\n",
            ":1: class A has no `handle` method, which TorchServe calls: write `def handle(self, ",
        ),
        ("service = [handle for handle in ()]", " has no `handle`: "),
    ],
)
def test_a_handler_that_could_not_be_entered_is_refused(
    house: House, source: str, said: str
) -> None:
    (house.folder / "handlers/odd.py").write_text(f"{source}\nraise SystemExit(3)\n")
    refusal = house.refusal(edited(IMAGE, "classify_image", "handlers/odd.py"))
    assert refusal.startswith(f"[serve] handler: handlers/odd.py{said}")


@pytest.mark.parametrize(
    "source",
    [
        "service = Service(read=None, answer=None)\nhandle = service.handle",
        "service: Service = Service()\nhandle: object = service.handle",
        "service = Service()\ndef handle(data, context): ...",
        "from marwright.runtime.classify_image import handle, service",
        "from marwright.runtime.classify_image import h as handle, s as service",
        "try:\n    service, handle = made()\nexcept ValueError:\n    raise",
        "def handle(data, context): ...",
        "class A:\n    def initialize(self, context): ...\n    handle = print",
        "from ts.torch_handler.base_handler import BaseHandler\nclass A(BaseHandler): ...",
    ],
)
def test_a_handler_may_define_its_names_in_any_way(house: House, source: str) -> None:
    (house.folder / "handlers/odd.py").write_text(f"{source}\nraise SystemExit(3)\n")
    assert (
        house.load(edited(IMAGE, "classify_image", "handlers/odd.py")).serve.file
        == "handlers/odd.py"
    )


def test_a_data_set_needs_a_load_function(house: House) -> None:
    (house.folder / "train/odd.py").write_text("def read(): ...\n")
    refusal = house.refusal(edited(IMAGE, '"digits"', '"train/odd.py"'))
    assert refusal == "[data] dataset: train/odd.py has no `load` function"


def test_a_bad_recipe_hides_no_other(house: House) -> None:
    house.load(IMAGE, "good")
    house.refusal(edited(IMAGE, "epochs", "epoch"), "bad")
    recipes, errors = load_recipes(house.recipes)
    assert list(recipes) == ["good"]
    assert list(errors) == ["bad"]
    assert "[fit] epoch: unknown key" in str(errors["bad"])


def test_named_recipes_are_read_once_and_in_order(house: House) -> None:
    for name in ("b", "a", "c"):
        house.load(TABLE, name)
    recipes, errors = load_recipes(house.recipes, ["b", "a", "b"])
    assert (list(recipes), errors) == (["a", "b"], {})


def test_no_recipes_at_all_are_refused(house: House) -> None:
    with pytest.raises(RecipeError, match=r"^archive/: no recipes; add one as archive/<model>"):
        load_recipes(house.recipes)


def test_a_suggestion_is_near_or_a_list() -> None:
    assert suggestion("epoch", ["epochs", "seed"]) == '; did you mean "epochs"?'
    assert suggestion("x", ["b", "a"]) == "; known: a, b"
    assert suggestion("x", []) == ""


@pytest.mark.parametrize(
    "line",
    [
        "epochs" + ".a" * 2000 + " = 1",
        "epochs = [{a" + ".a" * 2000 + " = 1}]",
        f"epochs = '{'a' * 100_000}'",
        "'epochs` - at `$.preprocess.kind' = 1",
        "'x` - at `$.nowhere[0][...]' = 1",
        'x = 1\n[export.dynamic]\n"x\' - at `key` in `$.fit" = [4, 16]',
        "'' = 1",
    ],
    ids=lambda line: line[:30],
)
def test_a_hostile_key_or_value_makes_a_short_refusal(house: House, line: str) -> None:
    assert len(house.refusal(edited(IMAGE, "epochs = 2", line))) < 400


@pytest.mark.parametrize("place", ["fit[...]", "preprocess.mean[99]", "version[0]"])
def test_a_key_that_looks_like_a_place_is_none(house: House, place: str) -> None:
    refusal = house.refusal(f"'x` - at `$.{place}' = 1\n{IMAGE}")
    assert refusal.startswith(f"x` - at `$.{place}: unknown key")


@pytest.fixture(scope="module")
def one_house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("one"))


def outcome(house: House, text: str | bytes) -> Recipe | RecipeError:
    try:
        return house.load(text)
    except RecipeError as error:
        assert str(error).startswith("archive/tiny.toml: ")
        return error


@STEADY
@given(text=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_a_recipe_or_a_refusal(one_house: House, text: bytes) -> None:
    assert isinstance(outcome(one_house, text), RecipeError)


def toml(value: Any) -> str:
    """Write a value as inline TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml(k)} = {toml(v)}' for k, v in value.items())}}}"
    return str(value)


PLAIN = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.sampled_from(["training", "table", "image", "digits", "mlp", "predict_table", 0, 1, 3, 0.3]),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
LINES = [line for line in IMAGE.splitlines() if " = " in line]


@STEADY
@given(line=st.sampled_from(LINES), value=VALUES)
def test_any_value_makes_a_recipe_or_a_refusal(one_house: House, line: str, value: Any) -> None:
    key = line.partition(" = ")[0]
    result = outcome(one_house, edited(IMAGE, line, f"{key} = {toml(value)}"))
    if isinstance(result, RecipeError):
        # The message is about this key, or about what it would have to go with.
        assert key in str(result) or "the recipe: " in str(result) or "[preprocess]" in str(result)


@STEADY
@given(line=st.sampled_from(LINES), key=st.text(min_size=1, max_size=12), value=VALUES)
def test_any_key_makes_a_recipe_or_a_refusal(
    one_house: House, line: str, key: str, value: Any
) -> None:
    outcome(one_house, edited(IMAGE, line, f"{line}\n{toml(key)} = {toml(value)}"))


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("classify_image", 'classify_image is for classification of kind "image", and this is '),
        ("classify_table", "take predict_table, or one of your own"),
        ("classify_text", "take predict_table"),
    ],
)
def test_a_handler_for_other_samples_or_another_task_is_refused(
    house: House, handler: str, said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        house.load(TABLE.replace("predict_table", handler))
