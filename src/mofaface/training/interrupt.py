"""Ctrl-C between iterations: what is interrupted inside a step cannot be resumed exactly."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def gentle_interrupt() -> Iterator[Callable[[], bool]]:
    """A question whether Ctrl-C was pressed; a second press interrupts at once.

    Outside the main thread, where Python delivers no signals, the answer is always no.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def press(number: int, frame: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
