"""The paper's experiment on synthetic faces (section 7, figure 10): render, train unsupervised, measure.

"Our model-based autoencoder (AlexNet, unsupervised) is trained on a corpus of 100k synthetic images with background
augmentation" and evaluated on 5k more. The defaults are exactly that. Every part goes on where an earlier run stopped.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mofaface
from mofaface.corpus import CorpusSplit, load_corpus
from mofaface.evaluation.gallery import crops_of_corpus, gallery
from mofaface.evaluation.learning_curves import LearningCurves, config_of, read_curves, supervision
from mofaface.evaluation.on_corpus import evaluate_corpus
from mofaface.evaluation.on_runs import draw_curves
from mofaface.evaluation.published import METRICS
from mofaface.evaluation.result import Result
from mofaface.evaluation.tables import protocol_table
from mofaface.evaluation.truth import true_codes
from mofaface.files import write_text_whole
from mofaface.pictures import save_picture
from mofaface.reconstruct import load
from mofaface.synthetic import MASK_ONLY, PERFECT, SynthConfig, build_synthetic
from mofaface.training import TrainConfig, load_recipe, train
from mofaface.training.config import to_plain
from mofaface.weights import FORMAT, read_tensors

# A run that goes on must learn as it began; how long, and how often it tells, may change.
HOW = (
    "encoder", "model", "camera", "mesh", "weights", "compare_below", "optimiser", "bfloat16", "augmentation", "batch",
    "average", "seed", "rendered", "believe_landmarks", "refined_steps",
)  # fmt: skip
# The recipe's intervals suit 200,000 iterations; a curve has at least so many points whatever the length.
POINTS = 20
FACES = 24


@dataclass(frozen=True)
class ProtocolConfig:
    """The paper's experiment on synthetic faces: render, train, measure. The defaults are the paper's, unsupervised."""

    out: Path = Path("protocol")
    """Folder of the experiment: faces/ (the pictures), run/ (the training), protocol.json, curves.png, faces.png."""
    train: int = 100_000
    """Pictures to learn from."""
    test: int = 5_000
    """Pictures of other people to measure on."""
    look: Literal["plain", "varied"] = "plain"
    """plain: the model's faces before backgrounds, as in the paper. varied: with heads, hair, glasses, occluders, blur,
    noise and JPEG, as `mofaface synth` renders them."""
    backgrounds: tuple[Path, ...] = ()
    """Folders or tar archives of photographs to put behind the faces; without them textures and noise."""
    codes: Path | None = None
    """File of `mofaface synth-codes`: six faces in ten take a photograph's pose, light and expression."""
    corpus: Path | None = None
    """Folder that `mofaface synth` made, in place of the pictures above."""
    recipe: str = "paper"
    """Recipe of the training: paper, default, or a JSON file."""
    iterations: int | None = None
    """Iterations; the recipe's if not given, 200,000 in the paper."""
    batch: int | None = None
    """Pictures per iteration; the recipe's if not given, five in the paper."""
    mesh: Literal["full", "coarse"] | None = None
    """Mesh of the loss; the recipe's if not given, the full one in the paper."""
    pretrained: Path | None = None
    """Weights of the backbone to start from; the paper starts from AlexNet's of ImageNet."""
    start: str | None = None
    """Trained weights that the whole network starts from instead."""
    model: str = "open"
    """Face model: open, or a container file."""
    workers: int = 1
    """Processes that render."""
    seed: int = 0
    """Seed of the pictures and of the training."""
    validate_every: int | None = None
    """Iterations between two points of the curves; the recipe's, or a twentieth of the run."""
    validate_photos: int = 1_000
    """How many test pictures such a point is measured on; the end is measured on all."""
    checkpoint_every: int | None = None
    """Iterations between two checkpoints; the recipe's if not given."""
    only: Literal["all", "render", "train", "measure"] = "all"
    """One part alone, so that each can run on the machine that suits it."""

    def __post_init__(self) -> None:
        numbers = ("train", "test", "iterations", "batch", "workers")
        for name in (*numbers, "validate_every", "validate_photos", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1; got {value}")

    @property
    def faces(self) -> Path:
        """The folder of the pictures."""
        return self.out / "faces" if self.corpus is None else self.corpus

    @property
    def run_folder(self) -> Path:
        """The folder of the training."""
        return self.out / "run"


def render_faces(config: ProtocolConfig) -> Path:
    """The folder of the pictures, rendered unless they are there."""
    if config.corpus is None:
        build_synthetic(rendering(config))
    return config.faces


def rendering(config: ProtocolConfig) -> SynthConfig:
    """What is rendered; the test pictures are the last ones."""
    everything = SynthConfig(
        config.faces,
        n=config.train + config.test,
        validation=config.test,
        seed=config.seed,
        workers=config.workers,
        model=config.model,
        codes=config.codes,
        backgrounds=config.backgrounds,
    )
    if config.look == "varied":
        return everything
    return replace(everything, surroundings=MASK_ONLY, degradation=PERFECT)


def training(config: ProtocolConfig) -> TrainConfig:
    """How the network is trained."""
    recipe = load_recipe(config.recipe)
    iterations = config.iterations or recipe.iterations
    return replace(
        recipe,
        corpus=config.faces,
        out=config.run_folder,
        model=config.model,
        pretrained=config.pretrained or recipe.pretrained,
        start=config.start or recipe.start,
        mesh=config.mesh or recipe.mesh,
        batch=config.batch or recipe.batch,
        iterations=iterations,
        seed=config.seed,
        validate_every=config.validate_every or min(recipe.validate_every, max(1, iterations // POINTS)),
        validate_photos=config.validate_photos,
        checkpoint_every=config.checkpoint_every or recipe.checkpoint_every,
    )


def train_network(config: ProtocolConfig) -> Path:
    """The weights, from the checkpoint that is there; ValueError where it learns otherwise than is asked for."""
    wanted = training(config)
    _test_faces(config)  # before hours of training, not after
    if not (wanted.out / "checkpoint.safetensors").exists():
        return train(wanted)
    begun, now = to_plain(config_of(wanted.out)), to_plain(wanted)
    different = [name for name in HOW if begun[name] != now[name]]
    if different:
        raise ValueError(
            f"{wanted.out} holds a run with another {', '.join(different)}; give the same options, or another --out"
        )
    weights = wanted.out / "weights.safetensors"
    done = weights.exists() and _iterations_of(weights) >= wanted.iterations
    return weights if done else train(wanted, resume=True)


def measure_network(config: ProtocolConfig, progress: Callable[[int], None] = lambda photos: None) -> Result:
    """Every test picture measured; protocol.json, curves.png and faces.png are written."""
    weights = config.run_folder / "weights.safetensors"
    if not weights.is_file():
        raise ValueError(f"{config.run_folder} holds no trained network; run it with --only train first")
    test = _test_faces(config)
    autoencoder = load(weights, config.model, refine=0).autoencoder
    curves = replace(read_curves(config.run_folder), name=config.out.resolve().name)
    measured = evaluate_corpus(autoencoder, test, progress=progress)
    figures = beside_the_paper(curves, measured.figures)
    outcome: dict[str, Any] = {
        "mofaface": mofaface.__version__,
        "figures": figures,
        "faces": _about_faces(config, test),
        "training": _about_training(config.run_folder, _iterations_of(weights)),
        "test": measured.figures,
    }
    write_text_whole(config.out / "protocol.json", json.dumps(outcome, indent=1, allow_nan=False))
    draw_curves([curves], config.out / "curves.png")
    save_picture(config.out / "faces.png", gallery(autoencoder, crops_of_corpus(test, FACES), FACES))
    return Result(outcome, (protocol_table(figures, outcome["training"], len(test)), *measured.tables))


def beside_the_paper(curves: LearningCurves, end: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By the names of METRICS: where training began (on the pictures of the curve), where it ended (on all)."""
    found = {}
    for name, values in curves.errors.items():
        metric = METRICS[name]
        (_, start), (_, last) = metric.lines
        found[name] = {
            "title": metric.title,
            "unit": metric.unit,
            "start": float(values[0]),
            "end": end[name]["mean"],
            "interval": [end[name]["low"], end[name]["high"]],
            "published": {"start": start, "end": last},
        }
    return found


def _about_faces(config: ProtocolConfig, test: CorpusSplit) -> dict[str, Any]:
    summary = json.loads((config.faces / "corpus.json").read_text(encoding="utf-8"))
    counts = summary["counts"]["crops"]
    return {"train": counts["train"], "test": len(test), "face_model": test.code_model} | {
        "settings": summary["config"]
    }


def _about_training(run: Path, iterations: int) -> dict[str, Any]:
    config = config_of(run)
    return {
        "iterations": iterations,
        "batch": config.batch,
        "network": config.encoder.backbone,
        "supervision": supervision(config),
        "start_photos": config.validate_photos,
        "config": to_plain(config),
    }


def _iterations_of(weights: Path) -> int:
    """How long a network was trained."""
    return json.loads(read_tensors(weights, FORMAT)[1]["training"])["iteration"]


def _test_faces(config: ProtocolConfig) -> CorpusSplit:
    """The test pictures; ValueError unless rendered faces are there."""
    if config.corpus is None and not (config.faces / "corpus.json").is_file():
        raise ValueError(
            f"{config.faces} holds no finished pictures; run it with --only render first, or copy that folder here"
        )
    test = load_corpus(config.faces, "validation")
    if true_codes(test) is None:
        raise ValueError(
            f"{config.faces} holds photographs, and the experiment needs faces whose codes are known; "
            "leave --corpus out, or give a folder that `mofaface synth` made"
        )
    return test
