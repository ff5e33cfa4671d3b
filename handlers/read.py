"""From request bodies to tensors, or a `BadRequest` that says why not.

What is read ends in `handlers/preprocess.py`, as training's samples do.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from handlers.preprocess import image_tensor, table_tensor
from handlers.request import BadRequest
from handlers.spec import MAX_ROWS, ImageSpec, TableSpec

# What a person may send. Pillow knows many more formats; each is code that a stranger's bytes
# could reach.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
# Far above any photograph that is worth classifying, far below what exhausts a worker: measured,
# an image of 32 megapixels takes up to about 250 MiB as RGB, and 490 MiB as RGBA.
MAX_PIXELS = 32_000_000

_FEW_PIXELS = f"at most {MAX_PIXELS} are accepted"
_JSON_NAMES = {list: "a list", dict: "an object", bool: "true or false", type(None): "null"}


def read_image(body: object, spec: ImageSpec) -> torch.Tensor:
    """Decode a request's image bytes; returns float32 `(1, C, H, W)`.

    Raises `BadRequest` for anything that is not a readable image within `MAX_PIXELS`.
    """
    if not isinstance(body, (bytes, bytearray)):
        raise BadRequest("send the image's bytes as the body or as a form field")
    if not body:
        raise BadRequest("the request is empty: send the image's bytes")
    try:
        image = Image.open(io.BytesIO(body), formats=IMAGE_FORMATS)
        width, height = image.size
        # Before decoding: a file of kilobytes can unpack to gigabytes.
        if width * height > MAX_PIXELS:
            raise BadRequest(f"the image has {width}×{height} pixels; {_FEW_PIXELS}", 413)
        image.load()
    except UnidentifiedImageError:
        raise BadRequest(f"not an image of a known format ({', '.join(IMAGE_FORMATS)})") from None
    # Pillow has a limit of its own, above ours; where warnings are errors, it has two.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadRequest(f"the image has too many pixels; {_FEW_PIXELS}", 413) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadRequest(f"the image cannot be decoded: {error}") from None
    return image_tensor(image, spec)[None]


def read_table(body: object, spec: TableSpec) -> torch.Tensor:
    """Read a request's rows; returns standardised float32 `(N, len(columns))`.

    `body` is JSON, decoded or not: an object of columns, a list of numbers in the order of the
    columns, or a list of such rows. Raises `BadRequest` naming the row and the column.
    """
    if isinstance(body, (bytes, bytearray, str)):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON: {error}") from None
    rows = _as_rows(body)
    if not rows:
        raise BadRequest("no rows: send an object of columns, or a list of them")
    if len(rows) > MAX_ROWS:
        raise BadRequest(f"{len(rows)} rows in one request; at most {MAX_ROWS} are accepted", 413)
    values = [_row_values(row, spec.columns, number) for number, row in enumerate(rows)]
    tensor = table_tensor(np.array(values, dtype=np.float64), spec)
    if len(infinite := torch.nonzero(~torch.isfinite(tensor))):
        number, column = infinite[0].tolist()
        raise BadRequest(f"row {number}, column {spec.columns[column]}: the number is too large")
    return tensor


def _as_rows(body: object) -> Sequence[object]:
    if isinstance(body, Mapping):
        return [body]
    if not isinstance(body, list):
        raise BadRequest("send a JSON object of columns, or a list of rows")
    if body and not isinstance(body[0], (Mapping, list)):
        return [body]
    return body


def _row_values(row: object, columns: tuple[str, ...], number: int) -> list[float]:
    if isinstance(row, Mapping):
        missing = [c for c in columns if c not in row]
        unknown = [str(c)[:40] for c in row if c not in columns]
        if missing or unknown:
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"unknown {', '.join(unknown[:5])}"] if unknown else []
            raise BadRequest(f"row {number}: {'; '.join(parts)}; columns: {', '.join(columns)}")
        row = [row[c] for c in columns]
    if not isinstance(row, list) or len(row) != len(columns):
        got = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
        raise BadRequest(f"row {number}: expected {len(columns)} numbers, got {got}")
    return [_number(v, number, c) for v, c in zip(row, columns, strict=True)]


def _number(value: Any, row: int, column: str) -> float:
    where = f"row {row}, column {column}"
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
