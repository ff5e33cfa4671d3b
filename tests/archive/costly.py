"""Small archives that would take long to look at, were the work not bounded by what is read."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable

from tests.archive.hostile import CONFIG, GOOD, HANDLER, manifest
from tests.archive.rules.pickled import Foreign, zipped

RUNS_CODE = pickle.dumps(Foreign(), 2)


def archive(changes: dict[str, bytes]) -> bytes:
    """Return a deflated archive with a payload called model.pt, which is changed or added to."""
    members = {**GOOD, "MAR-INF/MANIFEST.json": manifest(serializedFile="model.pt"), **changes}
    del members["model.bin"]
    return zipped(members, zipfile.ZIP_DEFLATED)


def cubic() -> bytes:
    """Return a pickle of 606 bytes: a number with blanks on each side of a NUL."""
    return b"F" + b" " * 301 + b"\0" + b" " * 301 + b"!\n"


def overlapping(count: int, inner: bytes) -> bytes:
    """Return a zip file that has the same bytes as a member so many times."""
    name = b"a.pt"
    sizes = struct.pack("<3I2H", 0, len(inner), len(inner), len(name), 0)
    local = b"PK\3\4" + struct.pack("<5H", 20, 0, 0, 0, 33) + sizes + name + inner
    entry = b"PK\1\2" + struct.pack("<6H", 20, 20, 0, 0, 0, 33) + sizes
    entry += struct.pack("<3H2I", 0, 0, 0, 0, 0) + name
    return local + ended(entry * count, count, len(local))


def ended(directory: bytes, count: int, at: int) -> bytes:
    """Return a directory with the record behind it."""
    numbers = (0, 0, count & 0xFFFF, count & 0xFFFF, len(directory), at, 0)
    return directory + b"PK\5\6" + struct.pack("<4H2IH", *numbers)


def directory_of(count: int) -> bytes:
    """Return a zip file of nothing but a directory of so many entries."""
    entry = b"PK\1\2" + struct.pack("<6H3I5H2I", *[0] * 9, 1, *[0] * 6) + b"a"
    return ended(entry * count, count, 0)


def layers(depth: int, content: bytes) -> bytes:
    """Return zip files in zip files, each with ten of the one inside of it."""
    for _ in range(depth):
        content = zipped({f"{n}.pt": content for n in range(10)}, zipfile.ZIP_DEFLATED)
    return content


def tgz(members: int, *, pax: int = 0) -> bytes:
    """Return a .tar.gz of so many empty members, before which is an extended header."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("m/handler.py")
        info.size = len(HANDLER)
        if pax:
            info.pax_headers = {"comment": "x" * pax}
        tar.addfile(info, io.BytesIO(HANDLER))
        header = tarfile.TarInfo("m/empty").tobuf()
        plain.write(header * members)
    return gzip.compress(plain.getvalue() + bytes(1024))


def json_of(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


PAYLOADS: dict[str, tuple[Callable[[], bytes], str]] = {
    # What is made of the payload, and what is said of it.
    "a cubic expression": (cubic, ""),
    "a cubic expression in a zip": (lambda: zipped({"data.pkl": cubic()}), "data.pkl: "),
    "overlapping members": (
        lambda: overlapping(2000, zipped({"data.pkl": pickle.dumps(1, 2)})),
        "its members overlap",
    ),
    "a directory of a million entries": (
        lambda: directory_of(1_000_000),
        "members are refused",
    ),
    "a directory of a million entries inside": (
        lambda: zipped({"a.pt": b"PK\3\4" + directory_of(1_000_000)}, zipfile.ZIP_DEFLATED),
        "members are refused",
    ),
    "opcodes without end": (
        lambda: b"\x80\x02" + b"N0" * 3_000_000 + RUNS_CODE,
        "opcodes to walk",
    ),
    "opcodes without end inside": (
        lambda: zipped({"data.pkl": b"\x80\x02" + b"N0" * 3_000_000}, zipfile.ZIP_DEFLATED),
        "opcodes to walk",
    ),
    "a bomb of three levels": (
        lambda: layers(2, zipped({"data/0": bytes(8 << 20)})),
        "unpacks to more",
    ),
    "a bomb in many streams": (
        lambda: zipped({f"{n}.xz": lzma.compress(bytes(100 << 20), preset=0) for n in range(8)}),
        "unpacks to more",
    ),
    "a tar file of many members": (
        lambda: b"".join([tarfile.TarInfo("a").tobuf()] * 30_000),
        "members are refused",
    ),
    "a name without end": (lambda: b"c" + b"a" * (8 << 20) + b"\nb\n.", ""),
    "a line without end": (lambda: b"\x80\x02I" + b" " * (8 << 20), ""),
}
MEMBERS: dict[str, tuple[dict[str, bytes], str]] = {
    "nested JSON": ({"MAR-INF/inventory.json": json_of(100_000)}, "MAR-INF/inventory.json: "),
    "a nested manifest": ({"MAR-INF/MANIFEST.json": json_of(100_000)}, "MAR-INF/MANIFEST.json: "),
    "a number of a million digits": (
        {"MAR-INF/MANIFEST.json": b'{"model": ' + b"9" * 1_000_000 + b"}"},
        "MAR-INF/MANIFEST.json: ",
    ),
    "a manifest of many keys": (
        {"MAR-INF/MANIFEST.json": json.dumps({f"k{n}": n for n in range(60_000)}).encode()},
        "MAR-INF/MANIFEST.json: ",
    ),
    "a large manifest": ({"MAR-INF/MANIFEST.json": bytes(2 << 20)}, "that is no text"),
    "a handler of parentheses": ({"handler.py": b"(" * 1_000_000}, "handler.py: not Python"),
    "a handler of one expression": ({"handler.py": b"x = " + b"-" * 1_000_000}, "handler.py: "),
    "a handler of one sum": ({"handler.py": b"x = 1" + b"+1" * 500_000}, "handler.py: not Python"),
    "a handler of a million lines": ({"handler.py": b"a\n" * 520_000}, "needs a function `handle`"),
    "a large handler": ({"handler.py": b"#" * (2 << 20)}, "that is no text"),
    "aliases": (
        {"model-config.yaml": b"a: &a [1]\n" + b"b: *a\n" * 9000 + CONFIG},
        "model-config.yaml: ",
    ),
    "levels": ({"model-config.yaml": b"a: " + b"[" * 60_000}, "model-config.yaml: "),
    "digits": ({"model-config.yaml": b"batchSize: " + b"9" * 60_000}, "model-config.yaml: "),
}
