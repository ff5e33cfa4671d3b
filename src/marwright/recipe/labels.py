"""Labels in the order of a model's outputs, from a recipe's list or from a file of the project.

A file is what TorchServe reads as `index_to_name.json`, a JSON list, or a text of a label a line.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marwright.recipe.regular import MOST_TEXT, read_regular

# Files that labels are read from.
SUFFIXES = (".json", ".txt")
# TorchServe's examples of object detection keep their labels under this key.
_LISTED = "object_type_names"


def file_of(declared: str | Sequence[str]) -> str:
    """Return the file that labels are declared in; nothing where they are a list, or are not."""
    return declared if isinstance(declared, str) and declared.endswith(SUFFIXES) else ""


def read_labels(declared: str | Sequence[str], root: Path) -> tuple[str, ...]:
    """Return declared labels in their order; a file's path starts at `root`.

    Raises `ValueError`, which begins with the file where it is of one.
    """
    if not isinstance(declared, str):
        return _checked([*declared])
    try:
        text = read_regular(root / declared, MOST_TEXT).decode("utf-8-sig")
        labels = _of_json(text) if declared.endswith(".json") else text.split("\n")
        if declared.endswith(".txt"):
            labels = [line.strip() for line in labels]
            # A text ends with a line break, or with several.
            while labels and not labels[-1]:
                labels.pop()
        return _checked(labels)
    except UnicodeDecodeError:
        raise ValueError(f"{declared}: not UTF-8") from None
    except OSError as error:
        raise ValueError(f"{declared}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{declared}: {error}") from None


def _of_json(text: str) -> list[str]:
    try:
        found = json.loads(text, object_pairs_hook=_pairs_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(found, dict) and isinstance(found.get(_LISTED), list):
        found = found[_LISTED]
    if isinstance(found, list):
        return [_named(label, f"place {place}") for place, label in enumerate(found)]
    if not isinstance(found, dict):
        raise ValueError('holds no labels: write {"0": "first label", "1": "second label", …}')
    strange = [key for key in found if not (key.isdecimal() and key == str(int(key)))]
    if strange:
        raise ValueError(f"the key {strange[0]!r} is not the number of an output, as 0, 1, 2, …")
    for place in range(len(found)):
        if str(place) not in found:
            raise ValueError(f"output {place} has no label: its keys go from 0 to {len(found) - 1}")
    return [_named(found[str(place)], f"output {place}") for place in range(len(found))]


def _pairs_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if twice := [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]:
        raise ValueError(f"the key {twice[0]!r} is there twice")
    return dict(pairs)


def _named(value: Any, where: str) -> str:
    """Return a label; of a list, as TorchServe has it, its last entry."""
    if isinstance(value, list) and value:
        value = value[-1]
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{where} holds {json.dumps(value, ensure_ascii=False)}, not a label")
    return str(value)


def _checked(labels: list[str]) -> tuple[str, ...]:
    if len(labels) < 2:
        raise ValueError(f"{len(labels)} labels: a classification has two or more")
    if "" in labels:
        raise ValueError(f"label {labels.index('') + 1} of {len(labels)} is empty")
    if twice := [label for label, times in Counter(map(plain, labels)).items() if times > 1]:
        raise ValueError(f"the label {twice[0]!r} is there twice")
    return tuple(labels)


def plain(label: str) -> str:
    """Return a label in one form of Unicode: systems keep accents in two."""
    return unicodedata.normalize("NFC", label)
