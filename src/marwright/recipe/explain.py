"""What is wrong with a recipe, in the words of its keys: msgspec's messages told anew."""

from __future__ import annotations

import ast
import re
import reprlib
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from marwright.recipe.suggest import suggestion
from marwright.recipe.types import ImagePreprocess, Recipe, TablePreprocess, TextPreprocess

# Values are shown in messages, and a value may be a megabyte long or a thousand lists deep.
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 80


def explain(message: str, raw: Mapping[str, Any]) -> str:
    """Turn msgspec's `reason - at `$.fit.epochs`` into `[fit] epochs: reason`."""
    if found := re.fullmatch(r"Invalid enum value (['\"].*['\"]) - at `key` in (`\$.*`)", message):
        key = str(ast.literal_eval(found[1]))
        _, keys, _ = _located(f"a key - at {found[2]}", raw)
        return f"{key_of([*keys, key])}: unknown key{suggestion(key, _choices(keys, raw))}"
    reason, keys, value = _located(message, raw)
    if missing := re.search(r"missing required field `(.+?)`", reason):
        return f"{key_of([*keys, missing[1]])}: required, but missing"
    if unknown := re.search(r"unknown field `(.+)`", reason):
        known = [f for f in _fields(keys, raw) if f != "name"]
        hint = suggestion(unknown[1], known)
        return f"{key_of([*keys, unknown[1]])}: unknown key{hint}"
    if re.fullmatch(r"Expected `str`, got `(int|float)`", reason):
        reason += ": put it in quotes"
    if "matching regex" in reason and keys == ["model", "factory"]:
        reason = (
            "is one of the engine's networks, torchvision/<architecture>, or a Python file of the "
            "project, as train/net.py"
        )
    shown = f" (it says {SHORT.repr(value)})" if keys and not isinstance(value, Mapping) else ""
    reason = (reason[0].lower() + reason[1:]).replace("`object`", "a table")
    if re.search(r"invalid (enum )?value", reason):
        reason = "not one of the possible values" + suggestion(str(value), _choices(keys, raw))
    return f"{key_of(keys)}: {reason}{shown}"


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


def key_of(keys: list[str]) -> str:
    """Return a key as messages have it: `[section] key`."""
    keys = [key if key.isprintable() else repr(key).strip("'") for key in keys]
    if len(keys) == 1:
        return f"[{keys[0]}]" if keys[0] in _SECTIONS else keys[0]
    return f"[{'.'.join(keys[:-1])}] {keys[-1]}" if keys else "the recipe"


_SECTIONS = frozenset(
    {"data", "preprocess", "augment", "model", "transfer", "fit", "train", "export", "parity",
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
    kind = next((f.type for f in msgspec.structs.fields(Recipe) if f.name == keys[0]), Recipe)
    # A section that may be absent is its type, or None.
    return next((one for one in get_args(kind) if hasattr(one, "__struct_fields__")), kind)


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
