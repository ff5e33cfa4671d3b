"""Pickles that would run code are named without being run; data is no code."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marwright.archive.container import budget as budget_module
from marwright.archive.container.budget import Budget
from marwright.archive.rules.pickles import pickle_problems
from tests.archive.rules.pickled import (
    ADVICE,
    CALLS_CWD,
    CWD,
    LEGACY,
    PROTOCOLS,
    PUSH_CWD,
    UNREADABLE,
    Foreign,
    frame,
    holds_pickles,
    named,
    text,
    written,
    zipped,
)

if TYPE_CHECKING:
    pass
# Data is no code.

LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.binary(min_size=1, max_size=9)
)  # fmt: skip
PLAIN = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)
PLANTED: st.SearchStrategy[Any] = st.deferred(
    lambda: (
        st.builds(Foreign)
        | st.builds(
            lambda a, it, b: [*a, it, *b], st.lists(PLAIN, max_size=2), PLANTED, st.lists(LEAF)
        )
        | st.builds(lambda it, other: (other, it), PLANTED, PLAIN)
        | st.builds(lambda data, it: {"a": data, "b": it, "c": data}, PLAIN, PLANTED)
    )
)


@settings(max_examples=80, deadline=None)
@given(data=PLAIN, protocol=st.sampled_from(PROTOCOLS))
def test_nested_data_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, data: Any, protocol: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = pickle.dumps(data, protocol)
    assert pickle_problems(written(folder, content)) == []
    assert named(folder, content) == []


@settings(max_examples=80, deadline=None)
@given(data=PLANTED, protocol=st.sampled_from(PROTOCOLS))
@example(data=Foreign(), protocol=0)
def test_foreign_call_is_found_wherever_it_is_planted(
    tmp_path_factory: pytest.TempPathFactory, data: Any, protocol: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = pickle.dumps(data, protocol)
    assert pickle_problems(written(folder, content)) == [CALLS_CWD]
    assert holds_pickles(folder / "model.pt")
    assert named(folder, content) == [CALLS_CWD]


# Streams that no pickler writes.

TRICKS = {
    "inst": b"(S'a'\n" + f"i{os.getcwd.__module__}\ngetcwd\n.".encode(),
    "obj": b"(" + f"c{os.getcwd.__module__}\ngetcwd\n".encode() + b"o.",
    "no stop after the call": f"c{os.getcwd.__module__}\ngetcwd\n)R".encode(),
    "garbage after the call": f"c{os.getcwd.__module__}\ngetcwd\n)R\xff\xff".encode("latin-1"),
    "line that only pickle reads": f"I0x10\n0c{os.getcwd.__module__}\ngetcwd\n)R.".encode(),
    "number that ends at a nul": f"I1\0x\n0c{os.getcwd.__module__}\ngetcwd\n)R.".encode(),
    "no newline at the end": f"(i{os.getcwd.__module__}\ngetcwdX".encode(),
    "built twice": b"\x80\x02" + f"c{os.getcwd.__module__}\ngetcwd\n}}b.".encode(),
    "stack global": b"\x80\x04" + PUSH_CWD + b"\x93)R.",
    "memo": b"\x80\x04" + PUSH_CWD + b"q\1" + b"0" + b"h\1" + b"\x93)R.",
    "memo overwritten": b"\x80\x04" + text("collections") + b"q\1" + text("Counter") + b"q\2"
    + text(os.getcwd.__module__) + b"q\1" + text("getcwd") + b"q\2h\1h\2\x93)R.",
    "memoize": b"\x80\x04" + PUSH_CWD + b"\x940\x94h\1h\0\x93)R.",
    "long memo": b"\x80\x04" + PUSH_CWD + b"r\0\1\0\0000j\0\1\0\0\x93)R.",
    "text memo": b"\x80\x04" + PUSH_CWD + b"p7\n0g7\n\x93)R.",
    "popped": b"\x80\x04" + PUSH_CWD + text("collections") + text("Counter") + b"00\x93)R.",
    "pop of a mark": b"\x80\x04" + PUSH_CWD + b"(0\x93)R.",
    "pop to a mark": b"\x80\x04" + PUSH_CWD + b"(" + text("Counter") * 3 + b"1\x93)R.",
    "pair left over": b"\x80\x04" + PUSH_CWD + text("a") + b"\x860" + PUSH_CWD + b"\x93)R.",
    "in a frame": b"\x80\x04\x95\x02" + bytes(7) + b"N0" + PUSH_CWD + b"\x93)R.",
    "long strings": b"\x80\x04\x8d" + struct.pack("<Q", len(os.getcwd.__module__))
    + os.getcwd.__module__.encode() + b"X\6\0\0\0getcwd\x93)R.",
    "after ten harmless ones": pickle.dumps({"a": 1}) * 10 + pickle.dumps(Foreign()),
    "behind parts of torch's own that are not the first": pickle.dumps(1, 2) + LEGACY
    + pickle.dumps(1) * 3 + pickle.dumps(Foreign()),
    "imported and not called": f"\x80\x02c{os.getcwd.__module__}\ngetcwd\n\xff".encode("latin-1"),
    "after the parts of torch's own": LEGACY + pickle.dumps(1001, 2) + pickle.dumps(Foreign(), 2),
}  # fmt: skip


def asked(content: bytes, unpickler: type[pickle.Unpickler]) -> list[str]:
    """Return what an unpickler asks for that calls nothing, up to where it gives up."""
    names: list[str] = []

    class Harmless(unpickler):  # type: ignore[misc, valid-type]
        def find_class(self, module: str, name: str) -> Any:
            names.append(f"{module}.{name}")
            return type("Inert", (), {"__init__": lambda self, *_: None, "__setstate__": id})

    file = io.BytesIO(content)
    with contextlib.suppress(Exception):
        while not names:
            Harmless(file).load()
    return names


@pytest.mark.parametrize("content", TRICKS.values(), ids=TRICKS)
def test_tricks_do_not_hide_a_call(tmp_path: Path, content: bytes) -> None:
    for problems in (pickle_problems(written(tmp_path, content)), named(tmp_path, content)):
        assert any(problem.startswith(f"calls {CWD}") for problem in problems), problems


@pytest.mark.parametrize("content", TRICKS.values(), ids=TRICKS)
def test_tricks_work_on_an_unpickler(content: bytes) -> None:
    """Otherwise there would be nothing to find. Python has two, and each takes a little more."""
    assert [CWD] in [asked(content, kind) for kind in (pickle.Unpickler, pickle._Unpickler)]


def test_module_whose_name_is_no_identifier_hides_nothing(tmp_path: Path) -> None:
    content = f"ca-b\nc\n0c{os.getcwd.__module__}\ngetcwd\n(tR.".encode()
    said = [f"calls a-b.c, {CWD} when it is loaded; {ADVICE}"]
    assert pickle_problems(written(tmp_path, content)) == said
    assert named(tmp_path, content) == said
    (tmp_path / "a-b.py").write_text("c = 1")
    sys.path.insert(0, str(tmp_path))
    try:
        assert pickle.loads(content) == str(Path.cwd())
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["a-b"]


def test_a_file_does_not_use_up_the_opcodes_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_module, "OPCODES", 10)
    small = written(tmp_path, pickle.dumps([1, 2], 2))
    budget = Budget(1000)
    for _ in range(3):
        assert pickle_problems(small, budget) == []
    large = written(tmp_path, pickle.dumps([*range(20)], 2), "large.pt")
    assert pickle_problems(large, budget) == [f"{UNREADABLE}more than 10 opcodes to walk"]
    assert pickle_problems(small, budget) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x80\x04N\x8c\1a\x93.", "calls a global whose name is computed; "),
        (b"\x80\x04\x8c\1a\x8c\1b\x86\x8c\1c\x93.", "calls a global whose name is computed; "),
        (b"\x80\x04S'posix'\n\x8c\1a\x93.", "calls posix.a when it is loaded; "),
        (b"\x80\x04S'p\\x6fsix'\n\x8c\1a\x93.", "calls posix.a when it is loaded; "),
        (b"\x80\x04Vp\\u006fsix\n\x8c\1a\x93.", "calls posix.a when it is loaded; "),
        (b"\x80\x04T\5\0\0\0posix\x8c\1a\x93.", "calls posix.a when it is loaded; "),
        (b"\x80\x04S'\xff'\n\x8c\1a\x93.", "calls a global whose name is computed; "),
        (b"\x80\x04X\0\1\0\0" + b"a" * 256 + b"\x8c\1a\x93.", "calls a global whose name is "),
        (b"\x80\x02\x82\1.", "calls by a number of copyreg's, which may be anything"),
        (b"\x80\x02\x83\1\1.", "calls by a number of copyreg's, which may be anything"),
        (b"\x80\x02\x84\1\1\1\1)R.", "calls by a number of copyreg's, which may be anything"),
    ],
)
def test_names_that_cannot_be_known_are_refused(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    for problems in (pickle_problems(written(tmp_path, content)), named(tmp_path, content)):
        assert len(problems) == 1
        assert problems[0].startswith(problem)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("builtins", "int"),
        ("builtins", "set.__class__"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch", "ops.load_library"),
        ("torch", "_utils.os.system"),
        ("torch", "Size.__new__"),
        ("torch", "storage.UntypedStorage"),
        ("torch._utils", "_import_dotted_name"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch.jit._pickle", "torch"),
        ("torch.storage", "UntypedStorage.from_file"),
        ("torch.serialization", "load"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("collections", "defaultdict"),
        ("collections", "OrderedDict.fromkeys"),
        ("functools", "partial"),
        ("__main__", "Net"),
        ("__torch__", "Net.forward"),
        ("__torch__.", "Net"),
        ("__torch__x", "Net"),
        ("__torch__..os", "Net"),
        ("__torch__.os\n", "Net"),
        ("x.__torch__", "Net"),
    ],
)
def test_name_off_the_list_is_refused(tmp_path: Path, module: str, name: str) -> None:
    shown = f"{module}.{name}" if "\n" not in module else ascii(f"{module}.{name}")
    problem = f"calls {shown} when it is loaded; {ADVICE}"
    assert named(tmp_path, b"\x80\x04" + text(module) + text(name) + b"\x93.") == [problem]
    if "\n" not in module:
        assert named(tmp_path, f"c{module}\n{name}\n.".encode()) == [problem]
        assert named(tmp_path, f"(i{module}\n{name}\n.".encode()) == [problem]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch", "FloatStorage"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("collections", "OrderedDict"),
        ("__builtin__", "set"),
        ("torch.jit._pickle", "restore_type_tag"),
        ("__torch__", "Net"),
        ("__torch__.torch.nn.modules.linear.___torch_mangle_0", "Linear"),
    ],
)
def test_name_on_the_list_is_accepted(tmp_path: Path, module: str, name: str) -> None:
    assert named(tmp_path, b"\x80\x04" + text(module) + text(name) + b"\x93)R.") == []
    assert named(tmp_path, f"c{module}\n{name}\n)R.".encode()) == []


def test_many_names_are_counted(tmp_path: Path) -> None:
    content = b"\x80\x02" + b"".join(f"ca{n}\nb\n0".encode() for n in (3, 1, 2, 6, 5, 4, 1)) + b"N."
    said = f"calls a1.b, a2.b, a3.b, a4.b and 2 more when it is loaded; {ADVICE}"
    assert named(tmp_path, content) == [said]


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    (problem,) = named(tmp_path, b"\x80\x02c\x1b[2Jos\r" + b"a" * 999 + b"\nb\n.")
    assert problem.isprintable()
    assert len(problem) < 400


# What no unpickler can read either.


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("data", [{"a": [1.0, "b"], "c": [2]}, [1, Foreign(), *range(9)]])
def test_truncated_pickle_is_refused(tmp_path: Path, protocol: int, data: Any) -> None:
    whole = pickle.dumps(data, protocol)
    for length in range(12, len(whole)):
        assert UNREADABLE + "it ends too early" in named(tmp_path, whole[:length])
    for length in range(len(whole) - 8, len(whole)):
        problems = pickle_problems(written(tmp_path, whole[:length]))
        assert UNREADABLE + "it ends too early" in problems


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it ends too early"),
        (b"\x80", "it ends too early"),
        (b"plain text", "PUT comes with what it cannot have"),
        (b".", "it takes from an empty stack"),
        (b"\x80\x02(.", "it takes from beyond a mark"),
        (b"\x80\x02N(0R.", "it takes from an empty stack"),
        (b"\x80\x02h\1.", "it gets what was never put"),
        (b"\x80\x02\xff.", "b'\\xff' is no opcode"),
        (b"Ione\n.", "INT comes with what it cannot have"),
        (b"S'open\n.", "STRING comes with what it cannot have"),
        (b"Fuel\n.", "FLOAT comes with what it cannot have"),
        (b"Np1x\n.", "PUT comes with what it cannot have"),
        (b"c\xff\nname\n.", "GLOBAL comes with what it cannot have"),
        (b"\x80\x02X\2\0\0\0\xff\xff.", "BINUNICODE comes with what it cannot have"),
        (b"\x80\x02T\xff\xff\xff\xff.", "BINSTRING comes with what it cannot have"),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "BINBYTES8 comes with what it cannot have"),
        (pickle.dumps(1, 2) + b"\0", "b'\\x00' is no opcode"),
        (
            b"\x80\4" + frame(3) + text("abc") + b".",
            "it reads beyond a frame, where unpicklers differ",
        ),
        (b"\x80\4" + frame(2) + b"V1\n.", "it reads beyond a frame, where unpicklers differ"),
        (
            b"\x80\4" + frame(12) + frame(1) + b"N.",
            "it leaves a frame unread, where unpicklers differ",
        ),
        (b"\x80\4" + frame(3) + b"N..", "it leaves a frame unread, where unpicklers differ"),
    ],
)
def test_what_does_not_parse_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    assert named(tmp_path, content) == [UNREADABLE + why]


OS = os.getcwd.__module__.encode()
FRAGMENTS = [
    *(b"c%b\ngetcwd\n" % OS, b"(i%b\ngetcwd\n" % OS, text(OS.decode()), text("getcwd"), b"\x93"),
    *(
        b")",
        b"R",
        b"\x81",
        b"\x92",
        b"b",
        b"o",
        b"(",
        b"0",
        b"1",
        b"2",
        b"t",
        b"l",
        b"d",
        b"e",
        b"a",
    ),
    *(b"s", b"u", b"]", b"}", b"\x85", b"\x86", b"\x87", b"\x8f", b"\x90", b"\x91", b"N", b"\x88"),
    *(b"K\1", b"J\1\1\1\1", b"G" + bytes(8), b"U\5posix", b"C\1a", b"\x8a\1\5", b"Vposix\n"),
    *(b"\x94", b"q\0", b"h\0", b"h\1", b"p1\n", b"g1\n", b"g 0\n", b"g0\0\n", b"r\1\0\0\0"),
    *(b"I0x10\n", b"I010\n", b"I01\n", b"I\n", b"I1\0x\n", b"I 1 \n", b"L 1 L\n", b"L0b1L\n"),
    *(b"F1_0\n", b"F.5\n", b"Fnan\n", b"F1\0x\n", b"S'a'\n", b"S'\xff' \n", b"Pid\n", b"Q"),
    *(b"\x80\0", b"\x80\4", b".", b"\n", *(b"\x95" + bytes([n, *[0] * 7]) for n in range(9))),
]


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from([b"", b"\x80\0", b"\x80\2", b"\x80\4"]),
    parts=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=2), max_size=16),
    named=st.booleans(),
    unpickler=st.sampled_from([pickle.Unpickler, pickle._Unpickler]),
)
@example(start=b"", parts=[b"L 1 L\n", FRAGMENTS[1]], named=False, unpickler=pickle.Unpickler)
def test_nothing_is_called_that_was_not_named(
    tmp_path_factory: pytest.TempPathFactory,
    start: bytes,
    parts: list[bytes],
    named: bool,
    unpickler: type[pickle.Unpickler],
) -> None:
    """Whatever the opcodes: what either of Python's unpicklers calls, the walk has seen."""
    content = start + b"".join(parts)
    called: list[str] = []

    class Inert:
        def __new__(cls, *args: Any) -> Inert:
            called.append("new")
            return object.__new__(cls)

        def __init__(self, *args: Any) -> None: ...

        def __setstate__(self, state: Any) -> None:
            called.append("state")

    class Harmless(unpickler):  # type: ignore[misc, valid-type]
        def find_class(self, module: str, name: str) -> Any:
            return Inert if f"{module}.{name}" == CWD else dict

        def persistent_load(self, pid: Any) -> Any:
            return pid

    # Whatever it raises: only what it did before counts.
    with contextlib.suppress(Exception):
        Harmless(io.BytesIO(content), encoding="latin-1").load()
    folder = tmp_path_factory.getbasetemp()
    file = written(folder, zipped({"data.pkl": content}) if named else content)
    if called:
        assert pickle_problems(file)
