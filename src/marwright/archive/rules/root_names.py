"""Names at an archive's root that Python or TorchServe's worker would import in place of its own.

TorchServe puts the archive on PYTHONPATH before the worker's Python starts, in front of all else.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator

# Python imports these when it starts, and no error of theirs stops it.
_HOOKS = frozenset({"sitecustomize", "usercustomize"})
# What the worker imports before it loads a handler.
_WORKERS = frozenset({"functorch", "numpy", "psutil", "torch", "torchgen", "ts", "yaml"})
_CODE = ("py", "pyc", "pyd", "so")


def root_problems(members: Collection[str]) -> Iterator[str]:
    """Name files and packages at the root that the worker would run in place of what it needs."""
    for name in sorted(members):
        module, slash, rest = name.partition("/")
        if slash:
            first, *endings = rest.split(".")
            # A folder without it gives way to a module of that name that lies elsewhere.
            if first != "__init__" or "/" in rest:
                continue
        else:
            module, *endings = name.split(".")
        if endings and endings[-1].lower() in _CODE and (why := taken(module)):
            yield f"{name}: {why}"


def taken(module: str) -> str:
    """Say when a top-level module's name is one that is needed by others, or nothing."""
    if module in sys.stdlib_module_names:
        return "has the name of a module of Python, which the server may have imported: rename it"
    if module in _HOOKS:
        return "Python would run it in the server's worker before anything else: remove it"
    if module in _WORKERS:
        return f"has the name of {module}, which TorchServe's worker needs itself: rename it"
    return ""
