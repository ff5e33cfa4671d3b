"""From request bodies to arrays, or a `BadRequest` that says why not.

What is read ends in `runtime/preprocess.py`, as training's samples do.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marwright.runtime.images.decode import open_image
from marwright.runtime.preprocess import image_array, table_array, text_array
from marwright.runtime.request import BOM, BadRequest, is_json, trimmed, word
from marwright.runtime.spec import MAX_ROWS, ImageSpec, TableSpec, TextSpec

# Characters of a category whose accents are looked at.
_LONGEST_NAME = 1000
# Categories that a message names.
_FEW = 20
# Of a table in one request, whatever its rows: each is looked at in Python.
_MOST_VALUES = 1_000_000
# Characters of a JSON text that is refused, and parsed to say why.
_LONGEST_REFUSED = 1 << 16
# An object of one string, which is all that a text may come in.
_ONE_STRING = re.compile(
    r'\s*\{\s*"(?:[^"\\]++|\\.)*+"\s*:\s*"(?:[^"\\]++|\\.)*+"\s*\}\s*', re.DOTALL
)
_SEND_TEXT = 'send one text in UTF-8, or JSON {"text": "…"}'
_JSON_NAMES = {list: "a list", dict: "an object", bool: "true or false", type(None): "null"}


def read_image(body: object, spec: ImageSpec) -> NDArray[np.float32]:
    """Decode a request's image bytes; returns float32 `(1, C, H, W)`.

    Raises `BadRequest` for anything that is not a readable image within the budget of decoding.
    """
    if not isinstance(body, (bytes, bytearray)):
        raise BadRequest("send the image's bytes as the body or as a form field")
    if not body:
        raise BadRequest("the request is empty: send the image's bytes")
    return image_array(open_image(body), spec)[None]


def read_table(body: object, spec: TableSpec) -> NDArray[np.float32]:
    """Read a request's rows; returns scaled float32 `(N, features)`.

    `body` is JSON, decoded or not: an object of columns, a list of values in the order of the
    columns, or a list of such rows. What is missing is null, or left out of an object. Raises
    `BadRequest` naming the row and the column.
    """
    if isinstance(body, (bytes, bytearray, str)):
        try:
            text = body if isinstance(body, str) else body.decode()
            _require_few_values(text, spec)
            body = _parsed(text)
        except UnicodeDecodeError as error:
            raise BadRequest(f"the body is not JSON: byte {error.start} is not UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON: {error}") from None
    rows = _as_rows(body)
    if not rows:
        raise BadRequest("no rows: send an object of columns, or a list of them")
    if len(rows) > (most := _most_rows(spec)):
        raise BadRequest(f"{len(rows)} rows in one request; at most {most} are accepted", 413)
    values = [_row_values(row, spec, number) for number, row in enumerate(rows)]
    array = table_array(np.array(values, dtype=np.float64), spec)
    if len(infinite := np.argwhere(~np.isfinite(array))):
        number, feature = infinite[0].tolist()
        raise BadRequest(f"row {number}, column {spec.column_of(feature)}: the number is too large")
    return array


def read_text(body: object, spec: TextSpec) -> NDArray[np.int64]:
    """Read a request's one text; returns int64 `(1, L)`.

    What begins with `{`, a byte order mark and blanks aside, is JSON and must be `{"text": "…"}`:
    nothing is guessed, and a text that begins so itself is sent in that form. Anything else is the
    text, quotes included. TorchServe decodes the JSON of `application/json`: an object is taken as
    above, and of a string what is in it. Blanks around a text do not count.

    Raises `BadRequest` for what is no text, or a blank one.
    """
    if isinstance(body, (bytes, bytearray)):
        try:
            body = body.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"byte {error.start} is not UTF-8: {_SEND_TEXT}") from None
    if isinstance(body, str) and is_json(body):
        # A request has room for millions of lists, and each would be made.
        if len(body) > _LONGEST_REFUSED and not _ONE_STRING.fullmatch(trimmed(body)):
            raise BadRequest(
                f"what begins with {{ is read as JSON, and this is not one string: {_SEND_TEXT}"
            )
        try:
            body = _parsed(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(
                f"what begins with {{ is read as JSON, and this is none ({error}): "
                'send such a text as {"text": "…"}'
            ) from None
    if isinstance(body, Mapping):
        body = _text_of(body)
    if not isinstance(body, str):
        raise BadRequest(f"expected a text, got {_named(body)}: {_SEND_TEXT}")
    if problem := text_problem(body):
        raise BadRequest(f"{problem}: {_SEND_TEXT}")
    return text_array([body], spec)


def _parsed(text: str) -> object:
    """Return what JSON holds. Raises `BadRequest` for an object that has a key twice."""
    return json.loads(trimmed(text), object_pairs_hook=_object)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise BadRequest(f"the key {json.dumps(twice[:40])} stands twice in one object")
    return found


def text_problem(text: str) -> str:
    """Say why a text cannot be read, in a request or among training's samples; "" if it can."""
    if not trimmed(text):
        return "the text is blank" if text.strip(BOM) else "the text is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        # JSON can name it; no UTF-8 can hold it.
        return "the text holds half a surrogate pair"
    return ""


