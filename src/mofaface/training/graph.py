"""A step recorded once and launched as a whole, a CUDA graph.

A step is several hundred kernels of a few microseconds, which take longer to launch one by one from Python than to run.
A graph repeats on the same memory what was recorded: its inputs are copied to a fixed place, and nothing in it may
depend on Python. Dropout does not: each launch reads seed and offset of torch's generator as they are then, and draws
what the same kernels would have drawn without a graph.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch

# So many iterations run kernel by kernel first: they choose and compile kernels, and make the optimiser's state.
WARMUP = 3


@runtime_checkable
class Recorder(Protocol):
    """How work is recorded."""

    def warm(self, work: Callable[[], None]) -> None:
        """Do the work without recording it."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work, which may or may not do it, and return what does it again."""
        ...


class GraphedStep:
    """A function of one dataclass of tensors, whose work is recorded after some calls and repeated from then on.

    All calls need tensors of the same shapes. Values that the function reads elsewhere must lie in tensors that stay
    where they are.
    """

    def __init__(self, function: Callable[[Any], None], device: torch.device | str, recorder: Recorder):
        self._function, self._device, self._recorder = function, device, recorder
        self._calls = 0
        self._given: Any = None
        self._again: Callable[[], None] | None = None

    def __call__(self, given: Any) -> None:
        """Do the work for these inputs."""
        self._place(given)
        self._calls += 1
        if self._calls <= WARMUP:
            self._recorder.warm(self._work)
            return
        if self._again is None:
            self._again = self._recorder.record(self._work)
        self._again()

    def _work(self) -> None:
        self._function(self._given)

    def _place(self, given: Any) -> None:
        """Copy the inputs to where the recorded work reads them."""
        if self._given is None:
            places = {
                name: torch.empty_like(tensor, device=self._device) for name, tensor in vars(given).items()
            }
            self._given = type(given)(**places)
        for name, tensor in vars(given).items():
            place = getattr(self._given, name)
            if place.shape != tensor.shape:
                raise ValueError(
                    f"a recorded step takes {name} of {tuple(place.shape)}, got {tuple(tensor.shape)}; "
                    "make a new one for other shapes"
                )
            place.copy_(tensor, non_blocking=True)


class CudaRecorder:
    """Recording on a GPU."""

    def __init__(self) -> None:
        # Autograd goes on in the stream in which a parameter was first used: warm up where it will be recorded.
        self._stream = torch.cuda.Stream()

    def warm(self, work: Callable[[], None]) -> None:
        """Do the work in the stream in which it will be recorded."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            work()
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work without doing it and return what launches it.

        Raises RuntimeError for work that waits for the device.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                work()
        except RuntimeError as error:
            raise RuntimeError(
                f"the training step could not be recorded as a CUDA graph ({error}); train with --no-cuda-graph"
            ) from error
        return graph.replay
