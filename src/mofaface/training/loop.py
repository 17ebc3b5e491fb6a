"""The training loop."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mofaface.corpus import CorpusError, CorpusSplit, load_corpus
from mofaface.corpus.load import with_sound_crops
from mofaface.evaluation.truth import same_model
from mofaface.training.batches import Batch, batches
from mofaface.training.config import TrainConfig
from mofaface.training.device_corpus import Draw, draws, on_device
from mofaface.training.disk import Patience
from mofaface.training.interrupt import gentle_interrupt
from mofaface.training.mixture import mixture
from mofaface.training.monitor import Monitor, Silence
from mofaface.training.processes import Processes, joined_processes
from mofaface.training.trainer import Trainer
from mofaface.training.validation import pictures, validate

log = logging.getLogger("mofaface")


def train(config: TrainConfig, resume: bool = False) -> Path:
    """Train a network and return the file with its weights.

    Interrupt it at any time: with `resume` it goes on from the last checkpoint and sees exactly what it would have seen.
    Raises KeyboardInterrupt after Ctrl-C, when the checkpoint is written; TrainingError when it diverges.
    """
    check_folder(config, resume)
    with joined_processes() as processes:
        trainer, photographs, held_out = prepare(config, resume, processes)
        with gentle_interrupt() as interrupted:
            patiently = Patience(interrupted)
            monitor = Monitor(config, patiently) if processes.first else Silence()
            # Of a run without a checkpoint nothing is kept.
            monitor.forget_after(trainer.iteration or -1)
            stopped = _run(trainer, monitor, photographs, held_out, patiently, interrupted)
            trainer.save(patiently)
    if stopped:
        raise KeyboardInterrupt
    return config.out / "weights.safetensors"


def prepare(
    config: TrainConfig, resume: bool, processes: Processes
) -> tuple[Trainer, CorpusSplit, CorpusSplit]:
    """What a run is made of, at the iteration where it goes on, its photographs and those of held-out people."""
    processes.part(config.batch)  # refuses what cannot be shared, before anything is loaded
    photographs = load_training(config)
    held_out = load_corpus(config.corpus, "validation", skip_damaged=True)
    processes.check_same("the corpus", "\n".join(photographs.keys))
    # A run that was killed before its first checkpoint begins again.
    unsaved = (config.out / "config.json").is_file() and not (config.out / "checkpoint.safetensors").exists()
    trainer = Trainer(config, fresh=not resume or unsaved, processes=processes)
    if config.weights.truth and not same_model(photographs, trainer.autoencoder.decoder.model):
        raise ValueError(
            f"the true codes of {config.corpus} are of another face model than --model; render it again with this one"
        )
    if resume and not unsaved:
        trainer.resume()
    return trainer, photographs, held_out


def check_folder(config: TrainConfig, resume: bool) -> None:
    """Raise ValueError where a new run would overwrite another one."""
    if not resume and (config.out / "checkpoint.safetensors").exists():
        raise ValueError(f"{config.out} holds a run; go on with --resume {config.out}, or give another --out")


def load_training(config: TrainConfig) -> CorpusSplit:
    """What a run learns from. Raises ValueError where true codes have a weight and there are none."""
    photographs = load_corpus(config.corpus, "train", skip_damaged=True)
    if config.weights.truth and config.rendered is not None:
        raise ValueError(
            "weight truth goes with --corpus alone, a folder of rendered faces; leave --rendered out"
        )
    if config.weights.truth and photographs.codes is None:
        raise ValueError(
            f"weight truth needs a corpus of rendered faces alone (mofaface synth), and {config.corpus} has photographs"
        )
    if config.weights.truth and config.augmentation.moves:
        raise ValueError(
            "weight truth needs crops that are neither mirrored nor moved: set --augmentation.no-flip and "
            "--augmentation.shift, .scale and .turn to 0"
        )
    rendered = None
    if config.rendered is not None:
        rendered = load_corpus(config.rendered, "train", skip_damaged=True)
    return mixture(photographs, rendered, config.believe_landmarks)


def _run(
    trainer: Trainer,
    monitor: Monitor,
    photographs: CorpusSplit,
    held_out: CorpusSplit,
    patiently: Patience,
    interrupted: Callable[[], bool],
) -> bool:
    """Train to the end, or until any process is interrupted, which is what comes back."""
    config = trainer.config
    if trainer.iteration == 0:
        _validate(trainer, monitor, held_out)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not trainer.processes.first) as progress:
        task = progress.add_task("training", total=config.iterations, completed=trainer.iteration)
        started, told = time.perf_counter(), trainer.iteration
        for given in stream(trainer, photographs, config.iterations):
            trainer.step(given)
            progress.update(task, completed=trainer.iteration)
            if trainer.iteration % config.log_every == 0:
                means = trainer.tally.means()
                rate = (trainer.iteration - told) * config.batch / (time.perf_counter() - started)
                monitor.line(trainer.iteration, **means, photos_per_second=rate)
                progress.update(task, description=f"loss {means['loss'] or math.nan:.4f}")
                started, told = time.perf_counter(), trainer.iteration
            if validates(config, trainer.iteration):
                _validate(trainer, monitor, held_out)
            # Last, so that a run that is killed before goes on where all this is done again.
            if trainer.iteration % config.checkpoint_every == 0:
                trainer.save(patiently)
            # Ctrl-C reaches processes at different iterations; they end after the same one.
            if trainer.processes.any(interrupted()):
                return True
    return False


def validates(config: TrainConfig, iteration: int) -> bool:
    """Whether a run validates after so many iterations."""
    return (
        iteration in (0, config.validate_first, config.iterations) or iteration % config.validate_every == 0
    )


def stream(trainer: Trainer, photographs: CorpusSplit, last: int) -> Iterator[Batch | Draw]:
    """What iterations until `last` learn from: draws of the corpus on the device, or batches made on the CPU.

    Of several processes each gets its part.
    """
    config = trainer.config
    how = config.batch, config.augmentation, config.seed, trainer.iteration, last
    part = trainer.processes.part(config.batch)
    damaged = False
    try:
        trainer.corpus = on_device(photographs, config, trainer.device)
    except CorpusError:
        damaged = True
    # Not while the error is handled: it keeps what was decoded until then in memory.
    if damaged:
        trainer.corpus = on_device(with_sound_crops(photographs), config, trainer.device)
    if trainer.corpus is not None:
        return (Draw(draw.numbers[part]) for draw in draws(len(photographs), *how))
    return (batch.to(trainer.device) for batch in batches(photographs, *how, part))


def _validate(trainer: Trainer, monitor: Monitor, held_out: CorpusSplit) -> None:
    if not trainer.processes.first:
        return
    result = validate(trainer.best, held_out, trainer.config.validate_photos)
    values = {f"validation_{name}": value for name, value in result.items()}
    entry = monitor.line(trainer.iteration, **trainer.tally.means(), **values)
    log.info("validation %s", entry)
    monitor.picture(trainer.iteration, "faces", pictures(trainer.best, held_out))
