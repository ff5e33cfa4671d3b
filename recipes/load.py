"""Read recipes: TOML in, a `Recipe` out, or a `RecipeError` that says what to mend."""

from __future__ import annotations

import ast
import math
import re
import reprlib
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from recipes.errors import RecipeError
from recipes.types import (
    NAME_PATTERN,
    ImagePreprocess,
    Recipe,
    TablePreprocess,
    Task,
    TextPreprocess,
    varied_values,
)

# Values are shown in messages, and a value may be a megabyte long or a thousand lists deep.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

# TorchServe falls back to its own handler of the same name on any ImportError inside ours.
STOCK_HANDLERS = frozenset(
    {"base_handler", "contractions", "dali_handler", "dali_image_classifier", "densenet_handler",
     "distributed", "image_classifier", "image_segmenter", "object_detector", "request_envelope",
     "text_classifier", "text_handler", "trt_llm_handler", "unit_tests", "vision_handler",
     "vllm_handler"}
)  # fmt: skip

_INIT = "[model] init_from"
# Recipes that are built by name only: they take long, or need a download.
EXAMPLES = "examples"
# Folders under build/ that belong to no model.
RESERVED_FOLDERS = frozenset({"parity-zoo", "release", "serve"})
# `python -m pipeline verify archive`: a build verb's word is never read as a model's.
BUILD_VERBS = frozenset({"train", "onnx", "parity", "report", "archive", "verify"})
RESERVED_NAMES = RESERVED_FOLDERS | BUILD_VERBS


def load_recipe(path: Path) -> Recipe:
    """Read one recipe.

    The files that it names are looked for in the folder above `recipes/`. Raises `RecipeError`
    naming file, key and reason.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = [p.stem for p in path.parent.rglob("*.toml")]
        raise RecipeError(f"{_shown(path)}: no such recipe{suggestion(path.stem, known)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{_shown(path)}: cannot be read: {error}") from None
    # Not only TOMLDecodeError: thousands of digits or brackets fail in Python itself.
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{_shown(path)}: not TOML: {error}") from None
    if path.stem in RESERVED_FOLDERS:
        raise RecipeError(
            f"{_shown(path)}: build/{path.stem}/ is taken by the pipeline itself: rename the file"
        )
    if path.stem in BUILD_VERBS:
        raise RecipeError(
            f"{_shown(path)}: `{path.stem}` is a verb on the command line, where it could not name "
            "a model: rename the file"
        )
    if not re.fullmatch(NAME_PATTERN, path.stem):
        raise RecipeError(
            f"{_shown(path)}: a model is named by its file: small letters, digits and _, "
            "beginning with a letter"
        )
    if "name" in raw:
        raise RecipeError(f"{_shown(path)}: name: remove the key; the file's name is the model's")
    for keys, value in _leaves(raw):
        if problem := _impossible(value):
            raise RecipeError(f"{_shown(path)}: {_key(keys)}: {problem}")
    try:
        recipe = msgspec.convert({**raw, "name": path.stem}, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{_shown(path)}: {_explain(str(error), raw)}") from None
    _check_files(recipe, path)
    for variant, settings in recipe.study.variants.items():
        where, values = f"{_shown(path)}: [study.variants.{variant}]", {}
        try:
            values = varied_values(recipe, settings)
            _check_files(msgspec.convert(values, Recipe), path)
        except msgspec.ValidationError as error:
            raise RecipeError(f"{where}: {_explain(str(error), values)}") from None
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from None
    return recipe


def load_recipes(
    folder: Path, names: Iterable[str] = ()
) -> tuple[dict[str, Recipe], dict[str, RecipeError]]:
    """Read the named recipes of a folder, or all of them, in the order of their names.

    Those in `examples/` are read by name only.

    Returns those that are right, and for the others why not: one bad recipe stops no other
    model. Raises `RecipeError` when there are none at all.
    """
    chosen = sorted(set(names)) or sorted(p.stem for p in folder.glob("*.toml"))
    if not chosen:
        raise RecipeError(f"{folder.name}/: no recipes; add one as {folder.name}/<model>.toml")
    recipes, errors = {}, {}
    for name in chosen:
        try:
            recipes[name] = load_recipe(recipe_file(folder, name))
        except RecipeError as error:
            errors[name] = error
    return recipes, errors


def examples(folder: Path) -> list[str]:
    """Return the names of the recipes that are built by name only, sorted."""
    return sorted(path.stem for path in (folder / EXAMPLES).glob("*.toml"))


def recipe_file(folder: Path, name: str) -> Path:
    """Return where the recipe of a model is: in the folder, or in its `examples/`."""
    own, example = folder / f"{name}.toml", folder / EXAMPLES / f"{name}.toml"
    return example if example.exists() and not own.exists() else own


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "…"?` for a near miss, or the list of what is known."""
    import difflib

    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known: {', '.join(known)}" if known else ""


