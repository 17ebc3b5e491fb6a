"""Writing to a disk that may be full: nothing is left half-written, and a run waits until there is room."""

import errno
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

log = logging.getLogger("mofaface")
T = TypeVar("T")
# No room on the disk, or none left of what the user may use of it; the last is Windows' own number.
FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_TEXTS = tuple(f"(os error {number})" for number in (*FULL, 112))
RETRY_SECONDS = 10.0
# How soon Ctrl-C is noticed while waiting.
LOOK_SECONDS = 0.2


class Patience:
    """Tries what failed for want of room again and again, until it is done or somebody presses Ctrl-C."""

    def __init__(self, stopped: Callable[[], bool]):
        self._stopped = stopped

    def __call__(self, path: Path, write: Callable[[], T]) -> T:
        """What `write` returns; `path` is what it writes.

        Raises KeyboardInterrupt when stopped while waiting, and whatever else is wrong with the disk at once.
        """
        told = False
        while True:
            try:
                result = write()
            except OSError as error:
                if not is_full(error):
                    raise
                if not told:
                    _tell(path)
                told = True
                self._wait()
                continue
            if told:
                log.warning("%s is written; the run goes on", path)
            return result

    def _wait(self) -> None:
        until = time.monotonic() + RETRY_SECONDS
        while True:
            if self._stopped():
                log.warning("the run ends while the disk is full; --resume goes on from its last checkpoint")
                raise KeyboardInterrupt
            if time.monotonic() >= until:
                return
            time.sleep(min(LOOK_SECONDS, RETRY_SECONDS))


ENDLESS = Patience(lambda: False)
"""Waits however long it takes."""


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that there is no room."""
    while error is not None:
        # safetensors' own errors hold the system's number in their text only.
        if getattr(error, "errno", None) in FULL or any(text in str(error) for text in FULL_TEXTS):
            return True
        error = error.__cause__
    return False


def free_space(path: Path) -> int:
    """Free bytes of the disk that a path is on, or will be."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def _tell(path: Path) -> None:
    log.warning(
        "the disk is full: %s could not be written, %.1f MB are free there. The run waits and tries again every %d "
        "seconds: free some space and it goes on by itself, or press Ctrl-C to end it; its last checkpoint is kept",
        path, free_space(path) / 1e6, RETRY_SECONDS,
    )  # fmt: skip


def append_whole(path: Path, data: bytes) -> None:
    """Append to a file all or nothing; raises OSError."""
    # Unbuffered, because a buffer would be written once more when the file is closed.
    with open(path, "ab", buffering=0) as file:
        before = file.seek(0, 2)
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(before)
            raise
