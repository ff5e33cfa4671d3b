"""Event files, read back the way TensorBoard does."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from marwright.training.board import Board
from marwright.training.record import Epoch

pytestmark = pytest.mark.torch


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    """Read all events of a folder, the older files first; leaves out what a later run purged."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found: list[tuple[int, str, float]] = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            # A record: its length, a checksum of that, the record, and a checksum of it.
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            if event.session_log.status == SessionLog.START:
                found = [one for one in found if one[0] < event.step]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def epoch(number: int, loss: float) -> Epoch:
    return Epoch(
        number=number, learning_rate=0.5, train_loss=loss, validation_loss=2 * loss, metric=0.75,
        stages=3,
    )  # fmt: skip


def test_an_epoch_is_five_scalars(tmp_path: Path) -> None:
    board = Board(tmp_path / "runs", "accuracy")
    board.add(epoch(1, 0.25))
    # What a process that is killed at this moment leaves.
    expected = scalars(tmp_path / "runs")
    board.close()
    assert scalars(tmp_path / "runs") == expected
    assert scalars(tmp_path / "runs") == [
        (1, "loss/train", 0.25), (1, "loss/validation", 0.5), (1, "accuracy/validation", 0.75),
        (1, "learning_rate", 0.5), (1, "stages", 3.0),
    ]  # fmt: skip


def test_a_run_that_goes_on_replaces_what_was_not_kept(tmp_path: Path) -> None:
    """A kill after epoch 3 goes back to 2, and tells of 3 again."""
    killed = Board(tmp_path, "r2")
    for number in (1, 2, 3):
        killed.add(epoch(number, 1.0))
    killed.close()
    (old,) = tmp_path.iterdir()
    old.rename(tmp_path / "events.out.tfevents.0")
    resumed = Board(tmp_path, "r2")
    resumed.add(epoch(3, 0.5))
    resumed.close()
    losses = [(step, value) for step, tag, value in scalars(tmp_path) if tag == "loss/train"]
    assert losses == [(1, 1.0), (2, 1.0), (3, 0.5)]
