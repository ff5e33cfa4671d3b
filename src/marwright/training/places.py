"""Where in a person's own code something was made, or went wrong: `user/net.py:12`."""

from __future__ import annotations

import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from weakref import WeakKeyDictionary

from torch import fx, nn
from torch.nn.modules.module import register_module_module_registration_hook

from marwright.project import ENGINE, PACKAGE

# The engine's frames say nothing to the author of a network, unless the network is its own.
_NETWORKS = "training/models/"
# Packages that trace, export and run networks, and so are in every traceback.
_TOOLS = ("torch", "functorch", "onnx", "onnxscript", "onnx_ir", "onnxruntime")
_PACKAGES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_LIBRARY = sysconfig.get_path("stdlib")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
# As TorchScript writes its own stacks.
_SCRIPT_FRAME = re.compile(r"^\s*(?P<file>\S+\.py)\((?P<line>\d+)\): ", re.MULTILINE)

_made: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


@contextmanager
def noting_where_made() -> Iterator[None]:
    """Remember for each module that becomes part of another one within the block, where it did."""

    def note(_: nn.Module, __: str, child: nn.Module | None) -> None:
        if child is not None and child not in _made and (place := caller(own_only=True)):
            _made[child] = place

    handle = register_module_module_registration_hook(note)
    try:
        yield
    finally:
        handle.remove()


def made_at(module: nn.Module) -> str:
    """Return where a module was made part of a network; empty where that was not noted."""
    return _made.get(module, "")


@contextmanager
def noting_lines() -> Iterator[None]:
    """Have graphs that are captured within the block keep the lines of helpers of a forward.

    torch keeps for each node of a graph only the lines of functions that are called `forward`.
    """
    theirs = fx.proxy.TracerBase._filter_traceback_frames

    def of_networks(
        self: fx.proxy.TracerBase, user_stack_summary: traceback.StackSummary
    ) -> traceback.StackSummary:
        stack = user_stack_summary
        kinds = [_kind(frame.filename) for frame in stack]
        # Who called this project is no part of the network.
        inside = len(kinds) - [*reversed(kinds), "project"].index("project")
        kept = [
            frame for frame, kind in zip(stack[inside:], kinds[inside:], strict=True)
            if kind in ("own", "library")
        ]  # fmt: skip
        return traceback.StackSummary.from_list(kept) if kept else theirs(self, stack)

    fx.proxy.TracerBase._filter_traceback_frames = of_networks  # type: ignore[method-assign]
    try:
        yield
    finally:
        fx.proxy.TracerBase._filter_traceback_frames = theirs  # type: ignore[method-assign]


def innermost(frames: list[tuple[str, int]], *, own_only: bool = False) -> str:
    """Return the innermost of some frames (file, line) that is a person's own code.

    Where there is none, the innermost of a library of networks, as torchvision is.
    """
    for kind in ("own",) if own_only else ("own", "library"):
        for file, line in reversed(frames):
            if _kind(file) == kind:
                return f"{_shown(file)}:{line}"
    return ""


def caller(*, own_only: bool = False) -> str:
    """Return the innermost frame of those at work that is a person's own code."""
    frames: list[tuple[str, int]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return innermost(frames[::-1], own_only=own_only)


def frames_of(error: BaseException) -> list[tuple[str, int]]:
    """Return the frames of an error's traceback, the innermost last."""
    return [(f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__)]


def frames_in(text: str) -> list[tuple[str, int]]:
    """Return the frames in a printed stack, the innermost last.

    Python's own order has the innermost last, and TorchScript's has it first.
    """
    frames = [(found["file"], int(found["line"])) for found in _FRAME.finditer(text)]
    script = [(found["file"], int(found["line"])) for found in _SCRIPT_FRAME.finditer(text)]
    return frames or script[::-1]


@cache
def _kind(file: str) -> str:
    """Return whose code a file is: a person's "own", a "library"'s, a "tool"'s, the "project"'s."""
    # What is made at run time, and what TorchScript writes.
    if file.startswith(("<", "code/__torch__")):
        return "tool"
    if file.startswith(engine := f"{ENGINE}/{PACKAGE}"):
        return "own" if file.startswith(engine + _NETWORKS) else "project"
    for packages in _PACKAGES:
        if file.startswith(f"{packages}/"):
            name = file.removeprefix(f"{packages}/").partition("/")[0]
            return "tool" if name in _TOOLS else "library"
    return "tool" if file.startswith(f"{_LIBRARY}/") else "own"


def _shown(file: str) -> str:
    """Return a path from the project's root, of a package from where packages are; else a name."""
    for folder in (Path.cwd(), ENGINE, *map(Path, _PACKAGES)):
        try:
            return Path(file).relative_to(folder).as_posix()
        except ValueError:
            continue
    return Path(file).name
