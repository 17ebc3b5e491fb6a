"""The training loop."""

import logging
import time
from collections.abc import Callable
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
from mofaface.kernels import loss_terms
from mofaface.losses import total
from mofaface.training.batches import Batch, batches
from mofaface.training.checkpoint import read_checkpoint, write_checkpoint
from mofaface.training.config import TrainConfig, to_plain
from mofaface.training.interrupt import gentle_interrupt
from mofaface.training.monitor import Monitor
from mofaface.training.optimiser import build_optimiser, set_rates
from mofaface.training.start import carry_encoder
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
        self.terms = loss_terms(decoder, torch.cat((model.landmarks_46, model.landmarks_68[:17])))
        self.optimiser = build_optimiser(encoder, config.optimiser)
        average = get_ema_multi_avg_fn(config.average)
        self.average = AveragedModel(encoder, multi_avg_fn=average, use_buffers=True)
        self.iteration = 0
        self.skipped = 0

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """What a checkpoint holds beside the optimiser."""
        return {"encoder": self.autoencoder.encoder, "average": self.average}

    def step(self, batch: Batch) -> dict[str, float]:
        """One iteration; returns the terms of the loss, means over the batch."""
        config = self.config
        set_rates(self.optimiser, config.optimiser, self.iteration, config.iterations)
        # Dropout's masks depend on the iteration alone, so that a resumed run draws the same ones.
        torch.manual_seed(hash((config.seed, self.iteration)))
        self.autoencoder.train()
        statistics = [buffer.clone() for buffer in self.autoencoder.encoder.buffers()]
        with torch.autocast(self.device, torch.bfloat16, enabled=config.bfloat16):
            code = self.autoencoder.encoder(batch.image)
        terms = self.terms(code, batch.image, *self._points(batch))
        loss = total(terms.photo, terms.land, code, config.weights).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        values = {"loss": loss.item(), "photo": terms.photo.mean().item()} | _landmark_values(
            terms.places, batch
        )
        if self._move(loss.item()):
            if self.config.average:
                self.average.update_parameters(self.autoencoder.encoder)
        else:
            for buffer, before in zip(self.autoencoder.encoder.buffers(), statistics, strict=True):
                buffer.copy_(before)
        self.iteration += 1
        return values

    def _points(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Places of the 46 landmarks and of the jaw's 17 points, and what each counts."""
        jaw = self.config.weights.contour * batch.contour_confidence
        return torch.cat((batch.landmarks, batch.contour), 1), torch.cat((batch.confidence, jaw), 1)

    def _move(self, loss: float) -> bool:
        """Let the optimiser step and return True, unless a NaN or an infinity would poison the network."""
        parameters = [
            p for group in self.optimiser.param_groups for p in group["params"] if p.grad is not None
        ]
        if self.config.optimiser.clip:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.optimiser.clip)
        else:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not (torch.isfinite(norm) and loss == loss):
            self.skipped += 1
            log.warning("iteration %d skipped: its loss or gradient is not finite", self.iteration)
            if self.skipped >= MOST_SKIPPED:
                raise TrainingError(
                    f"{MOST_SKIPPED} iterations in a row gave no finite gradient; "
                    "lower the learning rate (--optimiser.rate) and resume"
                )
            return False
        self.skipped = 0
        self.optimiser.step()
        return True

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
        """Go on from the checkpoint of the run's folder."""
        path = self.config.out / "checkpoint.safetensors"
        self.iteration = read_checkpoint(path, self.parts, self.optimiser)["iteration"]


def _landmark_values(places: torch.Tensor, batch: Batch) -> dict[str, float]:
    """E_land of the 46 landmarks and their mean distance in pixels, means over the batch."""
    difference = places[:, : batch.landmarks.shape[1]] - batch.landmarks
    square = ((difference / batch.image.shape[-1]) ** 2).sum(-1)
    land = (batch.confidence * square).sum(-1).mean().item()
    return {"land": land, "landmark_px": difference.norm(dim=-1).mean().item()}


def check_start(config: TrainConfig) -> None:
    """Raise ValueError where a network would keep random layers; warn where the paper would start pretrained."""
    if config.start is not None and config.pretrained is not None:
        raise ValueError(
            "a network starts from --pretrained or from --start, not from both; give one of them"
        )
    if config.start is not None or config.pretrained is not None:
        return
    encoder = config.encoder
    if encoder.backbone == "mobilenet" and (encoder.freeze_norm or encoder.frozen_blocks):
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
    photographs = load_corpus(config.corpus, "train")
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
    stream = batches(
        photographs, config.batch, config.augmentation, config.seed, trainer.iteration, config.iterations
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=config.iterations, completed=trainer.iteration)
        started = time.perf_counter()
        for batch in stream:
            terms = trainer.step(batch.to(trainer.device))
            monitor.add(**terms)
            progress.update(task, completed=trainer.iteration, description=f"loss {terms['loss']:.4f}")
            if trainer.iteration % config.log_every == 0:
                rate = config.log_every * config.batch / (time.perf_counter() - started)
                monitor.line(trainer.iteration, photos_per_second=rate)
                started = time.perf_counter()
            if trainer.iteration % config.checkpoint_every == 0:
                trainer.save()
            if trainer.iteration % config.validate_every == 0 or trainer.iteration == config.iterations:
                _validate(trainer, monitor, held_out)
            if interrupted():
                break


def _validate(trainer: Trainer, monitor: Monitor, held_out: CorpusSplit) -> None:
    result = validate(trainer.best, held_out, trainer.config.validate_photos)
    entry = monitor.line(trainer.iteration, **{f"validation_{name}": value for name, value in result.items()})
    log.info("validation %s", entry)
    monitor.picture(trainer.iteration, "faces", pictures(trainer.best, held_out))
