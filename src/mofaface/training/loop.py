"""The training loop."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mofaface.autoencoder import Autoencoder
from mofaface.corpus import CorpusSplit, load_corpus
from mofaface.decoder import Decoder
from mofaface.encoders import Encoder, build_encoder
from mofaface.face_model import FaceModel
from mofaface.face_models import load_face_model
from mofaface.kernels import PlainTerms, loss_terms
from mofaface.training.batches import Batch, batches
from mofaface.training.checkpoint import read_checkpoint, write_checkpoint
from mofaface.training.config import TrainConfig, to_plain
from mofaface.training.device_corpus import DeviceCorpus, Draw, draws, on_device
from mofaface.training.graph import CudaRecorder, GraphedStep
from mofaface.training.interrupt import gentle_interrupt
from mofaface.training.mixture import mixture
from mofaface.training.monitor import Monitor
from mofaface.training.optimiser import build_optimiser, set_rates
from mofaface.training.start import carry_encoder
from mofaface.training.step import Step
from mofaface.training.tally import Tally
from mofaface.training.truth_loss import TruthLoss
from mofaface.training.validation import pictures, validate
from mofaface.weights import find_weights, read_autoencoder, write_weights

log = logging.getLogger("mofaface")
# So many useless gradients in a row are no accident of one photograph.
MOST_SKIPPED = 20


class TrainingError(RuntimeError):
    """A run that cannot go on, and what to do."""


class Trainer:
    """One run: the network, its optimiser, its running average and the iteration it is at."""

    def __init__(self, config: TrainConfig, fresh: bool = True):
        """`fresh` starts from the pretrained weights of the configuration; a resumed run has its own."""
        self.config = config
        if fresh:
            check_start(config)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_face_model(config.model)
        encoder = build_encoder(config.encoder, model.layout, config.pretrained if fresh else None)
        if fresh and config.start is not None:
            trained = _trained(config, config.start, model)
            assert isinstance(trained.encoder, Encoder)  # a weights file holds nothing else
            carry_encoder(trained.encoder, trained.decoder.model, config.camera, encoder, model)
        model = model.coarse() if config.mesh == "coarse" else model
        if config.compare_below is not None:
            model.frontal &= model.mean_shape[:, 1] <= config.compare_below
        decoder = Decoder(model, config.camera)
        # Depthwise convolutions are several times faster with the channels last.
        encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.autoencoder = Autoencoder(encoder, decoder).to(self.device)
        terms = loss_terms(decoder, torch.cat((model.landmarks_46, model.landmarks_68[:17])))
        on_gpu = self.device == "cuda"
        self.optimiser = build_optimiser(encoder, config.optimiser, on_device=on_gpu)
        average = get_ema_multi_avg_fn(config.average)
        self.average = AveragedModel(
            encoder, torch.device(self.device), multi_avg_fn=average, use_buffers=True
        )
        self.tally = Tally(self.device)
        truth = TruthLoss(decoder) if config.weights.truth else None
        self._step = Step(config, encoder, terms, self.optimiser, self.average, self.tally, truth)
        self._learn: Callable[[Batch | Draw], None] = self._learn_from
        if on_gpu and config.cuda_graph and isinstance(terms, PlainTerms):
            log.warning("without Triton's kernels the step is launched kernel by kernel; install triton")
        elif on_gpu and config.cuda_graph:
            self._learn = GraphedStep(self._learn_from, self.device, CudaRecorder())
        self.corpus: DeviceCorpus | None = None
        """Where the crops of draws are."""
        self.iteration = 0

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """What a checkpoint holds beside the optimiser."""
        return {"encoder": self.autoencoder.encoder, "average": self.average}

    def step(self, given: Batch | Draw) -> None:
        """One iteration on a batch, or on what was drawn of the corpus on the device; `tally` has its values."""
        config = self.config
        set_rates(self.optimiser, config.optimiser, self.iteration, config.iterations)
        # Dropout's masks depend on the iteration alone, so that a resumed run draws the same ones.
        torch.manual_seed(hash((config.seed, self.iteration)))
        self._learn(given)
        self.iteration += 1
        # A GPU is asked only where it is waited for anyway, for a line of the log.
        if self.device == "cpu" or self.iteration % config.log_every == 0:
            self._tell_skips()

    def _learn_from(self, given: Batch | Draw) -> None:
        if isinstance(given, Draw):
            assert self.corpus is not None  # it was drawn of this corpus
            given = self.corpus.batch(given)
        self._step(given)

    def _tell_skips(self) -> None:
        """Warn of iterations that would have poisoned the network; TrainingError where they do not end."""
        skipped, row = self.tally.skips()
        if skipped:
            sentence = "%d skipped until iteration %d: the loss or its gradient is not finite"
            log.warning(sentence, skipped, self.iteration)
        if row >= MOST_SKIPPED:
            raise TrainingError(
                f"{MOST_SKIPPED} iterations in a row gave no finite gradient; "
                "lower the learning rate (--optimiser.rate) and resume"
            )

    @property
    def best(self) -> Autoencoder:
        """The autoencoder that is validated and saved: with averaged weights where the recipe averages."""
        encoder = self.average.module if self.config.average else self.autoencoder.encoder
        return Autoencoder(encoder, self.autoencoder.decoder).eval()

    def save(self) -> None:
        """Write the checkpoint and the weights file of the run's folder."""
        values = {"iteration": self.iteration, "config": to_plain(self.config)}
        write_checkpoint(self.config.out / "checkpoint.safetensors", self.parts, self.optimiser, values)
        training = {
            "iteration": self.iteration,
            "weights": asdict(self.config.weights),
            "seed": self.config.seed,
        }
        state = self.best.encoder.state_dict()
        # A coarse decoder has the identity of the whole model, which is what weights are tied to.
        decoder = self.autoencoder.decoder
        write_weights(self.config.out / "weights.safetensors", state, self.config.encoder, decoder, training)

    def resume(self) -> None:
        """Go on from the checkpoint of the run's folder, before the first step: a recorded one keeps its state in place."""
        path = self.config.out / "checkpoint.safetensors"
        self.iteration = read_checkpoint(path, self.parts, self.optimiser)["iteration"]


