"""What Python's own unpicklers ask for, the walk has named, whatever the opcodes."""

from __future__ import annotations

import contextlib
import io
import pickle
import pickletools
import random
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marwright.archive.container.budget import Budget
from marwright.archive.names import printable
from marwright.archive.rules.pickle_names import is_allowed
from marwright.archive.rules.pickle_walk import PickleWalk
from tests.archive.rules.pickled import Foreign

UNPICKLERS = (pickle.Unpickler, pickle._Unpickler)
ENCODINGS = ("ASCII", "latin-1", "bytes")
WORDS = ["os", "posix", "system", "getcwd", "collections", "OrderedDict", "é", "a b", "", "\x00"]


class Inert:
    """What every name stands for: it takes anything, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return object.__new__(cls)

    def __call__(self, *_: Any) -> Inert:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


def asked_for(content: bytes, kind: type[pickle.Unpickler], encoding: str) -> set[tuple[str, str]]:
    """Return the modules and names that an unpickler asks for in all pickles of a stream."""
    asked: set[tuple[str, str]] = set()

    class Recording(kind):  # type: ignore[misc, valid-type]
        def find_class(self, module: str, name: str) -> Any:
            asked.add((module, name))
            return Inert

        def persistent_load(self, pid: Any) -> Any:
            return pid

    file = io.BytesIO(content)
    with contextlib.suppress(Exception):
        while file.tell() < len(content):
            Recording(file, encoding=encoding, buffers=[b"a"] * 9).load()
    return asked


def check(content: bytes) -> None:
    """Hold the walk against both unpicklers."""
    walk = PickleWalk(io.BytesIO(content), content[:4], Budget(len(content)), named=True)
    lines = list(walk.problems())
    assert all(isinstance(line, str) for line in lines)
    for kind in UNPICKLERS:
        for encoding in ENCODINGS:
            for module, name in asked_for(content, kind, encoding):
                full = printable(f"{module}.{name}")
                known = is_allowed(module, name) or full in walk._foreign or bool(walk._odd)
                # What it says that it could not see is refused as well.
                assert known or (walk._stop and walk._stop.blind), (module, name, lines)


def argument(opcode: pickletools.OpcodeInfo, chance: random.Random) -> bytes:
    """Return bytes that can follow an opcode, most of them as they should."""
    word = chance.choice(WORDS).encode()
    number = chance.choice([0, 1, 2, 3, 7])
    line = chance.choice(
        [b"%d" % number, b"0x1", b" 1 ", b"1\0x", b"'%b'" % word, b"1L", word, b"."]
    )
    if opcode.arg is None:
        return b""
    match opcode.arg.name:
        case "uint1":
            return bytes([number])
        case "uint2":
            return struct.pack("<H", number)
        case "int4" | "uint4":
            return struct.pack("<I", number)
        case "uint8":
            return struct.pack("<Q", chance.choice([number, 20]))
        case "stringnl_noescape_pair":
            return word + b"\n" + chance.choice(WORDS).encode() + b"\n"
        case "float8":
            return bytes(8)
        case kind if kind.endswith("nl") or "nl_" in kind or "decimalnl" in kind:
            return line + b"\n"
        case "string1" | "unicodestring1" | "bytes1" | "long1":
            return bytes([len(word)]) + word
        case "string4" | "unicodestring4" | "bytes4" | "long4":
            return struct.pack("<I", len(word)) + word
        case _:
            return struct.pack("<Q", len(word)) + word


def stream(seed: int, length: int) -> bytes:
    """Return so many opcodes: those that name things come often, and text before them."""
    chance = random.Random(seed)
    every = list(pickletools.opcodes)
    telling = [each for each in every if each.name in (
        "STACK_GLOBAL", "GLOBAL", "INST", "REDUCE", "BUILD", "MEMOIZE", "BINGET", "BINPUT", "GET",
        "PUT", "POP", "DUP", "MARK", "SHORT_BINUNICODE", "UNICODE", "STRING", "SHORT_BINSTRING",
        "BINUNICODE8", "EMPTY_TUPLE", "TUPLE2", "STOP")]  # fmt: skip
    parts = [chance.choice([b"", b"\x80\x02", b"\x80\x04"])]
    # Something to take, and something under each number, so that most of it runs.
    for number in (0, 1, 2, 3, 7):
        word = chance.choice(["posix", "system", "os", "getcwd"]).encode()
        parts += [b"X" + struct.pack("<I", len(word)) + word, b"q" + bytes([number])]
    for _ in range(length):
        opcode = chance.choice(telling if chance.random() < 0.8 else every)
        if opcode.name == "STACK_GLOBAL" and chance.random() < 0.7:
            parts += [b"\x8c\5posix", b"\x8c\6system"]
        parts.append(opcode.code.encode("latin-1") + argument(opcode, chance))
    return b"".join(parts)


@settings(max_examples=1500, deadline=None)
@given(seed=st.integers(0, 1 << 40), length=st.integers(1, 40))
def test_walk_names_what_an_unpickler_asks_for(seed: int, length: int) -> None:
    check(stream(seed, length))


REAL = [pickle.dumps([Foreign(), {"a": Foreign()}, (1, "b", b"c", 2.5)], n) for n in range(6)]


@settings(max_examples=1000, deadline=None)
@given(
    which=st.integers(0, 5),
    places=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 4))),
)
def test_walk_names_what_a_damaged_pickle_asks_for(
    which: int, places: list[tuple[float, bytes, int]]
) -> None:
    content = REAL[which] * 2
    for place, inserted, removed in places:
        at = int(place * len(content))
        content = content[:at] + inserted + content[at + removed :]
    check(content)


@settings(max_examples=500, deadline=None)
@given(content=st.binary(max_size=200))
@example(content=b"S'" + b" " * 99 + b"\n.")
@example(content=b"\x80\x04\x95" + b"\xff" * 8 + b".")
@example(content=b"X" + b"\xff" * 4 + b".")
@example(content=b"\x8a\xff.")
def test_bytes_of_any_kind_raise_nothing(content: bytes) -> None:
    check(content)


def test_the_generator_makes_what_it_should() -> None:
    """Otherwise the tests above would compare nothing with nothing."""
    asked = [asked_for(stream(seed, 20), pickle.Unpickler, "latin-1") for seed in range(400)]
    assert sum(map(bool, asked)) > 60
    assert ("posix", "system") in set[tuple[str, str]]().union(*asked)


LONG_LINES = {
    "blanks before a number": b"I" + b" " * 200_000 + b"x\n",
    "blanks behind a number": b"I1" + b" " * 200_000 + b"x\n",
    "digits and a nul": b"F1" + b" " * 200_000 + b"\0" + b" " * 200_000 + b"!",
    "a quote that does not end": b"S'" + b" '" * 100_000 + b"x\n",
    "signs": b"L" + b"+-" * 100_000 + b"\n",
    "underscores": b"L0x" + b"_" * 200_000 + b" L \0\n",
    "digits": b"L" + b"9" * 200_000 + b"L\n",
    "a key of the memo": b"Ng" + b"9" * 200_000 + b"\n",
    "a name": b"c" + b"a" * 200_000 + b"\n" + b"b" * 200_000 + b"\n",
    "escapes": b"V" + b"\\u0041" * 50_000 + b"\n",
}


@pytest.mark.parametrize("content", LONG_LINES.values(), ids=LONG_LINES)
def test_long_lines_cost_what_they_are_long(content: bytes) -> None:
    """The work is counted where it would grow: each byte is given out once."""
    import time

    started = time.process_time()
    for named in (True, False):
        walk = PickleWalk(io.BytesIO(content), content[:4], Budget(len(content)), named=named)
        list(walk.problems())
    assert time.process_time() - started < 1


def test_a_cubic_expression_of_606_bytes_is_not_tried() -> None:
    content = b"F1" + b" " * 300 + b"\0" * 2 + b" " * 300 + b"!\n"
    walk = PickleWalk(io.BytesIO(content), content[:4], Budget(len(content)), named=True)
    assert list(walk.problems())
