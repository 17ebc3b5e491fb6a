"""Several processes that train one network, on one machine or many: each learns from its part of every batch.

`torchrun` starts them. All hold the same network and take the same step, because what they learnt is averaged before it.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

# The others wait while the first one validates, or stands before a full disk over a weekend.
LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """How many processes train, and which one this is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that tells, validates and writes."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """The places of a batch that this process learns from.

        Raises ValueError where processes would learn from parts of different size.
        """
        if batch % self.count:
            raise ValueError(
                f"a batch of {batch} photographs cannot be shared evenly by {self.count} processes; "
                f"give a --batch that is a multiple of {self.count}, or start fewer processes"
            )
        size = batch // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def average(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their means over the processes, which are the same bits in all of them."""

        def mean(joined: Tensor) -> None:
            dist.all_reduce(joined)
            joined /= self.count

        if self.count > 1:
            _together(tensors, mean)

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the first process."""
        if self.count > 1:
            _together(tensors, lambda joined: dist.broadcast(joined, 0))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def check_same(self, what: str, value: str) -> None:
        """Raise ValueError unless a text is the same in all processes."""
        if self.count == 1:
            return
        digest = int.from_bytes(hashlib.sha256(value.encode()).digest()[:7], "big")
        ends = torch.tensor([digest, -digest])
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        if ends[0] != -ends[1]:
            raise ValueError(
                f"{what} differs between the processes; give every machine the same command and the same files"
            )


@torch.no_grad()
def _together(tensors: Iterable[Tensor], work: Callable[[Tensor], None]) -> None:
    """Do work in place on many tensors at once: one message for each type in place of hundreds."""
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    for group in groups.values():
        joined = torch.cat([tensor.flatten() for tensor in group])
        work(joined)
        parts = joined.split([tensor.numel() for tensor in group])
        for tensor, part in zip(group, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def is_first() -> bool:
    """Whether this process tells what a command did: the only one, or the first of those that torchrun started."""
    return not _launched() or os.environ["RANK"] == "0"


def _launched() -> bool:
    """Whether torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """The processes that torchrun started, joined; without it this one alone."""
    if not _launched() or os.environ["WORLD_SIZE"] == "1":
        yield Processes()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise ValueError(
                f"this machine has {gpus} GPUs, for one process each; give --nproc-per-node {gpus}"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    processes = Processes(dist.get_rank(), dist.get_world_size())
    if not processes.first:
        # What happens to all is told once; a crop that cannot be decoded happens to the process that needs it.
        logging.getLogger("mofaface").setLevel(logging.ERROR)
        logging.getLogger("mofaface.crops").setLevel(logging.WARNING)
    try:
        yield processes
        # They leave together: the first one is the last to finish its work.
        dist.barrier()
    finally:
        dist.destroy_process_group()
