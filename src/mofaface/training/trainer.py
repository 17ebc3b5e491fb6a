"""The state of a run, and how an iteration moves it."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mofaface.autoencoder import Autoencoder
from mofaface.decoder import Decoder
from mofaface.encoders import Encoder, build_encoder
from mofaface.face_model import FaceModel
from mofaface.face_models import load_face_model
from mofaface.kernels import PlainTerms, loss_terms
from mofaface.training.batches import Batch
from mofaface.training.checkpoint import read_checkpoint, write_checkpoint
from mofaface.training.config import TrainConfig, to_plain
from mofaface.training.device_corpus import DeviceCorpus, Draw
from mofaface.training.disk import ENDLESS, Patience
from mofaface.training.graph import CudaRecorder, GraphedStep
from mofaface.training.optimiser import build_optimiser, set_rates
from mofaface.training.processes import Processes
from mofaface.training.refined_loss import RefinedLoss
from mofaface.training.shared_layers import share_layers
from mofaface.training.start import carry_encoder
from mofaface.training.step import Step
from mofaface.training.tally import Tally
from mofaface.training.truth_loss import TruthLoss
from mofaface.weights import find_weights, read_autoencoder, write_weights

log = logging.getLogger("mofaface")
# So many useless gradients in a row are no accident of one photograph.
MOST_SKIPPED = 20
ALONE = Processes()


class TrainingError(RuntimeError):
    """A run that cannot go on, and what to do."""


class Trainer:
    """One run: the network, its optimiser, its running average and the iteration it is at."""

    def __init__(self, config: TrainConfig, fresh: bool = True, processes: Processes = ALONE):
        """`fresh` starts from the pretrained weights of the configuration; a resumed run has its own."""
        self.config, self.processes = config, processes
        if fresh:
            check_start(config)
        if config.refine < 0:
            raise ValueError(f"--refine is a number of steps, 0 for none; got {config.refine}")
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_face_model(config.model)
        encoder = _encoder(config, model, fresh)
        model = model.coarse() if config.mesh == "coarse" else model
        if config.compare_below is not None:
            model.frontal &= model.mean_shape[:, 1] <= config.compare_below
        decoder = Decoder(model, config.camera)
        self.autoencoder = Autoencoder(encoder, decoder).to(self.device)
        if processes.count > 1:
            share_layers(encoder, processes)
            processes.copy_first((*encoder.parameters(), *encoder.buffers()))
        terms = loss_terms(decoder, torch.cat((model.landmarks_46, model.landmarks_68[:17])))
        on_gpu = self.device == "cuda"
        self.optimiser = build_optimiser(encoder, config.optimiser, on_device=on_gpu)
        average = get_ema_multi_avg_fn(config.average)
        self.average = AveragedModel(
            encoder, torch.device(self.device), multi_avg_fn=average, use_buffers=True
        )
        self.tally = Tally(self.device)
        truth = TruthLoss(decoder) if config.weights.truth else None
        refined = None
        if config.weights.refined:
            units = encoder.head.units().detach()
            refined = RefinedLoss(decoder, units, config.weights, config.refined_steps)
        self._step = Step(
            config, encoder, terms, self.optimiser, self.average, self.tally, processes, truth, refined
        )
        self._learn: Callable[[Batch | Draw], None] = self._learn_from
        if on_gpu and config.cuda_graph and _can_record(config, processes, isinstance(terms, PlainTerms)):
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

    def save(self, patiently: Patience = ENDLESS) -> None:
        """Write the checkpoint and the weights file of the run's folder; of several processes the first does."""
        if self.processes.first:
            patiently(self._checkpoint, self._write_checkpoint)
            patiently(self.config.out / "weights.safetensors", self._write_weights)

    @property
    def _checkpoint(self) -> Path:
        return self.config.out / "checkpoint.safetensors"

    def _write_checkpoint(self) -> None:
        values = {
            "iteration": self.iteration,
            "config": to_plain(self.config),
            "tally": self.tally.state(),
        }
        write_checkpoint(self._checkpoint, self.parts, self.optimiser, values)

    def _write_weights(self) -> None:
        training = {
            "iteration": self.iteration,
            "weights": asdict(self.config.weights),
            "seed": self.config.seed,
        }
        state = self.best.encoder.state_dict()
        # A coarse decoder has the identity of the whole model, which is what weights are tied to.
        decoder = self.autoencoder.decoder
        path, refine = self.config.out / "weights.safetensors", self.config.refine
        write_weights(path, state, self.config.encoder, decoder, training, refine=refine)

    def resume(self) -> None:
        """Go on from the checkpoint of the run's folder, before the first step: a recorded one keeps its state in place."""
        values = read_checkpoint(self._checkpoint, self.parts, self.optimiser)
        self.iteration = values["iteration"]
        if "tally" in values:
            self.tally.restore(values["tally"])
        self.processes.check_same("the checkpoint's iteration", str(self.iteration))


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


def _encoder(config: TrainConfig, model: FaceModel, fresh: bool) -> Encoder:
    """The network of a run, from the weights that a fresh one starts from."""
    encoder = build_encoder(config.encoder, model.layout, config.pretrained if fresh else None)
    if fresh and config.start is not None:
        trained = _trained(config, config.start, model)
        assert isinstance(trained.encoder, Encoder)  # a weights file holds nothing else
        carry_encoder(trained.encoder, trained.decoder.model, config.camera, encoder, model)
    # Depthwise convolutions are several times faster with the channels last.
    return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _can_record(config: TrainConfig, processes: Processes, plain: bool) -> bool:
    """Whether a GPU's step can be one CUDA graph; says why not."""
    if config.weights.refined:
        log.warning("refining asks the GPU for values, and the step is launched kernel by kernel")
        return False
    if processes.count > 1:
        log.warning("several processes launch the step kernel by kernel; a process alone records it")
    elif plain:
        log.warning("without Triton's kernels the step is launched kernel by kernel; install triton")
    return processes.count == 1 and not plain


def _trained(config: TrainConfig, start: str, model: FaceModel) -> Autoencoder:
    """The trained network that a run starts from, with the face model of its own."""
    own = model if config.start_model is None else load_face_model(config.start_model)
    return read_autoencoder(find_weights(start), own)
