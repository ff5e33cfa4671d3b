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
from typing import IO, Any, cast

from archive.names import printable
from archive.rules.pickle_names import is_allowed

MOST_BYTES, _MOST_OPCODES = 256 << 20, 4_000_000
_SHOWN, _LONGEST_NAME = 4, 255
# So many opcodes in a row do not come about in weights.
_NO_ACCIDENT = 8
# What torch.save begins with where it writes no zip: five pickles, then storages as they are.
_LEGACY, _LEGACY_PICKLES = 0x1950A86A20F9469CFC6C, 5
ADVICE = "weights need no code: save a state_dict, or use torch.jit.save"
_MARK = object()
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_CALLS = ("REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST")
# No narrower than what pickle takes, C's numbers that end at a NUL included.
_INTEGER = re.compile(rb"\s*[+-]?(0[xob])?[0-9a-f_]*\s*L?\s*(\0.*)?", re.IGNORECASE | re.DOTALL)
_FLOAT = re.compile(rb"\s*[+-]?(\.|\d|inf|nan)[\w.+-]*\s*(\0.*)?", re.IGNORECASE | re.DOTALL)
_STRING = re.compile(rb"\s*(['\"]).*\1\s*", re.DOTALL)
# What modules are called, of which not all are identifiers; text has blanks and brackets.
_MODULE = re.compile(r"[\w.-]+")
_LINES = {"INT": _INTEGER, "LONG": _INTEGER, "FLOAT": _FLOAT, "STRING": _STRING}


class _Stop(Exception):
    """The walk cannot go on: `cut` where nothing more comes, `blind` where there may be more."""

    def __init__(self, why: str, *, cut: bool = False, blind: bool = False) -> None:
        super().__init__(why)
        self.cut, self.blind = cut, blind


class Budget:
    """How much of an archive is walked in all: opcodes are cheap to write and dear to follow."""

    def __init__(self) -> None:
        self.opcodes = _MOST_OPCODES


