"""Pickles for tests: the only foreign thing that any of them calls is `os.getcwd`."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

from archive.container.budget import Budget
from archive.rules import pickles
from archive.rules.pickles import pickle_problems

PROTOCOLS = range(6)
ADVICE = "weights need no code: save a state_dict, or use torch.jit.save"
CWD = f"{os.getcwd.__module__}.getcwd"
CALLS_CWD = f"calls {CWD} when it is loaded; {ADVICE}"
UNREADABLE = "cannot be read to its end as a pickle: "
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, 2)


class Foreign:
    """What a full checkpoint or an attacker would leave: a call of something not on the list."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.getcwd, ()


def written(tmp_path: Path, content: bytes, name: str = "model.pt") -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def named(tmp_path: Path, content: bytes) -> list[str]:
    """Return what is said of a pickle that is called one."""
    where = "model/data.pkl: "
    problems = pickle_problems(written(tmp_path, zipped({"model/data.pkl": content})))
    assert all(problem.startswith(where) for problem in problems)
    return [problem.removeprefix(where) for problem in problems]


def holds_pickles(file: Path) -> bool:
    """Whether the scan found a pickle to look at, harmless or not."""
    with file.open("rb") as opened:
        return any(look.is_pickle for look in pickles._look(opened, Budget(1 << 20)))


def text(string: str) -> bytes:
    """Return the opcode that pushes a string."""
    return b"\x8c" + bytes([len(string)]) + string.encode()


def frame(length: int) -> bytes:
    """Return the opcode that says how many bytes to read at once."""
    return b"\x95" + struct.pack("<Q", length)


def saved(tmp_path: Path, value: Any, **options: Any) -> Path:
    import torch

    torch.save(value, tmp_path / "model.pt", **options)
    return tmp_path / "model.pt"


PUSH_CWD = text(os.getcwd.__module__) + text("getcwd")
