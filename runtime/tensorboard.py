"""A role's figures as TensorBoard files, from the events it reports.

    tensorboard --logdir FOLDER

Each event names its own (`Event.figures`). What cannot be written costs the figures, never a round.
"""

import logging
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

from tensorboard.compat.proto.event_pb2 import Event as Record
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from runtime.events import Event

_LOG: Final = logging.getLogger(__name__)
_VERSION: Final = "brain.Event:2"  # the first record of a file says which format follows


class TensorBoard:
    """Writes the figures of one role; each process has a file of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: RecordWriter | None = None
        self._is_off = False

    def report(self, event: Event) -> None:
        """Write the figures of an event. After the first failure, which is logged, no more."""
        figures = event.figures()
        if self._is_off or not figures:
            return
        try:
            for tag, (step, value) in figures.items():
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                self._write(step=step, summary=summary)
        except Exception as error:  # of a full disk, or of whatever another version of it raises
            self._is_off = True
            _LOG.warning("no more figures in %s: %s: %s", self._folder, type(error).__name__, error)

    def _write(self, **fields: Any) -> None:
        # Only now: a command that reports no figure leaves no empty file behind.
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Two processes of a role may begin in the same second.
            name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
            self._writer = RecordWriter((self._folder / name).open("xb"))
            self._write(file_version=_VERSION)
        self._writer.write(Record(wall_time=time.time(), **fields).SerializeToString())
        self._writer.flush()
