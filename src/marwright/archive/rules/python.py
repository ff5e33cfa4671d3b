"""Python source of anybody, parsed without running it."""

from __future__ import annotations

import ast

from marwright.recipe.syntax import syntax_tree

# In bytes. Python's own parser, which cannot be stopped, takes three seconds at most for a MiB.
MOST_SOURCE = 4 << 20


def parse(source: bytes, shown: str) -> ast.Module:
    """Return the syntax tree of what Python would run; `shown` is the file in messages.

    Raises `ValueError` for what Python would refuse, also where it takes a compiler to notice.
    """
    try:
        tree = syntax_tree(source, shown)
        compile(tree, shown, "exec", dont_inherit=True)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise ValueError(f"{shown}: not Python: {where}{error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{shown}: not Python: {str(error) or 'too much in one line'}") from None
    return tree
