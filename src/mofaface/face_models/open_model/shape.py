"""Identity: random combinations of MakeHuman's face sliders and macro targets, and their principal modes.

The distributions below are a prior chosen by eye on rendered faces; they are not measured on people.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import sparray

from mofaface.face_models.open_model.cage import Cage
from mofaface.face_models.open_model.modes import GEOMETRY_MIRROR, Modes, principal_modes, spread
from mofaface.face_models.open_model.sources import TARGETS, Source, read_targets

FOLDERS = ("nose", "eyes", "mouth", "chin", "cheek", "forehead", "head", "eyebrows")
OPPOSITES = (
    ("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
    ("compress", "uncompress"),
)  # fmt: skip
LEFT_RIGHT_CORRELATION = 0.94
# Sliders whose extremes read as an expression, a deformity or a rigid motion are kept small or left out.
SLIDER_SPREAD = {
    "head-trans": 0.0, "head-back": 0.0, "head-angle": 0.08, "head-scale-depth": 0.2,
    "head-scale": 0.22, "head-oval": 0.15, "head-round": 0.15, "head-rectangular": 0.15, "head-square": 0.15,
    "head-triangular": 0.15, "head-inverted": 0.15, "head-diamond": 0.15, "head-fat": 0.22,
    "nose-trans-in": 0.05, "mouth-trans-in": 0.05,
    "mouth-angles": 0.08, "mouth-laugh": 0.10, "mouth-lowerlip-ext": 0.12, "mouth-upperlip-ext": 0.12,
    "mouth-lowerlip-middle": 0.12, "mouth-upperlip-middle": 0.12,
    "eyebrows-angle": 0.15, "eye-corner": 0.20, "eye-height": 0.18, "eye-eyefold-angle": 0.15,
    "eye-bag": 0.20, "eye-push": 0.15, "eye-trans": 0.18, "eye-scale": 0.20, "eye-epicanthus": 0.25,
    "nose-compression": 0.20,
    "head-age": 0.15, "chin-cleft": 0.15, "chin-jaw-drop": 0.12, "chin-bones": 0.18, "chin-height": 0.18,
    "chin": 0.22,
    "mouth-dimples": 0.12, "mouth-trans": 0.14, "mouth": 0.18, "nose": 0.26, "forehead": 0.26, "cheek": 0.22,
}  # fmt: skip
DEFAULT_SPREAD = 0.32
ORIGINS = ("african", "asian", "caucasian")
GENDERS = ("female", "male")
AGES = ("child", "young", "old")
LEVELS = ("min", "average", "max")


@dataclass(frozen=True)
class ShapeConfig:
    """How identities are drawn."""

    samples: int = 2400
    modes: int = 80
    spread_mm: float = 4.0
    scale_spread: float = 0.035  # relative standard deviation of the head's size


@dataclass(frozen=True)
class ShapeModel:
    """Mean cage (mm), modes and the drawn faces they come from."""

    mean: Float[np.ndarray, "cage 3"]
    modes: Modes


def build_shape(
    source: Source,
    cage: Cage,
    base_count: int,
    operator: sparray,
    config: ShapeConfig,
    rng: np.random.Generator,
) -> ShapeModel:
    """Mean and σ-scaled modes of identity on the cage, orthogonal on the full mesh."""
    faces = draw_identities(source, cage, base_count, config.samples, rng)
    weight = np.asarray(operator.sum(axis=0)).ravel() * (cage.part == 0)
    faces = align(faces, weight, config.scale_spread)
    mean = faces.mean(axis=0)
    mean = 0.5 * (mean + mean[cage.mirror] * GEOMETRY_MIRROR)
    offsets = move_eyes_rigidly(faces - mean, mean, cage.part)
    metric = (operator.T @ operator).tocsr()
    modes = principal_modes(offsets, metric, cage.mirror, GEOMETRY_MIRROR, config.modes)
    return ShapeModel(mean, modes.scaled(config.spread_mm / spread(modes, operator.shape[0])))


def draw_identities(
    source: Source, cage: Cage, base_count: int, samples: int, rng: np.random.Generator
) -> Float[np.ndarray, "samples cage 3"]:
    """Random neutral cages in mm, not yet aligned."""
    weights, fields = [], []
    for slider_weights, slider_fields in (
        macro_samples(source, cage, base_count, samples, rng),
        slider_samples(source, cage, base_count, samples, rng),
    ):
        weights.append(slider_weights)
        fields.append(slider_fields)
    offset = np.concatenate(weights, axis=1) @ np.concatenate(fields).reshape(sum(map(len, fields)), -1)
    return cage.positions + offset.reshape(samples, *cage.positions.shape)


def slider_pairs(stems: list[str]) -> list[tuple[str, str]]:
    """(negative, positive) stems of each slider; a target without an opposite is paired with ''."""
    pairs, used = [], set()
    for stem in stems:
        head, _, tail = stem.rpartition("-")
        other = next((f"{head}-{high}" for low, high in OPPOSITES if tail == low), None)
        if other in stems:
            pairs.append((stem, other))
            used |= {stem, other}
    return pairs + [("", stem) for stem in stems if stem not in used]


def slider_spread(stem: str) -> float:
    """Standard deviation of a slider, in full travels of the slider."""
    stem = stem.removeprefix("l-").removeprefix("r-")
    return next((s for prefix, s in SLIDER_SPREAD.items() if stem.startswith(prefix)), DEFAULT_SPREAD)


def slider_samples(
    source: Source, cage: Cage, base_count: int, samples: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "samples targets"], Float[np.ndarray, "targets cage 3"]]:
    """Weights of the slider targets for each sample, and the targets; left and right move together."""
    targets: dict[str, np.ndarray] = {}
    for folder in FOLDERS:
        targets |= read_targets(source, f"{TARGETS}/{folder}", base_count, cage.base_vertices)
    weights, fields = [], []
    shared: dict[str, np.ndarray] = {}
    for low, high in slider_pairs(list(targets)):
        side = high.removeprefix("l-").removeprefix("r-")
        common = shared.setdefault(side, rng.standard_normal(samples))
        own = rng.standard_normal(samples)
        c = LEFT_RIGHT_CORRELATION if side != high else 1.0
        value = slider_spread(low or high) * (c * common + np.sqrt(1 - c * c) * own).clip(-2.5, 2.5)
        if low:
            weights.append(np.maximum(-value, 0))
            fields.append(targets[low])
        weights.append(np.maximum(value, 0))
        fields.append(targets[high])
    return np.stack(weights, axis=1), np.stack(fields)


def _between(value: np.ndarray, names: tuple[str, str, str]) -> dict[str, np.ndarray]:
    """Weights of three levels for values in [-1, 1], linear on both sides of the middle, as in MakeHuman."""
    low, high = np.maximum(-value, 0), np.maximum(value, 0)
    return {names[0]: low, names[1]: 1 - low - high, names[2]: high}


def draw_people(samples: int, rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """Mixing weights of origin, gender, age, muscle and weight."""
    child = np.where(rng.random(samples) < 0.08, -0.6 * rng.random(samples), 0.0)
    age = np.where(child < 0, child, rng.beta(0.9, 2.6, samples))
    male = rng.beta(0.5, 0.5, samples)
    levels = [rng.normal(0.0, 0.40, samples).clip(-1, 1) for _ in range(2)]
    return {
        "origin": dict(zip(ORIGINS, rng.dirichlet((0.45, 0.45, 0.45), samples).T, strict=True)),
        "gender": {"female": 1 - male, "male": male},
        "age": _between(age, AGES),
        "muscle": _between(levels[0], LEVELS),
        "weight": _between(levels[1], LEVELS),
    }


def macro_samples(
    source: Source, cage: Cage, base_count: int, samples: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "samples targets"], Float[np.ndarray, "targets cage 3"]]:
    """Weights of MakeHuman's macro targets for each sample, and the targets."""
    targets = read_targets(source, f"{TARGETS}/macrodetails", base_count, cage.base_vertices)
    people = draw_people(samples, rng)
    weights, fields = [], []
    for origin, gender, age in product(ORIGINS, GENDERS, AGES):
        weights.append(people["origin"][origin] * people["gender"][gender] * people["age"][age])
        fields.append(targets[f"{origin}-{gender}-{age}"])
    for gender, age, muscle, weight in product(GENDERS, AGES, LEVELS, LEVELS):
        mixed = (
            people["gender"][gender]
            * people["age"][age]
            * people["muscle"][muscle]
            * people["weight"][weight]
        )
        weights.append(mixed)
        fields.append(targets[f"universal-{gender}-{age}-{muscle}muscle-{weight}weight"])
    return np.stack(weights, axis=1), np.stack(fields)


