"""TensorBoard's file of curves and pictures, without the thread of torch's SummaryWriter, which dies of a full disk."""

import io
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from mofaface.training.disk import append_whole


class Curves:
    """Events of one run, each written before the next is made; raises OSError."""

    def __init__(self, folder: Path):
        # TensorBoard finds files by the word "tfevents" and reads them by their names' order.
        name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name

    def forget_after(self, iteration: int) -> None:
        """Let TensorBoard drop what earlier files of the folder say of later iterations."""
        self._write(iteration + 1, session_log=SessionLog(status=SessionLog.START))

    def line(self, iteration: int, values: dict[str, float]) -> None:
        """A point for each curve."""
        points = [summary.scalar(name, value).value[0] for name, value in values.items()]
        self._write(iteration, summary=Summary(value=points))

    def picture(self, iteration: int, name: str, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """A picture under its name."""
        self._write(iteration, summary=summary.image(name, picture, dataformats="HWC"))

    def _write(self, iteration: int, **what: Any) -> None:
        records = io.BytesIO()
        writer = RecordWriter(records)
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        writer.write(Event(wall_time=time.time(), step=iteration, **what).SerializeToString())
        append_whole(self.path, records.getvalue())
