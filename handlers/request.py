"""A request as TorchServe hands it over, and what is said of a bad one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# A problem quotes the request, and a request may be megabytes of one name.
_LONGEST_PROBLEM = 500


class BadRequest(Exception):
    """The client's mistake: answered with `status` and a JSON body that names the problem."""

    def __init__(self, problem: str, status: int = 400) -> None:
        super().__init__(problem)
        self.status = status


def body_of(fields: Mapping[str, Any]) -> object:
    """Return the one value that a request carries: its body, or its only form field.

    TorchServe gives a plain body the name `body`; `data` is what its own examples post.
    Raises `BadRequest` when there is nothing, or no telling which field is meant.
    """
    for name in ("body", "data"):
        if name in fields:
            return fields[name]
    if len(fields) == 1:
        return next(iter(fields.values()))
    if not fields:
        raise BadRequest("the request is empty")
    names = ", ".join(name[:40] for name in sorted(fields)[:5])
    raise BadRequest(f"several form fields ({names}): name the one that is meant `data`")


def is_json(text: str) -> bool:
    """Whether a text must be JSON: whether it begins with `{`, blanks aside."""
    return text.lstrip().startswith("{")


def json_answer(answer: object) -> bytes:
    """Return compact JSON. NaN and infinity are refused with `ValueError`: they are not JSON."""
    text = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A client's JSON can name half a surrogate pair, which no UTF-8 can hold.
    return text.encode(errors="replace")


def json_error(status: int, problem: str) -> bytes:
    """Return the JSON body of an answer that is not 2xx; a long problem is cut."""
    if len(problem) > _LONGEST_PROBLEM:
        problem = f"{problem[: _LONGEST_PROBLEM - 1]}…"
    return json_answer({"error": problem, "status": status})
