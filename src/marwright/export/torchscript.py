"""TorchScript files that are the same bytes wherever and whenever they are written.

`torch.jit.save` puts into its zip the file's own stem, debug tables with source paths, and an
id. None of them is needed to load the file; all of them differ from folder to folder.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

ROOT = "model"
# Tensors start at multiples of this, so that torch may map them into memory
# (caffe2/serialize/inline_container.h: kFieldAlignment).
ALIGNMENT = 64
_LOCAL_HEADER = 30
_EXTRA_HEADER = 4


def normalise(source: Path, target: Path) -> None:
    """Rewrite a TorchScript file: fixed root folder, dates and id, no debug tables."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            name = f"{ROOT}/{entry.filename.partition('/')[2]}"
            if name.endswith(".debug_pkl"):
                continue
            data = b"0" * 40 if name.endswith("/serialization_id") else old.read(entry)
            assert new.fp is not None
            new.writestr(_stored(name, new.fp.tell()), data)


def _stored(name: str, offset: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_STORED
    start = offset + _LOCAL_HEADER + len(name.encode()) + _EXTRA_HEADER
    padding = -start % ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    return info
