"""A run that is killed as by `kill -9` in the middle of writing a file: python -m training.killed_run FILE TIME ARGUMENTS.

FILE is "log" or "checkpoint", TIME says at which of its writings, ARGUMENTS are those of `mofaface train`.
"""

import os
import signal
import sys
from pathlib import Path

import mofaface.training.monitor
import mofaface.weights
from mofaface.cli import main


def half_written(write, wanted, time):
    """`write`, which leaves half of the file and ends the process when `wanted` takes its path for the `time`-th time."""
    left = int(time)

    def written(path, data):
        nonlocal left
        left -= wanted(path)
        if not left:
            with open(path, "ab") as file:
                file.write(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, data)

    return written


def main_killed(file, time, *arguments):
    if file == "log":
        append = mofaface.training.monitor.append_whole
        mofaface.training.monitor.append_whole = half_written(append, lambda path: True, time)
    else:
        from safetensors.torch import save

        save_bytes = half_written(Path.write_bytes, lambda path: f".{file}." in path.name, time)
        mofaface.weights.save_file = lambda tensors, path, texts: save_bytes(path, save(tensors, texts))
    main(["train", *arguments])


if __name__ == "__main__":
    main_killed(*sys.argv[1:])
