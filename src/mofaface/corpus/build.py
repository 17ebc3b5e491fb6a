"""Building a corpus: list, split, and then shard by shard: read, detect, crop, judge, write."""

import contextlib
import errno
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mofaface.corpus.adapters import pairs_of
from mofaface.corpus.config import CorpusConfig, CorpusError
from mofaface.corpus.index import (
    claim_folder,
    content_config,
    finish_index,
    is_finished,
    read_summary,
    write_part,
)
from mofaface.corpus.sample import Sample, Task, make_sample
from mofaface.corpus.shards import write_shard
from mofaface.corpus.sources import source_name
from mofaface.corpus.split import split_of, unit_hash
from mofaface.pool import PoolError, Where, mapped


def build_corpus(config: CorpusConfig) -> dict[str, Any]:
    """The summary (corpus.json) of the corpus that now lies in `config.out`; finished shards of an earlier,
    interrupted run are kept."""
    tasks = list_tasks(config)
    content = content_config(config, tasks)
    if not claim_folder(config.out, content):
        return read_summary(config.out)
    shards = plan_shards(tasks, config.shard_size)
    with said_plainly(config.out):
        _write_all(config, shards)
        return finish_index(config.out, content, list(shards))


@contextlib.contextmanager
def said_plainly(out: Path) -> Iterator[None]:
    """What may befall any build that writes shards to `out`, as a sentence that says what to do."""
    try:
        yield
    except PoolError as error:
        raise CorpusError(f"{error}; finished shards are kept.") from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise CorpusError(
            f"The disk of {out} is full; free some space and run the same command again: "
            "finished shards are kept."
        ) from error


def list_tasks(config: CorpusConfig) -> list[Task]:
    """Every photo with its key, person and split, in an order that mixes the sources."""
    tasks = []
    used: Counter[str] = Counter()
    for path in config.images:
        for item, person in pairs_of(path, config.adapter, config.frame_step):
            key = re.sub(r"[^\w-]+", "_", f"{source_name(path)}-{item.name.rsplit('.', 1)[0]}")
            used[key] += 1
            key = key if used[key] == 1 else f"{key}-{used[key]}"
            split = split_of(person, config.validation_fraction, config.seed)
            tasks.append(Task(key, source_name(path), person, split, item))
    tasks.sort(key=lambda task: (unit_hash(task.key, config.seed), task.key))
    return tasks[: config.limit]


def plan_shards(tasks: list[Task], shard_size: int) -> dict[str, list[Task]]:
    """Shard name → its photos; a function of the list alone, so an interrupted build can go on."""
    shards = {}
    for split in ("train", "validation"):
        members = [task for task in tasks if task.split == split]
        for number, first in enumerate(range(0, len(members), shard_size)):
            shards[f"{split}-{number:06d}"] = members[first : first + shard_size]
    return shards


def _write_all(config: CorpusConfig, shards: dict[str, list[Task]]) -> None:
    make = partial(make_sample, detector=config.detector, pruning=config.pruning)
    write_shards(config.out, shards, make, config.engine, config.workers, "photos")


def write_shards(
    out: Path,
    shards: dict[str, list[Task]],
    make: Callable[[Task], Sample],
    engine: Where,
    workers: int,
    what: str,
) -> None:
    """Makes the samples of every shard that is missing and writes it with its part of the index; `what` is the
    word for tasks that people read. Several workers need a `make` that can be pickled."""
    missing = {name: tasks for name, tasks in shards.items() if not is_finished(out, name)}
    waiting = [task for tasks in missing.values() for task in tasks]
    total = sum(map(len, shards.values()))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns) as progress,
        mapped(engine, workers, make, waiting, _lost, out) as all_samples,
    ):
        bar = progress.add_task(what, total=total, completed=total - len(waiting))
        for name, tasks in missing.items():
            samples = []
            for sample in islice(all_samples, len(tasks)):
                samples.append(sample)
                progress.advance(bar)
            write_part(out, name, tasks, samples)
            good = [sample for sample in samples if sample.jpeg]
            write_shard(out / f"{name}.tar", good)
            progress.console.print(f"{name}: {len(good)} crops of {len(tasks)} {what}")


def _lost(task: Task, reason: str) -> Sample:
    return Sample(task.key, {}, b"", reason, "failed")
