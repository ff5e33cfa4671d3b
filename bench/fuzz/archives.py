"""The archive reader: what `verify` does with a file before it starts a process for it.

Zip files are read as they come. Tar files are changed before they are compressed: after it, hardly
a change would get past the checksum.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

from marwright.archive import verify
from marwright.archive.container.open import open_archive
from marwright.recipe.errors import VerifyError

_HANDLER = b"def handle(data, context):\n    return [b'ok'] * len(data or ())\n"
_CONFIG = b"minWorkers: 1\nmaxWorkers: 1\nbatchSize: 4\nhandler:\n  top_k: 3\n"
_LOCAL, _CENTRAL = struct.Struct("<4s5H3I2H"), 46
_HIGHEST = 1 << 20


def seeds() -> list[bytes]:
    """Return a small archive of each format, with payloads of each kind that is looked into."""
    state = OrderedDict(weight=[1.0, 2.0], bias=(1, "a", b"b", {"c": None}))
    script = {
        "model/data.pkl": pickle.dumps(state, 2),
        "model/constants.pkl": pickle.dumps((), 2),
        "model/code/__torch__.py": b"class Net(Module):\n  pass\n",
        "model/data/0": bytes(64),
        "model/extra/labels.pt": _zip({"data.pkl": pickle.dumps(state, 4)}, zipfile.ZIP_DEFLATED),
    }
    payloads = {
        "model.pt": _zip(script, zipfile.ZIP_STORED),
        "weights.pt": b"".join(pickle.dumps(state, protocol) for protocol in (0, 2, 4)),
        "a.bin": _tar({"pickle": pickle.dumps(state, 0), "storages": bytes(9)}),
        "b.bin": gzip.compress(pickle.dumps(state, 5), mtime=0),
        "c.npy": _array(pickle.dumps(state, 3)),
        "d.safetensors": struct.pack("<Q", 2) + b"{}",
    }
    every = [_members(name, content) for name, content in payloads.items()]
    return [
        *(_zip(members, zipfile.ZIP_STORED) for members in every),
        _zip(every[0], zipfile.ZIP_DEFLATED),
        *(_tar({f"m/{name}": data for name, data in members.items()}) for members in every[:2]),
        gzip.compress(_tar({f"m/{name}": data for name, data in every[0].items()}), mtime=0),
    ]


def _members(name: str, content: bytes) -> dict[str, bytes]:
    model = {"modelName": "m", "modelVersion": "1.0", "handler": "handler.py",
             "serializedFile": name, "configFile": "model-config.yaml"}  # fmt: skip
    manifest = json.dumps({"runtime": "python", "model": model}).encode()
    return {"handler.py": _HANDLER, "model-config.yaml": _CONFIG, name: content,
            "MAR-INF/MANIFEST.json": manifest}  # fmt: skip


def _zip(members: dict[str, bytes], method: int) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return target.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def _array(content: bytes) -> bytes:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content


def execute(content: bytes) -> str:
    """Read, unpack and look through one archive; returns the first things that are said of it."""
    is_tar = content[257:262] == b"ustar"
    packed = gzip.compress(content, 1, mtime=0) if is_tar else content
    suffix = ".tar.gz" if packed[:2] == b"\x1f\x8b" else ".mar"
    with tempfile.TemporaryDirectory() as name:
        file, folder = Path(name) / f"m{suffix}", Path(name) / "unpacked"
        file.write_bytes(packed)
        folder.mkdir()
        try:
            with open_archive(file) as archive:
                found, contents, _ = verify._read(archive)
                if not found.problems:
                    verify._unpack(archive, folder, found)
                    verify._scan(folder, archive, contents.manifest, found)
        except VerifyError as error:
            return f"refused: {str(error).removeprefix(str(file))}"
    return "; ".join([*found.problems[:2], *found.notes[:2], *found.unchecked[:1]])


def repair(content: bytes) -> bytes:
    """Put the checksums of tar headers, or those of a zip file and its directory's place, right."""
    changed = bytearray(content)
    if content[257:262] == b"ustar":
        for at in range(0, len(changed) - 511, 512):
            if changed[at + 257 : at + 262] == b"ustar":
                changed[at + 148 : at + 156] = b" " * 8
                total = sum(changed[at : at + 512])
                changed[at + 148 : at + 156] = b"%06o\0 " % total
        return bytes(changed)
    _repair_zip(changed)
    return bytes(changed)


def _repair_zip(changed: bytearray) -> None:
    end = changed.rfind(b"PK\5\6")
    if end < 0 or len(changed) < end + 22:
        return
    (start,) = struct.unpack_from("<I", changed, end + 16)
    if changed[start : start + 4] != b"PK\1\2":
        start = changed.find(b"PK\1\2")
    if not 0 <= start < end:
        return
    struct.pack_into("<2I", changed, end + 12, end - start, start)
    at, at_local = start, 0
    while at + _CENTRAL <= end:
        at_local = changed.find(b"PK\3\4", at_local)
        if at_local < 0 or at_local + _LOCAL.size > start:
            return
        fields = _LOCAL.unpack_from(changed, at_local)
        data = at_local + _LOCAL.size + fields[9] + fields[10]
        if fields[3] == zipfile.ZIP_STORED and fields[7] < _HIGHEST:
            checksum = zlib.crc32(changed[data : data + fields[7]])
            struct.pack_into("<I", changed, at_local + 14, checksum)
            struct.pack_into("<I", changed, at + 16, checksum)
        struct.pack_into("<I", changed, at + 42, at_local)
        at += _CENTRAL + sum(struct.unpack_from("<3H", changed, at + 28))
        at_local = data + fields[7]
