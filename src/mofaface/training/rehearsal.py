"""Trying a run without writing anything: what could end it early is done once, and what it will take is said."""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from mofaface.corpus import CorpusSplit
from mofaface.training.config import TrainConfig
from mofaface.training.disk import free_space
from mofaface.training.graph import WARMUP
from mofaface.training.loop import check_folder, prepare, stream, validates
from mofaface.training.processes import Processes, joined_processes
from mofaface.training.trainer import Trainer, TrainingError
from mofaface.training.validation import BATCH, validate

# The first ones compile, choose kernels and, on a GPU, record; what comes after them is measured.
FIRST, MEASURED = WARMUP + 1, 4


def dry_run(config: TrainConfig, resume: bool = False) -> str:
    """Some iterations and one validation of a run, nothing of which is kept, as lines of text for people.

    Raises what the run would raise, OSError where its folder cannot be written, TrainingError where no gradient is finite.
    """
    check_folder(config, resume)
    with joined_processes() as processes:
        trainer, photographs, held_out = prepare(config, resume, processes)
        begun = trainer.iteration
        step_seconds = _steps(trainer, photographs)
        photo_seconds = _validation(trainer, held_out)
        check_writable(config.out)
    lines = (
        _described("photographs", photographs),
        _described("held out", held_out),
        _time(config, begun, processes, step_seconds, photo_seconds * _validated(config, held_out)),
        *_memory(trainer.device),
        _room(trainer),
        "nothing was written",
    )
    return "\n".join(lines)


def check_writable(out: Path) -> None:
    """Raise OSError where a run could not make or fill its folder."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OSError(
            f"{there} is no folder that can be written to; give another --out, or change its rights"
        )


def _steps(trainer: Trainer, photographs: CorpusSplit) -> float:
    """Seconds of an iteration; TrainingError where none gives a finite gradient."""
    started = 0.0
    for number, given in enumerate(stream(trainer, photographs, trainer.iteration + FIRST + MEASURED)):
        if number == FIRST:
            started = _now(trainer.device)
        trainer.step(given)
    seconds = (_now(trainer.device) - started) / MEASURED
    if trainer.tally.row() >= FIRST + MEASURED:
        raise TrainingError(
            f"none of the first {FIRST + MEASURED} iterations gave a finite gradient; lower the learning rate "
            "(--optimiser.rate), or look at the photographs and the weights of the loss"
        )
    return seconds


def _validation(trainer: Trainer, held_out: CorpusSplit) -> float:
    """Seconds for each photograph."""
    started, count = _now(trainer.device), min(BATCH, _validated(trainer.config, held_out))
    if not count:
        return 0.0
    validate(trainer.best, held_out, count)
    return (_now(trainer.device) - started) / count


def _validated(config: TrainConfig, held_out: CorpusSplit) -> int:
    return min(config.validate_photos, len(held_out))


def _now(device: str) -> float:
    """The time when all that a device was asked to do is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _described(name: str, split: CorpusSplit) -> str:
    return f"{name}: {len(split)} of {len(set(split.persons))} persons"


def _time(config: TrainConfig, begun: int, processes: Processes, step: float, validation: float) -> str:
    left = config.iterations - begun
    validations = sum(validates(config, i) for i in range(begun + 1, config.iterations + 1)) + (begun == 0)
    total = timedelta(seconds=round(left * step + validations * validation))
    shared = f", shared by {processes.count} processes" if processes.count > 1 else ""
    return (
        f"iterations: {left} to go of {config.iterations}, {config.batch} photographs each{shared}\n"
        f"time: about {total}; an iteration {step:.2g} s (mean of {MEASURED}), each of {validations} validations "
        f"{validation:.2g} s"
    )


def _memory(device: str) -> list[str]:
    """The most memory until now; nothing where the system does not tell."""
    if device == "cuda":
        return [f"memory: {torch.cuda.max_memory_reserved() / 1e9:.1f} GB of the GPU's"]
    if sys.platform == "win32":
        return []
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return [f"memory: {peak * (1 if sys.platform == 'darwin' else 1024) / 1e9:.1f} GB"]


def _room(trainer: Trainer) -> str:
    """What a run's files take beside what is free."""
    tensors = [t for part in trainer.parts.values() for t in part.state_dict().values()]
    tensors += [t for state in trainer.optimiser.state.values() for t in state.values()]
    needed, free = sum(t.nbytes for t in tensors), free_space(trainer.config.out)
    # While a checkpoint is replaced, both are there; weights, pictures and curves come to less than a third one.
    advice = "" if free > 3 * needed else ": too little, free some or give another --out"
    return (
        f"disk: a checkpoint takes {needed / 1e6:.0f} MB, twice that while it is replaced; {free / 1e6:.0f} MB are "
        f"free{advice}"
    )
