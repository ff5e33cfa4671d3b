"""A pickle's opcodes, walked without running them: which names it would import and call.

A pickle is a program: one opcode imports a name, another calls it. So the opcodes are walked, with
as much of stack and memo as tells which names they ask for, and each name must be on the list.
Calls and states need no look of their own: there is nothing but listed names to call.

Bytes that make no sense stop an unpickler, but only after it has run all that came before them.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, cast

from marwright.archive.container.budget import Budget, Exhausted
from marwright.archive.names import printable
from marwright.archive.rules.pickle_names import is_allowed
from marwright.archive.rules.pickle_stream import LONGEST, Stop, Stream, text_of

_SHOWN, _REMEMBERED = 4, 1000
# So many opcodes in a row do not come about in weights.
_NO_ACCIDENT = 8
# What torch.save begins with where it writes no zip: five pickles, then storages as they are.
_LEGACY, _LEGACY_PICKLES = 0x1950A86A20F9469CFC6C, 5
ADVICE = "weights need no code: save a state_dict, or use torch.jit.save"
_MARK = object()
_CALLS = frozenset(("REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"))
# What modules are called, of which not all are identifiers; text has blanks and brackets.
_MODULE = re.compile(r"[\w.-]+")


class _Effect(NamedTuple):
    """What an opcode does to the stack: takes so many, before them all to a mark, and gives."""

    takes: int
    to_mark: bool
    gives: tuple[bool, ...]


def _effect(opcode: pickletools.OpcodeInfo) -> _Effect:
    before, mark = opcode.stack_before, pickletools.markobject
    to_mark = mark in before
    takes = before.index(mark) if to_mark else len(before)
    return _Effect(takes, to_mark, tuple(made is mark for made in opcode.stack_after))


_EFFECTS = {opcode.name: _effect(opcode) for opcode in pickletools.opcodes}


class PickleWalk:
    """As much of an unpickler as it takes to tell what the pickles of a stream ask for.

    `named` says that the file is called a pickle; `start` is how it begins.
    """

    def __init__(self, file: IO[bytes], start: bytes, budget: Budget, *, named: bool) -> None:
        self._stream, self._budget = Stream(file, budget), budget
        self._named, self._marked = named, is_marked(start)
        self._steps, self._done = 0, 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._asked: bool = False
        self._called: bool = False
        self._foreign: set[str] = set()
        self._odd: set[str] = set()
        self._stop: Stop | None = None
        try:
            self._walk()
        except Stop as stop:
            self._stop = stop
        except Exhausted as ended:
            self._stop = Stop(str(ended), blind=True)

    def is_pickle(self) -> bool:
        """Whether this is one at all: weights and text may begin with an opcode or two."""
        if self._named or (self._stop and self._stop.blind):
            return True
        ran = self._called or self._done > 0
        if self._marked:
            cut = self._stop is not None and self._stop.cut and self._steps > _NO_ACCIDENT
            return ran or self._asked or cut
        return ran and (self._asked or bool(self._odd))

    def problems(self) -> Iterator[str]:
        """Say what is wrong with it, each kind of thing in a line."""
        yield from self._odd
        if names := sorted(self._foreign):
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"calls {', '.join(names[:_SHOWN])}{more} when it is loaded; {ADVICE}"
        if self._stop:
            yield f"cannot be read to its end as a pickle: {self._stop}"

    def _walk(self) -> None:
        most = None
        # One pickle at least, and it is cut where there is nothing.
        while self._done != most and not (self._done and self._stream.at_end()):
            made = self._walk_one()
            self._done += 1
            if made == _LEGACY and self._done == 1:
                most = _LEGACY_PICKLES

    def _walk_one(self) -> Any:
        self._stack, self._memo = [], {}
        stream = self._stream
        stream.begin()
        try:
            for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", stream)):
                self._steps += 1
                if self._steps > self._budget.opcodes:
                    raise Stop(f"more than {self._budget.opcodes} opcodes to walk", blind=True)
                self._step(opcode.name, argument)
                stream.begin()
        except ValueError as error:
            name = stream.opcode()
            why = f"{name} comes with what it cannot have" if name else stream.unknown()
            raise Stop(why) from error
        stream.leave_frame()
        return self._stack[-1]

    def _step(self, name: str, argument: Any) -> None:
        match name:
            case "GET" | "BINGET" | "LONG_BINGET":
                key = self._key(name, argument)
                if key not in self._memo:
                    raise Stop("it gets what was never put")
                self._stack.append(self._memo[key])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                key = self._key(name, argument)
                self._memo[key] = self._top()
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top()
            case "DUP":
                self._stack.append(self._top())
            case "FRAME":
                self._stream.enter_frame(argument)
            case "STACK_GLOBAL":
                local, module = self._pop(), self._pop()
                self._ask(module, local)
                self._stack.append(None)
            case "STOP":
                self._top()
            case _:
                self._name(name)
                self._take(name)
                self._give(name, argument)
                # Only what came to its end was called.
                self._called = self._called or name in _CALLS

    def _key(self, name: str, argument: int) -> int:
        if name not in ("GET", "PUT"):
            return argument
        return int(self._stream.lines[0].partition(b"\0")[0])

    def _name(self, name: str) -> None:
        """Look at the name that an opcode brings itself."""
        if name in ("GLOBAL", "INST"):
            module, local = self._stream.lines
            # Unpicklers stop at what is no UTF-8, however long.
            self._ask(module.decode(), local.decode())
        elif name.startswith("EXT"):
            self._odd.add("calls by a number of copyreg's, which may be anything")

    def _ask(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            self._odd.add(f"calls a global whose name is computed; {ADVICE}")
        elif not is_allowed(module, name):
            full = f"{module}.{name}"
            if not (self._named or self._marked or _MODULE.fullmatch(full)):
                raise Stop("nothing has such a name")
            if len(self._foreign) < _REMEMBERED:
                self._foreign.add(printable(full))
        self._asked = True

    def _take(self, name: str) -> None:
        takes, to_mark, _ = _EFFECTS[name]
        if name == "POP" and self._stack[-1:] == [_MARK]:
            takes, to_mark = 0, True
        if to_mark:
            while self._drop() is not _MARK:
                pass
        for _ in range(takes):
            self._pop()

    def _give(self, name: str, argument: Any) -> None:
        value: str | int | None = None
        if name in ("STRING", "UNICODE"):
            value = text_of(self._stream.lines[0], name == "UNICODE")
        elif name == "LONG":
            value = _LEGACY if self._stream.lines[0] == b"%dL" % _LEGACY else None
        elif not self._stream.lines and isinstance(argument, (str, int)):
            # Of what comes as a line, genops saw another one.
            value = argument
        # Long strings are names of nothing; the rest of what a pickle makes is of no interest.
        if isinstance(value, str) and len(value) > LONGEST:
            value = None
        for is_mark in _EFFECTS[name].gives:
            self._stack.append(_MARK if is_mark else value)

    def _drop(self) -> Any:
        if not self._stack:
            raise Stop("it takes from an empty stack")
        return self._stack.pop()

    def _top(self) -> Any:
        self._stack.append(top := self._pop())
        return top

    def _pop(self) -> Any:
        if (top := self._drop()) is _MARK:
            raise Stop("it takes from beyond a mark")
        return top


def is_marked(start: bytes) -> bool:
    """Whether bytes begin as pickles of protocols 2 to 5 do."""
    return start[:1] == b"\x80" and b"\2" <= start[1:2] <= b"\5"
