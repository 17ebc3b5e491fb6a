"""What the pool's tests have done in other processes, which import this file alone."""

import os
import time
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest
import torch

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def square(x: int) -> int:
    time.sleep(0.02 * (x % 3))  # later items are ready before earlier ones
    return x * x


def picky(x: int) -> int:
    if x == 5:
        raise ValueError("five came; give another number")
    return x


def deadly(x: int) -> int:
    if x == 5:
        os._exit(1)
    return x


def deadly_at_first(item: tuple[int, str]) -> int:
    x, marker = item
    if x == 5 and not Path(marker).exists():
        Path(marker).touch()
        os._exit(1)
    return x


def exists(name: str) -> tuple[bool, int, int]:
    return Path(name).is_file(), torch.get_num_threads(), cv2.getNumThreads()
