"""The syntax tree of a source, whatever Python miscounts while it builds one."""

from __future__ import annotations

import ast
import gc

import pytest

from marwright.recipe.syntax import syntax_tree


def test_a_source_is_parsed_again_where_python_miscounted(monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[bool] = []
    parse = ast.parse

    def miscounts(source: bytes, filename: str) -> ast.Module:
        collected.append(gc.isenabled())
        if len(collected) == 1:
            raise SystemError("AST constructor recursion depth mismatch (before=45, after=38)")
        return parse(source, filename)

    monkeypatch.setattr(ast, "parse", miscounts)
    assert ast.unparse(syntax_tree(b"a=1", "a.py")) == "a = 1"
    assert collected == [True, False]
    assert gc.isenabled()


def test_what_is_no_python_is_named_as_it_is() -> None:
    with pytest.raises(SyntaxError) as raised:
        syntax_tree(b"a = ", "shown.py")
    assert raised.value.filename == "shown.py"
