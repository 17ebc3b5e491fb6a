"""A folder of photos in stages: threads read, search and write while the network answers for several photos at once.

Every photo's results are those of `process_photos`, up to rounding, in the same order; only the time differs. Memory is
bounded by the number of photos that are under way, a few for each thread.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import torch

from mofaface.photo import Photo, read_photo
from mofaface.pool import available_cores
from mofaface.reconstruction import Output, Reconstruction
from mofaface.report import Entry, Job, make_jobs, reported

T = TypeVar("T")
# Under way at once for each thread: enough that neither the network nor the threads wait for the other.
PHOTOS_PER_WORKER = 4


@dataclass(frozen=True)
class Stages(Generic[T]):
    """The two halves of reconstructing a photo."""

    prepare: Callable[[Photo], T]
    """What the network needs of one photo; called in several threads. May raise NoFaceError."""
    predict: Callable[[list[T]], list[list[Reconstruction]]]
    """The faces of several photos; called in one thread."""


@dataclass(frozen=True)
class _Prepared:
    """A photo that was read and searched, or the error that came of it."""

    job: Job
    photo: Photo | None
    found: Any
    error: Exception | None
    seconds: float


def process_in_stages(
    photos: Sequence[str], stages: Stages[T], out: Path, outputs: Iterable[Output], workers: int = 0
) -> Generator[Entry, None, None]:
    """Reconstruct photos, write their folders, and yield an entry for each, in the order of the photos.

    `workers` threads prepare and write, one for each core if 0. The report is written at the end, also when the caller
    stops early or is interrupted, and then holds every photo whose folders were written.
    """
    if workers < 0:
        raise ValueError(f"photos are prepared by one thread or more (0: one for each core), got {workers}")
    workers = workers or available_cores()
    with reported(out) as entries, _cores_for(workers):
        jobs = iter(make_jobs(photos, out, outputs))
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        preparing: deque[Future[_Prepared]] = deque()
        finishing: deque[Future[Entry]] = deque()
        try:
            while True:
                room = PHOTOS_PER_WORKER * workers - len(preparing) - len(finishing)
                preparing.extend(pool.submit(_prepare, job, stages) for job in islice(jobs, room))
                if not preparing and not finishing:
                    break
                front: Future[Any] = preparing[0] if preparing else finishing[0]
                wait([front])
                batch = [future.result() for future in _done(preparing)]
                finishing.extend(_finish(batch, stages, pool))
                for future in _done(finishing):
                    entries.append(future.result())
                    yield entries[-1]
        finally:
            pool.shutdown(cancel_futures=True)
            entries.extend(future.result() for future in finishing if not future.cancelled())


@contextmanager
def _cores_for(workers: int) -> Iterator[None]:
    """Libraries leave the cores to the threads of the pipeline, and get them back at the end.

    The network, a fifth of the work on one core, keeps one core of four.
    """
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    torch.set_num_threads(max(1, workers // 4))
    try:
        yield
    finally:
        cv2.setNumThreads(cv2_threads)
        torch.set_num_threads(threads)  # new threads take the number that was set last, anywhere


def _done(futures: "deque[Future[Any]]") -> Iterator[Future[Any]]:
    """Those at the front that are done, taken away one by one."""
    while futures and futures[0].done():
        yield futures.popleft()


def _prepare(job: Job, stages: Stages[Any]) -> _Prepared:
    started = time.perf_counter()
    photo, found, failed = None, None, None
    try:
        photo = read_photo(job.source)
        found = stages.prepare(photo)
    except Exception as error:
        failed = error
    return _Prepared(job, photo, found, failed, time.perf_counter() - started)


def _finish(batch: list[_Prepared], stages: Stages[Any], pool: ThreadPoolExecutor) -> Iterator[Future[Entry]]:
    """The writing of every photo of a batch, under way."""
    started = time.perf_counter()
    good = [one for one in batch if one.error is None]
    results = iter(_predicted([one.found for one in good], stages))
    share = (time.perf_counter() - started) / max(len(good), 1)
    for one in batch:
        result = one.error or next(results)
        yield pool.submit(_write, one, result, one.seconds + (0.0 if one.error else share))


def _predicted(found: list[Any], stages: Stages[Any]) -> list[list[Reconstruction] | Exception]:
    """The faces of each photo; where the network fails on them together, each is tried alone."""
    try:
        return list(stages.predict(found)) if found else []
    except Exception as error:
        if len(found) == 1:
            return [error]
        return [result for one in found for result in _predicted([one], stages)]


def _write(one: _Prepared, result: list[Reconstruction] | Exception, seconds: float) -> Entry:
    started = time.perf_counter()
    try:
        if isinstance(result, Exception):
            raise result
        assert one.photo is not None
        entry = one.job.write(one.photo, result)
    except Exception as error:
        entry = one.job.failure(error)
    return replace(entry, seconds=round(seconds + time.perf_counter() - started, 4))
