"""What checking one archive may cost: one value for each archive, handed to all that reads it."""

from __future__ import annotations

import time

from archive.container import limits
from archive.container.stream import Source
from archive.container.types import Malformed

# Processor time, so that a busy machine refuses nothing that an idle one accepts.
SECONDS, BYTES_A_SECOND = 10, 100_000_000
# A member costs some 100 µs: to look up, to unpack and to scan.
MEMBERS, BYTES_A_MEMBER = 20_000, 10_000
# An opcode costs 1.5 µs at most, and each is a byte at least.
OPCODES, BYTES_AN_OPCODE = 4_000_000, 200


class Exhausted(Malformed):
    """The budget has ended; the message says which limit it was."""


class Budget:
    """What may be spent on an archive of `size` bytes, or on one member of the archive `whole`.

    All limits grow with the size. A member has its own share, so that it cannot use up another
    member's; the time, and what is unpacked, count for the whole archive too. Each method raises
    `Exhausted` when its limit is passed.
    """

    def __init__(self, size: int, whole: Budget | None = None) -> None:
        self._grow(size)
        self._whole = whole
        self._started = time.process_time()
        self._members, self._plain = 0, 0

    def _grow(self, size: int) -> None:
        self._size = size
        self.seconds = SECONDS + size / BYTES_A_SECOND
        self.members = MEMBERS + size // BYTES_A_MEMBER
        self.plain = limits.most_plain(size)
        self.opcodes = OPCODES + size // BYTES_AN_OPCODE

    def narrow(self, size: int) -> None:
        """Go by the bytes of the members, now that they are known, where they are fewer.

        `pack` knows them before it writes anything. Compressed bytes are fewer than those.
        """
        if size < self._size:
            self._grow(size)
            self.enter(0)

    def share(self, size: int) -> Budget:
        """Return the budget of one member of `size` bytes."""
        return Budget(size, self)

    def is_spent(self) -> bool:
        """Whether the time is over."""
        return time.process_time() - self._started > self.seconds

    def check(self) -> None:
        """Look at the clock."""
        if self._whole is not None:
            self._whole.check()
        elif self.is_spent():
            raise Exhausted(f"checking it takes more than {self.seconds:.0f} s of processor time")

    def enter(self, count: int = 1) -> None:
        """Count members: of the archive, or of archives inside of it."""
        self._members += count
        if self._members > self.members:
            raise Exhausted(f"more than {self.members} members are refused")
        if self._whole is not None:
            self.check()

    def unpack(self, count: int) -> None:
        """Count bytes that are read from inside of an archive."""
        self._plain += count
        if self._plain > self.plain:
            raise Exhausted(f"unpacks to more than {self.plain} bytes")
        if self._whole is not None:
            self._whole.unpack(count)
        else:
            self.check()


class Metered:
    """A source whose budget's clock is looked at with each piece."""

    def __init__(self, source: Source, budget: Budget) -> None:
        self._source, self._budget = source, budget

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read into the buffer; returns how many bytes, 0 at the end."""
        self._budget.check()
        return self._source.readinto(buffer)
