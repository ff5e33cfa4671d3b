"""Learning curves as TensorBoard's event files, for who wants to watch them there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from marwright.training.record import Epoch


class Board:
    """Writes one scalar a curve and epoch into a folder of event files, from the first epoch on."""

    def __init__(self, folder: Path, metric: str) -> None:
        self._folder, self._metric = folder, metric
        self._file: Any = None

    def add(self, epoch: Epoch) -> None:
        """Add an epoch, on disk at once. What an earlier run told from it on no longer counts."""
        # It takes seconds to import, of which only those know who asked for it. Its usual writer
        # has a thread and a queue, and would lose with a process what that has told last.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = EventsWriter(str(self._folder / "events"))
            starts = SessionLog(status=SessionLog.START)
            self._file.write_event(Event(step=epoch.number, session_log=starts))
        curves = {
            "loss/train": epoch.train_loss,
            "loss/validation": epoch.validation_loss,
            f"{self._metric}/validation": epoch.metric,
            "learning_rate": epoch.learning_rate,
            "stages": epoch.stages,
        }
        values = [Summary.Value(tag=name, simple_value=value) for name, value in curves.items()]
        self._file.write_event(
            Event(wall_time=time.time(), step=epoch.number, summary=Summary(value=values))
        )
        self._file.flush()

    def close(self) -> None:
        """Close the file, if an epoch has opened one."""
        if self._file is not None:
            self._file.close()
