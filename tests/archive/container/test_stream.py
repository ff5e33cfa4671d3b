"""Bytes that are read once reach everybody who wants them, whole and in order."""

from __future__ import annotations

import io
import os
import threading
import time

import pytest

from marwright.archive.container.stream import CHUNK, Buffer, Sink, fan_out

SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 4 * CHUNK, 9 * CHUNK + 5]


class Short(io.BytesIO):
    """A file that gives less than it is asked for, as a pipe does."""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return super().readinto(buffer[: max(1, len(buffer) // 3)])


@pytest.mark.parametrize("kind", [io.BytesIO, Short])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("here", [True, False])
def test_every_sink_gets_all_bytes_in_order(
    kind: type[io.BytesIO], size: int, count: int, here: bool
) -> None:
    content = os.urandom(size)
    sinks, own = [bytearray() for _ in range(count)], bytearray()
    taken = fan_out(kind(content), *(s.extend for s in sinks), here=own.extend if here else None)
    assert taken == size
    assert all(sink == content for sink in sinks)
    assert own == (content if here else b"")


class Full(Exception):
    """What a sink raises that can take no more."""


@pytest.mark.parametrize("size", [5, CHUNK, 20 * CHUNK])
@pytest.mark.parametrize("here", [True, False])
def test_an_error_of_a_sink_is_raised_and_stops_the_others(size: int, here: bool) -> None:
    taken = bytearray()

    def full(_: Buffer) -> None:
        raise Full

    source = io.BytesIO(bytes(size))
    with pytest.raises(Full):
        if here:
            fan_out(source, taken.extend, here=full)
        else:
            fan_out(source, full, here=taken.extend)
    # It goes no further than the buffers reach.
    assert len(taken) <= min(size, 5 * CHUNK)
    assert source.tell() <= min(size, 5 * CHUNK)


@pytest.mark.parametrize("at", [0, 2, 8])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_at_any_time_is_raised(at: int, place: int) -> None:
    taken = bytearray()

    def full(chunk: Buffer) -> None:
        if len(taken) >= at * CHUNK:
            raise Full
        taken.extend(chunk)

    sinks: list[Sink] = [bytearray().extend, bytearray().extend]
    sinks.insert(place, full)
    *apart, here = sinks
    threads = threading.active_count()
    with pytest.raises(Full):
        fan_out(io.BytesIO(bytes(9 * CHUNK)), *apart, here=here)
    assert len(taken) == at * CHUNK
    assert threading.active_count() == threads


def test_a_slow_sink_gets_every_byte_as_it_was_read() -> None:
    content = os.urandom(12 * CHUNK)
    slow = bytearray()

    def late(chunk: Buffer) -> None:
        time.sleep(0.01)
        slow.extend(chunk)

    fan_out(io.BytesIO(content), late, here=bytearray().extend)
    assert slow == content


def test_an_error_of_the_source_is_raised() -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            if self.tell() >= 2 * CHUNK:
                raise OSError("the disk is gone")
            return super().readinto(buffer)

    taken = bytearray()
    with pytest.raises(OSError, match="the disk is gone"):
        fan_out(Broken(bytes(3 * CHUNK)), here=taken.extend)
    assert len(taken) == 2 * CHUNK


def test_sinks_work_side_by_side() -> None:
    together = threading.Barrier(2, timeout=20)
    # Would break, if one waited for the other.
    fan_out(io.BytesIO(bytes(CHUNK)), lambda _: together.wait(), here=lambda _: together.wait())