class PickleWalk:
    """As much of an unpickler as it takes to tell what the pickles of a stream ask for."""

    def __init__(self, file: IO[bytes], start: bytes, budget: Budget, *, named: bool) -> None:
        self._file, self._named, self._marked = file, named, is_marked(start)
        self._budget = budget
        self._read, self._frame, self._steps, self._done = 0, 0, 0, 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._asked: bool = False
        self._called: bool = False
        self._foreign: set[str] = set()
        self._odd: set[str] = set()
        self._stop: _Stop | None = None
        try:
            self._walk()
        except _Stop as stop:
            self._stop = stop

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

    def read(self, size: int) -> bytes:
        """Return so many bytes; `pickletools` reads arguments by this."""
        data = self._counted(self._file.read(min(size, MOST_BYTES + 1)))
        if len(data) < size:
            raise _Stop("it ends too early", cut=True)
        return data

    def _line(self) -> bytes:
        # Without its last byte, a newline or not, as in Python's own unpickler.
        line = self._counted(self._file.readline(MOST_BYTES + 1))
        return (line or self.read(1))[:-1]

    def _counted(self, data: bytes) -> bytes:
        before, self._read = self._read, self._read + len(data)
        if before < self._frame < self._read:
            raise _Stop("it reads beyond a frame, where unpicklers differ", blind=True)
        if self._read > MOST_BYTES:
            raise _Stop(f"it goes on for more than {MOST_BYTES >> 20} MiB", blind=True)
        return data

    def _walk(self) -> None:
        code, most = self.read(1), None
        while code and self._done != most:
            made = self._walk_one(code)
            self._done += 1
            if made == _LEGACY and self._done == 1:
                most = _LEGACY_PICKLES
            code = self._file.read(1)
            self._read += len(code)

    def _walk_one(self, code: bytes) -> Any:
        self._stack, self._memo = [], {}
        while code != b".":
            self._steps += 1
            self._budget.opcodes -= 1
            if self._budget.opcodes < 0:
                raise _Stop(f"more than {_MOST_OPCODES} opcodes to walk", blind=True)
            if not (opcode := _OPCODES.get(code)):
                raise _Stop(f"{code!r} is no opcode")
            try:
                self._step(opcode, self._argument(opcode))
            except ValueError as error:
                raise _Stop(f"{opcode.name} comes with what it cannot have") from error
            self._called = self._called or opcode.name in _CALLS
            code = self.read(1)
        self._leave_frame()
        return self._pop()

    def _leave_frame(self) -> None:
        # Python's unpickler drops what is left of a frame, or reads on, by how the file is read.
        if self._read < self._frame:
            raise _Stop("it leaves a frame unread, where unpicklers differ", blind=True)

    def _argument(self, opcode: pickletools.OpcodeInfo) -> Any:
        # Lines are read here: pickletools refuses some that pickle takes, and what follows with it.
        if opcode.arg is None or opcode.arg.n != pickletools.UP_TO_NEWLINE:
            return opcode.arg and opcode.arg.reader(cast("IO[bytes]", self))
        line = self._line()
        if opcode.name in ("GLOBAL", "INST"):
            return line.decode(), self._line().decode()
        if opcode.name in ("GET", "PUT"):
            return int(line.partition(b"\0")[0])
        if opcode.name in _LINES and not _LINES[opcode.name].fullmatch(line):
            raise ValueError(line)
        return _LEGACY if line == b"%dL" % _LEGACY else None

    def _step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        match opcode.name:
            case "GET" | "BINGET" | "LONG_BINGET":
                if argument not in self._memo:
                    raise _Stop("it gets what was never put")
                self._stack.append(self._memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._top()
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top()
            case "DUP":
                self._stack.append(self._top())
            case "FRAME":
                self._leave_frame()
                self._frame = self._read + argument
            case "STACK_GLOBAL":
                name, module = self._pop(), self._pop()
                self._ask(module, name)
                self._stack.append(None)
            case name:
                if name in ("GLOBAL", "INST"):
                    self._ask(*argument)
                elif name.startswith("EXT"):
                    self._odd.add("calls by a number of copyreg's, which may be anything")
                self._take(opcode)
                self._give(opcode, argument)

    def _ask(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            self._odd.add(f"calls a global whose name is computed; {ADVICE}")
        elif not is_allowed(module, name):
            full = f"{module}.{name}"
            if not (self._named or self._marked or _MODULE.fullmatch(full)):
                raise _Stop("nothing has such a name")
            self._foreign.add(printable(full))
        self._asked = True

    def _take(self, opcode: pickletools.OpcodeInfo) -> None:
        before = opcode.stack_before
        if opcode.name == "POP" and self._stack[-1:] == [_MARK]:
            before = [pickletools.markobject]
        if pickletools.markobject in before:
            while self._drop() is not _MARK:
                pass
            before = before[: before.index(pickletools.markobject)]
        for _ in before:
            self._pop()

    def _give(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        # Long strings are names of nothing; the rest of what a pickle makes is of no interest.
        short = isinstance(argument, str) and len(argument) <= _LONGEST_NAME
        value = argument if short or isinstance(argument, int) else None
        for made in opcode.stack_after:
            self._stack.append(_MARK if made is pickletools.markobject else value)

    def _drop(self) -> Any:
        if not self._stack:
            raise _Stop("it takes from an empty stack")
        return self._stack.pop()

    def _top(self) -> Any:
        self._stack.append(top := self._pop())
        return top

    def _pop(self) -> Any:
        if (top := self._drop()) is _MARK:
            raise _Stop("it takes from beyond a mark")
        return top


def is_marked(start: bytes) -> bool:
    """Whether bytes begin as pickles of protocols 2 to 5 do."""
    return start[:1] == b"\x80" and b"\2" <= start[1:2] <= b"\5"