def _text_of(fields: Mapping[Any, Any]) -> object:
    if [*fields] != ["text"]:
        names = ", ".join(str(name)[:40] for name in [*fields][:5])
        raise BadRequest(f'expected {{"text": "…"}}, got {f"the keys {names}" if names else "{}"}')
    text = fields["text"]
    if not isinstance(text, str):
        raise BadRequest(f'"text": expected a string, got {_named(text)}')
    return text


def _require_few_values(text: str, spec: TableSpec) -> None:
    """Refuse what holds more values than the most rows, before a list is made of each of them.

    Categories may hold commas themselves, so four times as many pass.
    """
    if text.count(",") > 4 * _most_rows(spec) * (len(spec.columns) + 1):
        raise BadRequest(
            f"more values than {_most_rows(spec)} rows of {len(spec.columns)} columns have; at "
            f"most {_most_rows(spec)} rows in one request are accepted",
            413,
        )


def _most_rows(spec: TableSpec) -> int:
    return max(1, min(MAX_ROWS, _MOST_VALUES // len(spec.columns)))


def _as_rows(body: object) -> Sequence[object]:
    if isinstance(body, Mapping):
        return [body]
    if not isinstance(body, list):
        raise BadRequest("send a JSON object of columns, or a list of rows")
    if body and not isinstance(body[0], (Mapping, list)):
        return [body]
    return body


def _row_values(row: object, spec: TableSpec, number: int) -> list[float]:
    columns = spec.columns
    if isinstance(row, Mapping):
        missing = [
            c for place, c in enumerate(columns) if c not in row and not spec.optional[place]
        ]
        known = frozenset(columns)
        # A request may be megabytes of unknown names.
        unknown = [str(c)[:40] for c in islice((c for c in row if c not in known), 5)]
        if missing or unknown:
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"unknown {', '.join(unknown)}"] if unknown else []
            raise BadRequest(f"row {number}: {'; '.join(parts)}; columns: {', '.join(columns)}")
        row = [row.get(c) for c in columns]
    if not isinstance(row, list) or len(row) != len(columns):
        got = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
        raise BadRequest(f"row {number}: expected {len(columns)} values, got {got}")
    return [_value(value, spec, place, number) for place, value in enumerate(row)]


def _value(value: Any, spec: TableSpec, place: int, row: int) -> float:
    where = f"row {row}, column {spec.columns[place]}"
    if value is None and spec.optional[place]:
        return math.nan
    if categories := spec.categories[place]:
        found = _category(value, categories)
        if found is None:
            raise BadRequest(f"{where}: expected one of {_listed(categories)}, got {_named(value)}")
        return float(found)
    return _number(value, where)


def _category(value: object, categories: Sequence[str]) -> int | None:
    """Return the index of a category, None if it is not the only one that is meant.

    It is written as in training. Blanks around it do not count, accents may be put together in
    another way, and true and false stand for the categories that say so, however they are spelt:
    `True` is what pandas writes.
    """
    if isinstance(value, bool):
        spelt = str(value).lower()
        same = [place for place, name in enumerate(categories) if name.lower() == spelt]
    elif not isinstance(value, str):
        same = []
    elif value in categories:
        same = [categories.index(value)]
    elif len(value) <= _LONGEST_NAME:
        meant = word(value)
        same = [place for place, name in enumerate(categories) if word(name) == meant]
    else:
        same = []
    return same[0] if len(same) == 1 else None


def _listed(categories: Sequence[str]) -> str:
    shown = ", ".join(json.dumps(category) for category in categories[:_FEW])
    return shown + (f" and {len(categories) - _FEW} more" if len(categories) > _FEW else "")


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest(f"{where}: expected a number, got {_named(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadRequest(f"{where}: the number is not finite")
    return number


def _named(value: object) -> str:
    """Say what stands where a number belongs, however large or deep it is."""
    if isinstance(value, str):
        return json.dumps(value[:40])
    return _JSON_NAMES.get(type(value), type(value).__name__)