def align(
    faces: Float[np.ndarray, "samples cage 3"],
    weight: Float[np.ndarray, "cage"],
    scale_spread: float,
    rounds: int = 3,
) -> Float[np.ndarray, "samples cage 3"]:
    """The faces without rigid motion (Kabsch, weighted), their sizes drawn together to the wanted spread."""
    share = weight / weight.sum()
    centred = faces - np.einsum("c,scx->sx", share, faces)[:, None]
    size = np.sqrt(np.einsum("c,scx->s", share, centred**2))
    deviation = np.log(size / size.mean())
    exponent = min(1.0, scale_spread / deviation.std())
    centred *= np.exp((exponent - 1) * deviation)[:, None, None]
    for _ in range(rounds):
        mean = centred.mean(axis=0)
        u, _, vt = np.linalg.svd(np.einsum("c,scx,cy->sxy", share, centred, mean, optimize=True))
        flip = np.ones((len(faces), 1, 3))
        flip[:, 0, 2] = np.sign(np.linalg.det(u @ vt))
        centred = centred @ ((u * flip) @ vt)
    origin = np.einsum("c,scx->x", share, faces) / len(faces)
    return centred + origin


def move_eyes_rigidly(
    offsets: Float[np.ndarray, "samples cage 3"],
    mean: Float[np.ndarray, "cage 3"],
    part: Int[np.ndarray, "cage"],
) -> Float[np.ndarray, "samples cage 3"]:
    """The offsets with each eyeball's replaced by its best translation and change of size."""
    moved = offsets.copy()
    for eye in (1, 2):
        rows = part == eye
        radial = mean[rows] - mean[rows].mean(axis=0)
        shift = offsets[:, rows].mean(axis=1, keepdims=True)
        growth = ((offsets[:, rows] - shift) * radial).sum(axis=(1, 2)) / (radial**2).sum()
        moved[:, rows] = shift + growth[:, None, None] * radial
    return moved