def _shown(path: Path) -> str:
    return path.relative_to(_root(path)).as_posix()


def _leaves(document: Mapping[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """Yield every key and every plain value of a TOML document, with the keys that lead there."""
    # No recursion: a dotted key may be thousands of tables deep.
    waiting: list[tuple[list[str], Any]] = [([], document)]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, Mapping):
            yield from (([*keys, key], key) for key in value)
            waiting += [([*keys, key], value[key]) for key in reversed(value)]
        elif isinstance(value, list):
            waiting += [(keys, inner) for inner in reversed(value)]
        else:
            yield keys, value


def _impossible(value: Any) -> str:
    """Say what TOML allows in a value and no key of a recipe can mean."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a number to compute with"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "a whole number of more than 64 bits"
    if isinstance(value, str) and any(unicodedata.category(c) == "Cc" for c in value):
        return f"holds a line break or another control character: {_SHORT.repr(value)}"
    return ""


def _explain(message: str, raw: Mapping[str, Any]) -> str:
    """Turn msgspec's `reason - at `$.fit.epochs`` into `[fit] epochs: reason`."""
    if found := re.fullmatch(r"Invalid enum value (['\"].*['\"]) - at `key` in (`\$.*`)", message):
        key = str(ast.literal_eval(found[1]))
        _, keys, _ = _located(f"a key - at {found[2]}", raw)
        return f"{_key([*keys, key])}: unknown key{suggestion(key, _choices(keys, raw))}"
    reason, keys, value = _located(message, raw)
    if missing := re.search(r"missing required field `(.+?)`", reason):
        return f"{_key([*keys, missing[1]])}: required, but missing"
    if unknown := re.search(r"unknown field `(.+)`", reason):
        known = [f for f in _fields(keys, raw) if f != "name"]
        hint = suggestion(unknown[1], known)
        return f"{_key([*keys, unknown[1]])}: unknown key{hint}"
    if re.fullmatch(r"Expected `str`, got `(int|float)`", reason):
        reason += ": put it in quotes"
    if "matching regex" in reason and keys == ["model", "factory"]:
        reason = (
            "is a module of train/models/, torchvision/<architecture>, or a Python file in a "
            "folder of the project, as user/net.py"
        )
    shown = f" (it says {_SHORT.repr(value)})" if keys and not isinstance(value, Mapping) else ""
    reason = (reason[0].lower() + reason[1:]).replace("`object`", "a table")
    if re.search(r"invalid (enum )?value", reason):
        reason = "not one of the possible values" + suggestion(str(value), _choices(keys, raw))
    return f"{_key(keys)}: {reason}{shown}"


def _located(message: str, raw: Mapping[str, Any]) -> tuple[str, list[str], Any]:
    """Split msgspec's message into the reason, the keys that lead to the fault, and its value."""
    reason, _, place = message.rpartition(" - at `$")
    keys: list[str] = []
    value: Any = raw
    for step in re.findall(r"[^.\[\]`]+|\[\d+\]|\[\.{3}\]", place if reason else ""):
        at = step.strip("[]")
        if isinstance(value, list) and at.isdecimal() and int(at) < len(value):
            keys[-1] += step
            value = value[int(at)]
            continue
        if isinstance(value, Mapping) and step == "[...]":
            step = _refused(keys, value, raw)
        if not isinstance(value, Mapping) or step not in value:
            # Not a place after all, but the name of a key that looks like one.
            return message, [], raw
        keys.append(step)
        value = value[step]
    return reason or message, keys, value


def _refused(keys: list[str], table: Mapping[str, Any], raw: Mapping[str, Any]) -> str:
    """Return the first key of a table `[section.key]` whose value is refused; "" if none is."""
    fields = msgspec.structs.fields(_section_type(keys[:-1], raw))
    kind = next((f.type for f in fields if f.name == keys[-1]), Any) if keys else Any
    for key, value in table.items():
        try:
            msgspec.convert({key: value}, kind)
        except msgspec.ValidationError:
            return key
    return ""


def _key(keys: list[str]) -> str:
    keys = [key if key.isprintable() else repr(key).strip("'") for key in keys]
    if len(keys) == 1:
        return f"[{keys[0]}]" if keys[0] in _SECTIONS else keys[0]
    return f"[{'.'.join(keys[:-1])}] {keys[-1]}" if keys else "the recipe"


_SECTIONS = frozenset(
    {"data", "preprocess", "augment", "model", "transfer", "fit", "export", "parity",
     "postprocess", "serve", "study"}
)  # fmt: skip
_KINDS = {"image": ImagePreprocess, "table": TablePreprocess, "text": TextPreprocess}


def _section_type(keys: list[str], raw: Mapping[str, Any]) -> Any:
    if not keys:
        return Recipe
    if keys[0] == "preprocess":
        section = raw.get("preprocess")
        kind = section.get("kind") if isinstance(section, Mapping) else None
        return _KINDS.get(str(kind), ImagePreprocess)
    return next((f.type for f in msgspec.structs.fields(Recipe) if f.name == keys[0]), Recipe)


def _fields(keys: list[str], raw: Mapping[str, Any]) -> list[str]:
    section = _section_type(keys, raw)
    tag = ["kind"] if section in _KINDS.values() else []
    return [f.name for f in msgspec.structs.fields(section)] + tag


def _choices(keys: list[str], raw: Mapping[str, Any]) -> list[str]:
    """Return the literal values that a key may have."""
    if keys[-1:] == ["kind"]:
        return [*_KINDS]
    fields = msgspec.structs.fields(_section_type(keys[:-1], raw))
    types = [f.type for f in fields if f.name == keys[-1]]
    found: list[str] = []
    while types:
        for arg in get_args(types.pop()):
            if isinstance(arg, (str, int)):
                found.append(str(arg))
            elif get_args(arg):
                types.append(arg)
    return found


def _check_files(recipe: Recipe, path: Path) -> None:
    root = _root(path)
    handler = recipe.serve.handler
    if handler in STOCK_HANDLERS:
        raise RecipeError(
            f"{_shown(path)}: [serve] handler: {handler!r} is a name of TorchServe's own; if ours "
            "fails to import, the server silently uses that one: rename the file"
        )
    for key, file in _named_files(recipe):
        if file.startswith("/") or ".." in file.split("/"):
            raise RecipeError(f"{_shown(path)}: {key}: {file!r}: not below the project")
        if not (root / file).exists():
            raise RecipeError(f"{_shown(path)}: {key}: there is no {file}")
        if key == _INIT and not (root / file).is_file():
            raise RecipeError(f"{_shown(path)}: {key}: {file} is no file")
    handler_file, dataset_file = f"handlers/{handler}.py", recipe.data.file
    places = (
        ("[serve] handler", handler_file),
        ("[model] factory", recipe.model.file),
        ("[data] dataset", dataset_file),
    )
    for key, file in places:
        module = root / file
        if not module.is_file():
            known = [p.stem for p in module.parent.glob("*.py") if p.stem != "__init__"]
            raise RecipeError(
                f"{_shown(path)}: {key}: there is no {file}{suggestion(module.stem, known)}"
            )
    _check_handler(path, root / handler_file)
    _check_fitting_handler(recipe, path)
    load = _function(path, "[data] dataset", root / dataset_file, "load")
    _check_params(path, "data.params", recipe.data.params, load)
    build = _function(path, "[model] factory", root / recipe.model.file, "build")
    _check_params(path, "model.params", recipe.model.arguments, build)
    if (parent := recipe.model.parent) is not None:
        _check_parent(path, recipe.name, parent)


def _root(path: Path) -> Path:
    """Return the project's root, from the path of a recipe."""
    return path.parents[2] if path.parent.name == EXAMPLES else path.parents[1]


def _named_files(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield from (("[data] files", file) for file in recipe.data.files)
    if recipe.model.init_from and recipe.model.parent is None:
        yield _INIT, recipe.model.init_from


def _check_parent(path: Path, name: str, parent: str) -> None:
    """Follow what a model starts from: each is a recipe, and none comes back to the first."""
    chain, following = [name], parent
    while True:
        if following in chain:
            raise RecipeError(
                f"{_shown(path)}: [model] init_from: goes round in a circle: "
                f"{' → '.join([*chain, following])}"
            )
        chain.append(following)
        file = recipe_file(_root(path) / "recipes", following)
        try:
            above = _parent_in(tomllib.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            known = [p.stem for p in (_root(path) / "recipes").rglob("*.toml")]
            raise RecipeError(
                f"{_shown(path)}: [model] init_from: there is no recipe "
                f"{_shown(file)}{suggestion(file.stem, known)}"
            ) from None
        # What is wrong with that recipe is said where it is built.
        except (OSError, ValueError, RecursionError):
            return
        if above is None:
            return
        following = above


def _parent_in(raw: Mapping[str, Any]) -> str | None:
    model = raw.get("model")
    init = model.get("init_from") if isinstance(model, Mapping) else None
    kind, _, name = str(init).partition(":")
    return name if kind == "recipe" else None


def _parsed(path: Path, key: str, module: Path) -> tuple[ast.Module, str]:
    """Return the syntax tree of a module that a recipe names, and how messages call it.

    Parsed and not imported, because it may import torch.
    """
    shown = module.relative_to(_root(path)).as_posix()
    try:
        return ast.parse(module.read_bytes(), filename=module.name), shown
    except (SyntaxError, ValueError) as error:
        raise RecipeError(f"{_shown(path)}: {key}: {shown} is not Python: {error}") from None


def _function(path: Path, key: str, module: Path, name: str) -> ast.FunctionDef:
    tree, shown = _parsed(path, key, module)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise RecipeError(f"{_shown(path)}: {key}: {shown} has no `{name}` function")


# What the project's own handlers read, and answer.
_OWN_HANDLERS: dict[str, tuple[str, Task]] = {
    "classify_image": ("image", "classification"),
    "classify_table": ("table", "classification"),
    "classify_text": ("text", "classification"),
    "predict_table": ("table", "regression"),
}


def _check_fitting_handler(recipe: Recipe, path: Path) -> None:
    """Refuse a handler of the project's own that is for other samples, or for another task."""
    wanted = str(recipe.preprocess.__struct_config__.tag), recipe.task
    own = _OWN_HANDLERS.get(recipe.serve.handler, wanted)
    if own != wanted:
        fitting = next(name for name, what in _OWN_HANDLERS.items() if what == wanted)
        raise RecipeError(
            f"{_shown(path)}: [serve] handler: {recipe.serve.handler} is for {own[1]} of kind "
            f'"{own[0]}", and this is {wanted[1]} of kind "{wanted[0]}": take {fitting}, or one of '
            "your own"
        )


# What a handler must define, and the line that does it.
_HANDLER_LINES = {
    "service": "service = Service(read=..., answer=...)",
    "handle": "handle = service.handle",
}


def _check_handler(path: Path, module: Path) -> None:
    key = "[serve] handler"
    tree, shown = _parsed(path, key, module)
    defined = defined_names(tree)
    for name, line in _HANDLER_LINES.items():
        if name not in defined:
            raise RecipeError(f"{_shown(path)}: {key}: {shown} has no `{name}`: add `{line}`")


def defined_names(tree: ast.Module) -> set[str]:
    """Return the names that a module defines when it is run, under `if` and `try` as well."""
    names = set()
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        # An annotation alone defines nothing, and the names of a comprehension stay in it.
        elif not (
            isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp))
            or (isinstance(node, ast.AnnAssign) and node.value is None)
        ):
            waiting += ast.iter_child_nodes(node)
    return names


def _check_params(
    path: Path, section: str, params: Mapping[str, Any], function: ast.FunctionDef
) -> None:
    """Hold a table of a recipe against the signature of the function that it is given to."""
    arguments = function.args
    known = [argument.arg for argument in arguments.kwonlyargs]
    for name in params:
        if name not in known and arguments.kwarg is None:
            raise RecipeError(
                f"{_shown(path)}: [{section}] {name}: unknown key{suggestion(name, known)}"
            )
    for name, default in zip(known, arguments.kw_defaults, strict=True):
        if default is None and name not in params:
            raise RecipeError(f"{_shown(path)}: [{section}] {name}: required, but missing")
