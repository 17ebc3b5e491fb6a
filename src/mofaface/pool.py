"""One function over many items in several processes, of this machine or of a Ray cluster; results in the items' order.

No other module knows Ray. Where RAY_ADDRESS is set the cluster there is used, otherwise one is started on this machine.
"""

import contextlib
import logging
import multiprocessing
import os
import platform
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import cv2
import torch

T = TypeVar("T")
R = TypeVar("R")
Where = Literal["local", "ray"]
# Starts a chunk of items, and gives what waits for its results.
Begin = Callable[[list[T]], Callable[[], Iterable[R]]]
CHUNK = 4
# Under way at once for each process, so that none waits for a chunk that is slower than the others.
CHUNKS_PER_WORKER = 3
# Results stay in Ray's memory until they are fetched: a few chunks of crops for each process.
RAY_MEMORY = 256 * 1024**2

log = logging.getLogger("mofaface")


class PoolError(RuntimeError):
    """Processes that cannot be had or were lost; the message says what came and what to do."""


class InOrder(Generic[T, R]):
    """Results in the order of their items, while a bounded number of chunks is under way."""

    def __init__(self, begin: Begin[T, R], items: Iterable[T], limit: int, size: int = CHUNK):
        """At most `limit` chunks of `size` items are under way."""
        self._begin, self._items, self._limit, self._size = begin, iter(items), limit, size
        self._under_way: deque[Callable[[], Iterable[R]]] = deque()
        self._ready: Iterator[R] = iter(())

    def __iter__(self) -> "InOrder[T, R]":
        return self

    def __next__(self) -> R:
        while True:
            for result in self._ready:
                return result
            while len(self._under_way) < self._limit and (chunk := list(islice(self._items, self._size))):
                self._under_way.append(self._begin(chunk))
            if not self._under_way:
                raise StopIteration
            self._ready = iter(self._under_way[0]())  # an interrupt here leaves the chunk where it is
            self._under_way.popleft()

    def rest(self) -> list[R]:
        """The results of what is under way; nothing more begins."""
        self._items = iter(())
        return list(self)


@contextlib.contextmanager
def mapped(
    where: Where,
    workers: int,
    function: Callable[[T], R],
    items: Iterable[T],
    lost: Callable[[T, str], R],
    shared: Path,
) -> Iterator[InOrder[T, R]]:
    """The results of `function`, which can be pickled, from `workers` processes; a cluster has its own number.

    An item on which processes of Ray die again and again gets the result `lost(item, reason)`. `shared` is a folder that
    every machine must see. Raises PoolError, and ImportError where Ray is not installed.
    """
    if where == "ray":
        with ray_cluster(workers) as ray:
            cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
            machines = sum(node["Alive"] for node in ray.nodes())
            log.info("Ray: cores %d, machines %d", cores, machines)
            yield InOrder(_OnRay(ray, function, lost, shared).begin, items, CHUNKS_PER_WORKER * cores)
    elif workers == 1:
        yield InOrder(lambda chunk: lambda: map(function, chunk), items, 1, 1)
    else:
        with _processes(workers, function) as begin:
            yield InOrder(begin, items, CHUNKS_PER_WORKER * workers)


def available_cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _processes(workers: int, function: Callable[[T], R]) -> Iterator[Begin[T, R]]:
    # "spawn" is the one way to start processes that works on every system and beside threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:

        def begin(chunk: list[T]) -> Callable[[], Iterable[R]]:
            with _deaf_to_ctrl_c():  # it is here that processes are started
                return pool.submit(_each, function, chunk).result

        try:
            yield begin
        except BrokenProcessPool:
            raise PoolError(
                "A worker process died (out of memory?); run the same command again with fewer workers"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _each(function: Callable[[T], R], items: list[T]) -> list[R]:
    return [function(item) for item in items]


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that start inside are deaf from birth: they import for seconds before they run our code."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker() -> None:
    # Ctrl-C reaches every process; the one that started them ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _leave_threads()


def _leave_threads() -> None:
    """The processes are the parallelism."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


class _OnRay(Generic[T, R]):
    """Chunks as tasks of Ray. Ray's own retries are off: it has no limit for those that run out of memory."""

    def __init__(self, ray: Any, function: Callable[[T], R], lost: Callable[[T, str], R], shared: Path):
        errors = ray.exceptions
        self._ray, self._lost = ray, lost
        self._deaths = (
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.NodeDiedError,
            errors.ObjectLostError,
        )
        self._function = ray.put(function)  # goes to each machine once, not with each chunk
        self._places = (Path.cwd(), shared)
        # Imported there, not unpickled: a machine that lacks this package can then say so in a sentence.
        self._task = ray.remote(max_retries=0)(
            lambda *given: import_module("mofaface.pool")._each_on_cluster(*given)
        )

    def begin(self, chunk: list[T]) -> Callable[[], Iterable[R]]:
        """See Begin."""
        task = self._send(chunk)
        return lambda: self._results(task, chunk)

    def _send(self, chunk: list[T]) -> Any:
        return self._task.remote(self._function, chunk, *self._places)

    def _results(self, task: Any, chunk: list[T]) -> list[R]:
        try:
            return self._get(task)
        except self._deaths:
            tasks = [self._send([item]) for item in chunk]
            return [self._alone(item, task) for item, task in zip(chunk, tasks, strict=True)]

    def _alone(self, item: T, task: Any) -> R:
        """The result of an item that has a task of its own, or, when that dies twice, what `lost` makes of it."""
        for retry in (task, None):
            try:
                return self._get(retry or self._send([item]))[0]
            except self._deaths as error:
                death = type(error).__name__
        return self._lost(item, f"the processes that worked on it died ({death}); try it alone")

    def _get(self, task: Any) -> list[R]:
        errors = self._ray.exceptions
        try:
            found: list[R] = self._ray.get(task)
        except self._deaths:
            raise
        except errors.RayError as error:
            cause = error.cause if isinstance(error, errors.RayTaskError) else error
            if not isinstance(cause, errors.RayError):
                raise cause from None  # what the function raised, without Ray's story of where
            raise PoolError(
                f"Ray failed ({_first_line(cause)}); see that every machine has this mofaface and run the same "
                "command again"
            ) from error
        return found


def _each_on_cluster(function: Callable[[T], R], items: list[T], folder: Path, shared: Path) -> list[R]:
    _settle(folder, shared)
    return _each(function, items)


def _settle(folder: Path, shared: Path) -> None:
    """Relative paths mean what they mean to the process that asked."""
    with contextlib.suppress(OSError):  # that folder need not be shared where all paths are absolute
        os.chdir(folder)
    if not shared.is_dir():
        raise PoolError(
            f"machine {platform.node()} of the Ray cluster does not see the folder {shared}; photos and results "
            "lie on a file system that all machines share, under the same path"
        )
    _leave_threads()


@contextlib.contextmanager
def ray_cluster(workers: int) -> Iterator[Any]:
    """Ray, connected; as it was found where the caller had connected it."""
    # Read when Ray is imported: without them it reports its use over the network, and warns of changes to come.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    try:
        _connect(ray, os.environ.get("RAY_ADDRESS", ""), workers)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, workers: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address in ("", "local"):
        ray.init("local", num_cpus=workers, include_dashboard=False, object_store_memory=RAY_MEMORY, **quiet)
        return
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if host and port.isdigit():  # Ray itself would try for two minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise PoolError(
            f"no Ray cluster lets us in at RAY_ADDRESS={address} ({_first_line(error)}); start it (`ray start --head`), "
            "set RAY_AUTH_MODE=token if it wants a token, or unset RAY_ADDRESS to work on this machine alone"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
