"""The syntax tree of a Python source."""

from __future__ import annotations

import ast
import gc


def syntax_tree(source: bytes, shown: str) -> ast.Module:
    """Parse a source, called `shown` in messages. Raises as `ast.parse` does."""
    try:
        return ast.parse(source, filename=shown)
    except SystemError:
        # Python before 3.11.8 miscounts its recursion where garbage is collected while it builds
        # the tree (CPython's issue 106905).
        collects = gc.isenabled()
        gc.disable()
        try:
            return ast.parse(source, filename=shown)
        finally:
            if collects:
                gc.enable()
