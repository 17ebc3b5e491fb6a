"""Which engine runs the networks: ONNX Runtime where it is installed, PyTorch and OpenCV anywhere else.

Both give the same numbers up to rounding. `pip install 'mofaface[export]'` brings ONNX Runtime.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    import onnx

Engine = Literal["auto", "torch", "onnxruntime"]
ENGINES: tuple[Engine, ...] = ("auto", "torch", "onnxruntime")
VARIABLE = "MOFAFACE_ENGINE"
PACKAGES = ("onnx", "onnxruntime")


@cache
def has_onnxruntime() -> bool:
    """Whether ONNX Runtime and the package that writes its graphs are installed."""
    return all(find_spec(package) is not None for package in PACKAGES)


def uses_onnxruntime(engine: Engine = "auto") -> bool:
    """Whether this choice means ONNX Runtime; the environment variable MOFAFACE_ENGINE decides for "auto".

    Raises ImportError where it was asked for and is not installed, ValueError for an unknown engine.
    """
    wanted = os.environ.get(VARIABLE, "") or engine if engine == "auto" else engine
    if wanted not in ENGINES:
        raise ValueError(f"an engine is one of {', '.join(ENGINES)}; {wanted!r} came")
    if wanted == "onnxruntime":
        for package in PACKAGES:
            import_module(package)
        return True
    return wanted == "auto" and has_onnxruntime()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread: its others would go on waiting for work for milliseconds, and take the cores from
    what comes next."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Session:
    """A graph that ONNX Runtime runs on the CPU; it may be called from several threads at once."""

    def __init__(self, graph: "onnx.ModelProto", threads: int | None = None):
        """`threads` for one call; torch's number if not given."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # errors only: its warnings are about graphs, not for users
        # Between calls its threads sleep: busy ones would take the cores from all else.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, values: np.ndarray) -> Sequence[np.ndarray]:
        """The graph's outputs for its one input."""
        found: Sequence[np.ndarray] = self._session.run(None, {self._input: values})
        return found
