"""Functions of a workflow's handler: found in its source, and told when they cannot be called."""

from __future__ import annotations

import ast
import time

import pytest

from marwright.archive.rules.functions import function_problems
from marwright.recipe.entry import module_classes

PRE = "def pre(data, context): ...\n"


def problems(source: str, *names: str, handler: str = "handler.py") -> list[str]:
    return function_problems(handler, source.encode(), names or ("pre",))


@pytest.mark.parametrize(
    "source",
    [
        PRE,
        "def pre(data, context, limit=3): ...\n",
        "def pre(data=None, context=None): ...\n",
        "def pre(*rows): ...\n",
        "def pre(data, /, *others, more=1, **rest): ...\n",
        "pre = lambda data, context: None\n",
        "from steps import pre\n",
        "from steps import first as pre\n",
        "from steps import *\n",
        "import functools\npre = functools.partial(print)\n",
        "try:\n    import fast\n    def pre(data, context): ...\nexcept ImportError:\n    " + PRE,
        # What is decorated, or bound twice, may take anything.
        "@adapt\ndef pre(data): ...\n",
        "def pre(data): ...\npre = adapt(pre)\n",
        "def pre(data): ...\n" + PRE,
        # Of another scope.
        "def outer():\n    def pre(): ...\n" + PRE,
    ],
)
def test_function_that_can_be_called_passes(source: str) -> None:
    assert problems(source) == []


def test_functions_are_looked_for_one_by_one() -> None:
    assert problems(PRE + "def post(data, context): ...\n", "pre", "post") == []
    assert problems(PRE, "pre", "post", "prex") == [
        f"handler.py: has no function {name}: write `def {name}(data, context):`, or add a model "
        f"of that name to the spec{hint}"
        for name, hint in (("post", "; known: pre"), ("prex", '; did you mean "pre"?'))
    ]
    assert problems("", "pre") == [
        "handler.py: has no function pre: write `def pre(data, context):`, or add a model of that "
        "name to the spec"
    ]


def test_class_that_torchserve_would_take_instead_is_named() -> None:
    source = "class Helper:\n    pass\n" + PRE
    [problem] = problems(source, "nope")
    assert problem.startswith("handler.py: has no function nope; TorchServe would take its class "
                              "Helper: ")  # fmt: skip
    assert "class" not in problems(source + "class Other: ...\n", "nope")[0]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("class pre: ...\n", "pre is a class, and TorchServe calls functions"),
        ("async def pre(data, context): ...\n",
         "pre is async, and TorchServe does not wait for it: write a plain `def`"),
        *((f"def pre({arguments}): ...\n",
           "pre is called with two arguments: write `def pre(data, context):`")
          for arguments in ("", "data", "data, context, more", "data, *, context", "**named",
                            "data, context, *, more")),
    ],
)  # fmt: skip
def test_what_cannot_be_called_with_data_and_context_is_named(source: str, problem: str) -> None:
    assert problems(source) == [f"handler.py: {problem}"]


def test_many_functions_take_little_time() -> None:
    names = [f"f{number}" for number in range(1_000)]
    source = "".join(f"def {name}(data): return [data, data, data]\n" for name in names)
    start = time.process_time()
    found = problems(source, *names, *(f"{name}x" for name in names))
    assert time.process_time() - start < 3
    wrong = "is called with two arguments: write"
    assert found[:1_000] == [
        f"handler.py: {name} {wrong} `def {name}(data, context):`" for name in names
    ]
    # With so many to compare, no hint.
    assert found[-1] == (
        "handler.py: has no function f999x: write `def f999x(data, context):`, or add a model of "
        "that name to the spec"
    )


def test_classes_are_found_among_many_statements_in_their_order() -> None:
    tree = ast.parse("if 1:\n    class C: ...\nclass B: ...\nclass A: ...\n")
    tree.body[:0] = [ast.Pass()] * 300_000
    start = time.process_time()
    assert [node.name for node in module_classes(tree)] == ["B", "A", "C"]
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "source", ["def pre(:\n", "return 1\n", "x\0\n", "def pre(data, data): ...\n"]
)
def test_what_is_no_python_is_named(source: str) -> None:
    [problem] = problems(source)
    assert problem.startswith("handler.py: not Python: ")


def test_nesting_without_end_is_no_python() -> None:
    [problem] = problems("(" * 10_000 + ")" * 10_000)
    assert problem.startswith("handler.py: not Python: ")


@pytest.mark.parametrize("handler", ["my.handler.py", "handler", "handler.py:pre", "handler.pyc"])
def test_handler_that_cannot_be_imported_by_its_name(handler: str) -> None:
    assert problems(PRE, handler=handler) == [
        f"{handler}: TorchServe imports it by its name: call it as in handler.py"
    ]


@pytest.mark.parametrize("handler", ["my-handler.py", "steps/handler.py"])
def test_handler_of_another_name(handler: str) -> None:
    assert problems(PRE, handler=handler) == []


def test_handler_with_the_name_of_a_module_of_python() -> None:
    assert problems(PRE, handler="json.py") == [
        "json.py: has the name of a module of Python, which the server may have imported: rename it"
    ]
