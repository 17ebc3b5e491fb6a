"""Recipes: everything that decides how a network is trained, in frozen dataclasses."""

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from mofaface.camera import Camera
from mofaface.encoders import EncoderConfig
from mofaface.losses import LossWeights


@dataclass(frozen=True)
class OptimiserConfig:
    """How the parameters move."""

    name: Literal["adadelta", "adamw"] = "adamw"
    """The paper trains with AdaDelta."""
    rate: float = 5e-4
    """Learning rate of all parameters but those of the z-translation."""
    rate_z: float = 5e-4
    """Learning rate of the parameters that predict the z-translation."""
    backbone: float = 1.0
    """Rate of the layers that may be pretrained, over that of the others."""
    weight_decay: float = 1e-4
    """Decoupled weight decay (AdamW only)."""
    warmup: int = 200
    """Iterations over which the rates rise from zero."""
    cosine: bool = True
    """Let the rates fall to zero along a cosine over the run."""
    clip: float = 1.0
    """Largest norm of the gradient of a step; 0 does not clip."""


@dataclass(frozen=True)
class Augmentation:
    """How a crop is changed at random before it is seen; all zero shows the crops as they are."""

    shift: float = 8.0
    """Standard deviation of the shift in pixels, at most twice that."""
    scale: float = 0.08
    """Standard deviation of the logarithm of the size."""
    turn: float = 0.12
    """Standard deviation of the rotation in the picture, radians."""
    flip: bool = True
    """Mirror every second crop."""
    colour: float = 0.08
    """Standard deviation of the logarithm of brightness; a third of it for each channel alone."""
    blur: float = 0.3
    """Share of crops whose resolution is reduced."""

    @property
    def moves(self) -> bool:
        """Whether crops are mirrored or moved, after which a rendered face's code is not true any more."""
        return bool(self.flip or self.shift or self.scale or self.turn)


NO_AUGMENTATION = Augmentation(0, 0, 0, False, 0, 0)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The defaults are the recipe that learns fast on a CPU."""

    corpus: Path = Path("corpus")
    """Folder that `mofaface corpus build` made."""
    rendered: Path | None = None
    """Folder that `mofaface synth` made: as many rendered faces as there are photographs, at most, are learned from
    beside them."""
    believe_landmarks: bool = True
    """Learn from the landmarks that were detected in the photographs; without, from those of `rendered` faces alone, which
    are exact, and without those too from none at all: photographs are learned from unsupervised."""
    out: Path = Path("runs/default")
    """Folder of the run: configuration, log, pictures, checkpoint, weights."""
    model: str = "open"
    """Face model: "open" or a container file."""
    camera: Camera = field(default_factory=Camera)
    """The camera that crops are seen with."""
    encoder: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(
            input_size=128, readout="narrow", freeze_norm=True, frozen_blocks=4, living_norm=4
        )
    )
    """Which network, and its units."""
    pretrained: Path | None = None
    """Weights file of the backbone that the network starts from; see docs/encoders.md."""
    start: str | None = None
    """Trained weights, a shipped name or a file, that the whole network starts from instead."""
    start_model: str | None = None
    """Face model of the weights in `start`, if it is not the run's own; both need the same mesh."""
    weights: LossWeights = field(
        default_factory=lambda: LossWeights(land=2.5, reg=1e-4, beta=0.4, light=0.12, contour=0.3)
    )
    """Weights of the loss."""
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(backbone=0.3))
    """How the parameters move."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes of the crops."""
    refined_steps: int = 4
    """Steps of the refiner to the codes that the weight `refined` pulls to."""
    refine: int = 0
    """Steps of the refiner that the trained weights ask for when photos are reconstructed; training takes none of them."""
    mesh: Literal["full", "coarse"] = "coarse"
    """Vertices of the loss: all, or those of the coarse mesh."""
    compare_below: float | None = None
    """Height over the model's origin, mm, above which no vertex is compared; 70 leaves out the forehead, which hair
    covers: without landmarks faces slide down until it lies on skin."""
    batch: int = 32
    """Photographs per iteration, of all processes together."""
    iterations: int = 6000
    """Iterations of the whole run."""
    average: float = 0.998
    """Decay of the running average of the weights, which is what is validated and saved; 0 keeps the last ones."""
    bfloat16: bool = False
    """Run the network in mixed precision: its layers in bfloat16; weights, loss and optimiser in float32."""
    seed: int = 0
    """Seed of the order of the photographs and of the augmentation."""
    corpus_on_device: Literal["auto", "yes", "no"] = "auto"
    """Keep the crops decoded in the GPU's memory (1.9 GB for 11,000) and augment them there; "auto" where they fit. On
    the CPU only with "yes", which changes crops slightly otherwise than OpenCV does."""
    cuda_graph: bool = True
    """On a GPU, launch the kernels of a step together, as one recorded graph."""
    threads: int = 0
    """CPU threads of the computation; 0 leaves PyTorch's choice."""
    log_every: int = 20
    """Iterations between two lines of the log."""
    validate_every: int = 500
    """Iterations between two validations."""
    validate_first: int = 50
    """Iteration of a first validation before those, so that a run that goes wrong shows soon; 0 has none."""
    validate_photos: int = 256
    """How many photographs of held-out people are validated on."""
    checkpoint_every: int = 250
    """Iterations between two checkpoints."""


PAPER = TrainConfig(
    out=Path("runs/paper"),
    encoder=EncoderConfig("alexnet"),
    weights=LossWeights(),
    optimiser=OptimiserConfig("adadelta", 0.1, 0.0005, weight_decay=0, warmup=0, cosine=False, clip=0),
    augmentation=NO_AUGMENTATION,
    mesh="full",
    batch=5,
    iterations=200_000,
    average=0,
    validate_every=2_000,
    checkpoint_every=1_000,
)
"""Section 7: AdaDelta at 0.1 (0.0005 for z), 200k iterations of five photographs, no landmarks."""

RECIPES = {"default": TrainConfig(), "paper": PAPER}


def load_recipe(name_or_path: str) -> TrainConfig:
    """The recipe of a name, or of a configuration file such as a run's `config.json`."""
    if name_or_path in RECIPES:
        return RECIPES[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        raise ValueError(
            f"a recipe is {' or '.join(RECIPES)} or a JSON file, and '{name_or_path}' is neither"
        )
    try:
        return from_plain(TrainConfig, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a training configuration: {error}") from error


def to_plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON can hold it."""
    return json.loads(json.dumps(asdict(config), default=str))


def from_plain(cls: type, plain: Any) -> Any:
    """The configuration of what `to_plain` gave; raises ValueError for a field that does not exist."""
    if not isinstance(plain, dict):
        raise ValueError(f"{cls.__name__} is a JSON object, got {plain!r}")
    hints: dict[str, Any] = get_type_hints(cls)
    unknown = plain.keys() - {f.name for f in fields(cls)}
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
    values = {}
    for name, value in plain.items():
        hint = hints[name]
        if is_dataclass(hint):
            value = from_plain(hint, value)  # type: ignore[arg-type]
        elif value is not None and Path in (hint, *getattr(hint, "__args__", ())):
            value = Path(value)
        values[name] = value
    return cls(**values)
