"""The handlers' readers: images, rows and texts of requests, as TorchServe hands them over.

An input is read as every kind of request, so that what one reader refuses another one meets.
"""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from typing import Any

import numpy as np
from PIL import Image

from bench.bombs import (
    bmp_of_runs,
    encoded,
    exif_of_tags,
    gif_of_blocks,
    jpeg_of_scans,
    noise,
    png,
)
from marwright.runtime.images.formats import format_of
from marwright.runtime.read import read_image, read_table, read_text
from marwright.runtime.request import BadRequest, body_of, json_error
from marwright.runtime.spec import ImageSpec, TableSpec, TextSpec

_IMAGE = ImageSpec(
    channels=3, height=8, width=8, fit="crop", interpolation="bilinear", mean=(0.5,) * 3,
    std=(0.5,) * 3,
)  # fmt: skip
_TABLE = TableSpec(
    columns=("age", "colour", "sold", "size"),
    categories=((), ("gr\u00fcn", "red"), ("False", "True"), ()),
    optional=(True, True, False, False),
    fill=(30.0, 0.0, 0.0, 0.0), center=(20.0, 0.0, 0.0, 1.0), scale=(10.0, 1.0, 1.0, 2.0),
    target="y", target_mean=0.0, target_std=1.0,
)  # fmt: skip
_TEXT = TextSpec(max_bytes=64)
_ROW = {"age": 40, "colour": "red", "sold": True, "size": 3.5}
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "40"}


def seeds() -> list[bytes]:
    """Return inputs of every kind that a reader takes, and of every form of each."""
    rgb, grey = noise(24, 16), noise(24, 16, 1)
    alpha = noise(24, 16, 4)
    exif = exif_of_tags(3, 8)
    frames = [noise(24, 16, 3, 1 + i) for i in range(3)]
    images = [
        encoded(rgb, "JPEG", exif=exif), encoded(rgb, "JPEG", progressive=True),
        encoded(rgb.convert("CMYK"), "JPEG"), encoded(grey, "JPEG", restart_marker_blocks=1),
        jpeg_of_scans(24, 16, 3),
        encoded(rgb, "WEBP"), encoded(alpha, "WEBP", lossless=True), encoded(alpha, "WEBP"),
        encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], exif=exif),
        encoded(rgb.convert("P"), "GIF", transparency=3), gif_of_blocks(4),
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        bmp_of_runs(8, 4, 36), encoded(alpha, "BMP"),
        *(encoded(rgb.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")),
        encoded(rgb.convert("P"), "PNG", transparency=bytes(range(256))),
        encoded(rgb, "PNG", exif=exif), encoded(grey.convert("LA"), "PNG"),
        encoded(Image.new("I;16", (9, 7), 300), "PNG"),
        *(
            png(9, 7, depth, colour, interlaced=interlaced, pieces=3)
            for depth, colour in ((1, 0), (2, 0), (4, 0), (16, 0), (16, 2), (16, 4), (16, 6))
            for interlaced in (False, True)
        ),
    ]  # fmt: skip
    rows = [_ROW, [_ROW, [1, "red", False, 2]], [None, None, "True", 1e308], [[1]], {}]
    texts = [
        b"plain", "gr\u00f6\u00dfe \U0001f600".encode(), b"\xef\xbb\xbfa", b'{"text": "a"}',
        b'\xef\xbb\xbf {"text": "\\ud83d\\ude00"}', "a".encode("utf-16"), b"[" * 40, b"1" * 5000,
    ]  # fmt: skip
    return [*images, *(json.dumps(row).encode() for row in rows), *texts]


def execute(content: bytes) -> str:
    """Read one input as each reader would; returns what each made of it."""
    bodies: list[object] = [content]
    if not format_of(content):
        bodies += _decoded(content)
    told = [_outcome(body) for body in bodies]
    told.append(_form(content))
    return " / ".join(told)


def repair(content: bytes) -> bytes:
    """Put the checksums of a PNG right, so that damage reaches what is behind them."""
    if format_of(content) != "PNG":
        return content
    fixed, at = [content[:8]], 8
    while at + 12 <= len(content):
        end = at + 8 + struct.unpack_from(">I", content, at)[0]
        if end + 4 > len(content):
            break
        fixed += [content[at:end], struct.pack(">I", zlib.crc32(content[at + 4 : end]))]
        at = end + 4
    return b"".join([*fixed, content[at:]])


def _decoded(content: bytes) -> list[object]:
    """Return what a worker makes of a body of text/plain and of application/json."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return []
    try:
        return [text, json.loads(text)]
    except (ValueError, RecursionError):
        return [text]


def _outcome(body: object) -> str:
    return ", ".join(
        _read(reader, body, spec)
        for reader, spec in ((read_image, _IMAGE), (read_table, _TABLE), (read_text, _TEXT))
    )


def _read(reader: Any, body: object, spec: Any) -> str:
    with warnings.catch_warnings():
        # As a worker takes them: a line in its log.
        warnings.simplefilter("ignore")
        try:
            array = reader(body, spec)
        except BadRequest as bad:
            _check_refusal(bad)
            return f"{bad.status} {bad}"
    if not np.isfinite(array).all() or not len(array):
        raise AssertionError(f"an array {array.shape} that is empty or not finite")
    return "read"


def _form(content: bytes) -> str:
    """Take an input apart as the server does with a form."""
    parts = [part.partition(b"=") for part in content[:4096].split(b"&")]
    fields = {name.decode(errors="replace"): bytearray(value) for name, _, value in parts}
    try:
        body_of(fields, _FORM)
    except BadRequest as bad:
        _check_refusal(bad)
        return str(bad.status)
    return "a field"


def _check_refusal(bad: BadRequest) -> None:
    if bad.status not in (400, 413, 415):
        raise AssertionError(f"status {bad.status}")
    json.loads(json_error(bad.status, str(bad)))
