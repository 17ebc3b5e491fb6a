"""Identity: MakeHuman's face sliders and macro targets, combined as in people, completed by smooth random fields.

The weights' mean and covariance are measured (population.py), starting from people drawn with the distributions below.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array, eye_array, sparray
from scipy.sparse.linalg import splu

from mofaface.face_models.gaussian_process import SmoothBasis, cotangent_laplacian
from mofaface.face_models.open_model.cage import Cage, symmetrise
from mofaface.face_models.open_model.identities import least_squares, rigid_fields
from mofaface.face_models.open_model.lips import close_lip_offsets
from mofaface.face_models.open_model.modes import GEOMETRY_MIRROR, Modes, principal_modes
from mofaface.face_models.open_model.population import BAND, Population
from mofaface.face_models.open_model.sources import TARGETS, Source, SourceError, read_targets
from mofaface.face_models.open_model.subdivision import CutMesh

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
# Skin within so many radii of an eyeball's centre is its socket.
SOCKET = 1.5


@dataclass(frozen=True)
class ShapeConfig:
    """How identities are made."""

    samples: int = 2400  # drawn people, whose mean and spread of target weights is where measuring starts
    modes: int = 80
    fields: int = 160  # smooth fields that complete what the targets cannot show


@dataclass(frozen=True)
class ShapeModel:
    """Mean cage (mm) and its modes."""

    mean: Float[np.ndarray, "cage 3"]
    modes: Modes


@dataclass(frozen=True)
class Targets:
    """The CC0 material of identity: displacement fields, and their weights in people drawn at random."""

    fields: Float[np.ndarray, "targets cage 3"]
    mean: Float[np.ndarray, "targets"]
    spread: Float[np.ndarray, "targets"]


def read_identity_targets(
    source: Source, cage: Cage, base_count: int, samples: int, rng: np.random.Generator
) -> Targets:
    """Macro targets and sliders in a fixed order, with the drawn people's mean weight and its standard deviation."""
    weights, fields = [], []
    for drawn_weights, drawn_fields in (
        macro_samples(source, cage, base_count, samples, rng),
        slider_samples(source, cage, base_count, samples, rng),
    ):
        weights.append(drawn_weights)
        fields.append(drawn_fields)
    drawn = np.concatenate(weights, axis=1)
    return Targets(np.concatenate(fields), drawn.mean(axis=0), drawn.std(axis=0))


def drawn_mean(cage: Cage, targets: Targets) -> Float[np.ndarray, "cage 3"]:
    """The mean of the drawn people, mm: the template that real faces are seen with."""
    return symmetrise(cage.positions + np.tensordot(targets.mean, targets.fields, axes=1), cage.mirror)


def build_shape(
    cage: Cage,
    mesh: CutMesh,
    targets: Targets,
    population: Population,
    basis: SmoothBasis,
    config: ShapeConfig,
) -> ShapeModel:
    """Mean and σ-scaled modes of identity on the cage, orthogonal on the full mesh, with nothing rigid in them."""
    if len(population.mean) != len(targets.fields):
        raise SourceError(
            f"the population tells of {len(population.mean)} targets, the source has {len(targets.fields)}; "
            "measure it again"
        )
    S, template = mesh.operator, drawn_mean(cage, targets)
    mean = template + np.tensordot(population.mean, targets.fields, axes=1)
    mean = symmetrise(mean, cage.mirror)
    people = np.tensordot(_square_root(population.covariance).T, targets.fields, axes=1)
    offsets = np.concatenate([people, smooth_offsets(S, basis, population.spectrum)])
    offsets = close_lip_offsets(cage, template, mesh, offsets)
    offsets = follow_sockets(offsets, mean, cage.part)
    offsets = still(offsets, mean, S, skin_area(S @ mean, mesh.triangles, (S @ (cage.part == 0)) > 0.5))
    # Fields of one standard deviation in place of samples: principal_modes divides by their number.
    samples = offsets * np.sqrt(len(offsets))
    modes = principal_modes(samples, (S.T @ S).tocsr(), cage.mirror, GEOMETRY_MIRROR, config.modes)
    return ShapeModel(mean, modes)


def _square_root(covariance: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n rank"]:
    """L with L Lᵀ the covariance, without its vanishing directions."""
    value, vector = np.linalg.eigh(covariance)
    kept = value > 1e-9 * value[-1]
    return vector[:, kept] * np.sqrt(value[kept])


def smooth_offsets(
    operator: sparray, basis: SmoothBasis, spectrum: Float[np.ndarray, "bands 2 3"]
) -> Float[np.ndarray, "fields cage 3"]:
    """Smooth displacement fields of one standard deviation each, on the cage by least squares."""
    gram = (operator.T @ operator).tocsc() + 1e-6 * eye_array(operator.shape[1], format="csc")
    on_cage = splu(csc_array(gram)).solve(operator.T @ basis.fields)
    band = np.minimum(np.arange(on_cage.shape[1]) // BAND, len(spectrum) - 1)
    sigma = spectrum[band, (basis.parity < 0).astype(int)]
    return np.concatenate(
        [on_cage.T[:, :, None] * (sigma[:, axis, None, None] * np.eye(3)[axis]) for axis in range(3)]
    )


def follow_sockets(
    offsets: Float[np.ndarray, "fields cage 3"],
    mean: Float[np.ndarray, "cage 3"],
    part: Int[np.ndarray, "cage"],
) -> Float[np.ndarray, "fields cage 3"]:
    """The offsets with each eyeball moved and grown as the skin around it is."""
    moved, skin = offsets.copy(), np.flatnonzero(part == 0)
    for eye in (1, 2):
        rows = part == eye
        centre = mean[rows].mean(axis=0)
        radius = np.linalg.norm(mean[rows] - centre, axis=1).max()
        lids = skin[np.linalg.norm(mean[skin] - centre, axis=1) < SOCKET * radius]
        radial = mean[lids] - mean[lids].mean(axis=0)
        shift = offsets[:, lids].mean(axis=1, keepdims=True)
        growth = ((offsets[:, lids] - shift) * radial).sum(axis=(1, 2)) / (radial**2).sum()
        lever = mean[rows] - mean[lids].mean(axis=0)
        moved[:, rows] = shift + growth[:, None, None] * lever
    return moved


def skin_area(
    positions: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    skin: Bool[np.ndarray, "vertices"],
) -> Float[np.ndarray, "vertices"]:
    """Area of each vertex of the skin as a share of all of it; 0 on the eyeballs."""
    _, mass = cotangent_laplacian(positions, triangles)
    return mass * skin / (mass * skin).sum()


def still(
    offsets: Float[np.ndarray, "fields cage 3"],
    mean: Float[np.ndarray, "cage 3"],
    operator: sparray,
    area: Float[np.ndarray, "vertices"],
) -> Float[np.ndarray, "fields cage 3"]:
    """The offsets without the shift and small rotation of the full mesh, its vertices weighted by `area`."""
    rigid = rigid_fields(mean, np.asarray(operator.T @ area).ravel())
    full = (operator @ rigid.reshape(len(mean), -1)).reshape(operator.shape[0], 3, -1)
    moved = (operator @ np.moveaxis(offsets, 0, 2).reshape(len(mean), -1)).reshape(operator.shape[0], 3, -1)
    # S keeps rigid fields rigid, because its rows sum to one: what is found on the mesh is taken off the cage.
    return offsets - np.moveaxis(rigid @ least_squares(full, moved, area, np.zeros(6)), 2, 0)


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