def check_start(config: TrainConfig) -> None:
    """Raise ValueError where a network would keep random layers; warn where the paper would start pretrained."""
    if config.start is not None and config.pretrained is not None:
        raise ValueError(
            "a network starts from --pretrained or from --start, not from both; give one of them"
        )
    if config.start is not None or config.pretrained is not None:
        return
    encoder = config.encoder
    if encoder.backbone in ("mobilenet", "efficientnet") and (encoder.freeze_norm or encoder.frozen_blocks):
        raise ValueError(
            "fixed layers need pretrained weights: give --pretrained FILE (docs/training.md says where to get it), "
            "or learn all with --encoder.frozen-blocks 0 --encoder.no-freeze-norm"
        )
    log.warning(
        "the network starts from random weights; the paper starts from pretrained ones (--pretrained)"
    )


def _trained(config: TrainConfig, start: str, model: FaceModel) -> Autoencoder:
    """The trained network that a run starts from, with the face model of its own."""
    own = model if config.start_model is None else load_face_model(config.start_model)
    return read_autoencoder(find_weights(start), own)


def train(config: TrainConfig, resume: bool = False) -> Path:
    """Train a network and return the file with its weights.

    Interrupt it at any time: with `resume` it goes on from the last checkpoint and sees exactly what it would have seen.
    Raises KeyboardInterrupt after Ctrl-C, when the checkpoint is written; TrainingError when it diverges.
    """
    if not resume and (config.out / "checkpoint.safetensors").exists():
        raise ValueError(f"{config.out} holds a run; go on with --resume {config.out}, or give another --out")
    photographs = load_training(config)
    held_out = load_corpus(config.corpus, "validation")
    trainer = Trainer(config, fresh=not resume)
    if resume:
        trainer.resume()
    monitor = Monitor(config)
    monitor.forget_after(trainer.iteration)
    try:
        with gentle_interrupt() as interrupted:
            _run(trainer, monitor, photographs, held_out, interrupted)
            trainer.save()
        if interrupted():
            raise KeyboardInterrupt
    finally:
        monitor.close()
    return config.out / "weights.safetensors"


def load_training(config: TrainConfig) -> CorpusSplit:
    """What a run learns from. Raises ValueError where true codes have a weight and there are none."""
    photographs = load_corpus(config.corpus, "train")
    if config.weights.truth and (photographs.codes is None or config.rendered is not None):
        raise ValueError(
            f"weight truth needs a corpus of rendered faces alone (mofaface synth), and {config.corpus} has photographs"
        )
    if config.weights.truth and config.augmentation.moves:
        raise ValueError(
            "weight truth needs crops that are neither mirrored nor moved: set --augmentation.no-flip and "
            "--augmentation.shift, .scale and .turn to 0"
        )
    rendered = None if config.rendered is None else load_corpus(config.rendered, "train")
    return mixture(photographs, rendered, config.believe_landmarks)


def _run(
    trainer: Trainer,
    monitor: Monitor,
    photographs: CorpusSplit,
    held_out: CorpusSplit,
    interrupted: Callable[[], bool],
) -> None:
    config = trainer.config
    if trainer.iteration == 0:
        _validate(trainer, monitor, held_out)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=config.iterations, completed=trainer.iteration)
        started = time.perf_counter()
        for given in _stream(trainer, photographs):
            trainer.step(given)
            progress.update(task, completed=trainer.iteration)
            if trainer.iteration % config.log_every == 0:
                means = trainer.tally.means()
                rate = config.log_every * config.batch / (time.perf_counter() - started)
                monitor.line(trainer.iteration, **means, photos_per_second=rate)
                progress.update(task, description=f"loss {means['loss'] or math.nan:.4f}")
                started = time.perf_counter()
            if trainer.iteration % config.checkpoint_every == 0:
                trainer.save()
            if trainer.iteration % config.validate_every == 0 or trainer.iteration == config.iterations:
                _validate(trainer, monitor, held_out)
            if interrupted():
                break


def _stream(trainer: Trainer, photographs: CorpusSplit) -> Iterator[Batch] | Iterator[Draw]:
    """What the remaining iterations learn from: draws of the corpus on the device, or batches made on the CPU."""
    config = trainer.config
    how = config.batch, config.augmentation, config.seed, trainer.iteration, config.iterations
    trainer.corpus = on_device(photographs, config, trainer.device)
    if trainer.corpus is not None:
        return draws(len(photographs), *how)
    return (batch.to(trainer.device) for batch in batches(photographs, *how))


def _validate(trainer: Trainer, monitor: Monitor, held_out: CorpusSplit) -> None:
    result = validate(trainer.best, held_out, trainer.config.validate_photos)
    values = {f"validation_{name}": value for name, value in result.items()}
    entry = monitor.line(trainer.iteration, **trainer.tally.means(), **values)
    log.info("validation %s", entry)
    monitor.picture(trainer.iteration, "faces", pictures(trainer.best, held_out))
