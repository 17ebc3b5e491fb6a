"""Expression: MakeHuman's 34 expression units for three origins and the 52 face units, mixed at random.

The modes are those of the covariance of random expressions, and δ = 0 is the neutral face with closed lips, not the mean
expression: the named units are combinations of modes without an offset. All units are made for the base mesh itself, in
three variants by origin, so none needs deformation transfer.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.sparse import sparray

from mofaface.face_models.open_model.cage import Cage
from mofaface.face_models.open_model.modes import (
    GEOMETRY_MIRROR,
    Modes,
    coefficients,
    principal_modes,
    spread,
)
from mofaface.face_models.open_model.sources import TARGETS, Source, read_targets

FACE_UNITS = "data/faceunits01/targets/faceunits"
ORIGINS = ("african", "asian", "caucasian")
# Share of samples in which both sides act as one: eyes, brows and nose nearly always, a mouth less often.
PAIRED, PAIRED_MOUTH = 0.97, 0.93
ACTIVE_SHARE = 0.08  # chance that a unit takes part in an expression
# Units that people hold in front of a camera far more or far less often than the rest.
UNIT_STRENGTH = {
    "mouthSmile": 1.8, "jawOpen": 0.45, "mouth-open": 0.3, "eyeBlink": 0.9, "eyeLook": 1.3, "jawForward": 0.5,
    "jawLeft": 0.5,
    "jawRight": 0.5, "mouthLeft": 0.5, "mouthRight": 0.5, "mouthShrug": 0.6, "mouthRoll": 0.7,
    "mouthFunnel": 0.7,
    "mouthPucker": 0.8, "mouthFrown": 0.7, "noseSneer": 0.6, "cheekPuff": 0.6, "tongueOut": 0.0,
    "mouthClose": 0.0,
    "eye-left-closure": 0.6, "eye-right-closure": 0.6, "neck-platysma": 0.4,
    "mouth-retraction": 0.6, "mouth-part-later": 0.6, "mouth-upward-retraction": 0.6, "mouth-eversion": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class ExpressionConfig:
    """How expressions are drawn."""

    samples: int = 2400
    modes: int = 64
    spread_mm: float = 2.5


@dataclass(frozen=True)
class ExpressionModel:
    """Modes, and the 52 named face units by their coefficients."""

    modes: Modes
    unit_names: tuple[str, ...]
    units: Float[np.ndarray, "units modes"]


def build_expression(
    source: Source,
    cage: Cage,
    base_count: int,
    operator: sparray,
    config: ExpressionConfig,
    rng: np.random.Generator,
) -> ExpressionModel:
    """σ-scaled expression modes on the cage (mm), orthogonal on the full mesh."""
    names, fields = read_units(source, cage, base_count)
    fields = move_eyeballs(fields, cage)
    activations = draw_activations(names, config.samples, rng)
    offsets = (activations @ fields.reshape(len(fields), -1)).reshape(config.samples, -1, 3)
    # N(0, 1) runs expressions forwards and backwards alike. The part common to all expressions (an open mouth) is the most
    # one-sided of all, so it is left out of the variance; it stays within the modes' span.
    offsets -= offsets.mean(axis=0)
    metric = (operator.T @ operator).tocsr()
    modes = principal_modes(offsets, metric, cage.mirror, GEOMETRY_MIRROR, config.modes)
    modes = modes.scaled(config.spread_mm / spread(modes, operator.shape[0]))
    face_units = [i for i, name in enumerate(names) if "-" not in name]
    return ExpressionModel(
        modes, tuple(names[i] for i in face_units), coefficients(modes, metric, fields[face_units])
    )


def read_units(
    source: Source, cage: Cage, base_count: int
) -> tuple[list[str], Float[np.ndarray, "units cage 3"]]:
    """Names and displacements (mm); expression units are named `<origin>/<unit>`."""
    targets = read_targets(source, FACE_UNITS, base_count, cage.base_vertices)
    for origin in ORIGINS:
        units = read_targets(source, f"{TARGETS}/expression/units/{origin}", base_count, cage.base_vertices)
        targets |= {f"{origin}/{name}": field for name, field in units.items()}
    return list(targets), np.stack(list(targets.values()))


def unit_strength(name: str) -> float:
    """How strongly a unit takes part, relative to most others."""
    stem = name.rpartition("/")[2]
    return next((s for prefix, s in UNIT_STRENGTH.items() if stem.startswith(prefix)), 1.0)


def unit_side(name: str) -> tuple[str, str]:
    """(name without its side, side): 'mouthSmileLeft' gives ('mouthSmile', 'left').

    Both eyes look the same way: one turns towards the nose when the other turns away from it.
    """
    if name.startswith(("eyeLookIn", "eyeLookOut")):
        side = "left" if name.endswith("Left") else "right"
        leftwards = name in ("eyeLookInRight", "eyeLookOutLeft")
        return ("eyeLookLeftwards" if leftwards else "eyeLookRightwards"), side
    for left, right in (("Left", "Right"), ("-left-", "-right-")):
        if left in name and not name.startswith(("jawLeft", "mouthLeft")):
            return name.replace(left, ""), "left"
        if right in name and not name.startswith(("jawRight", "mouthRight")):
            return name.replace(right, ""), "right"
    return name, ""


def draw_activations(
    names: list[str], samples: int, rng: np.random.Generator
) -> Float[np.ndarray, "samples units"]:
    """Sparse random activations, about 0 to 1; left and right are nearly equal, one origin per sample."""
    origin = np.array(ORIGINS)[rng.integers(len(ORIGINS), size=samples)]
    activations, shared = np.zeros((samples, len(names))), {}
    for column, name in enumerate(names):
        stem, side = unit_side(name.rpartition("/")[2])
        if stem not in shared:
            active = rng.random(samples) < ACTIVE_SHARE
            shared[stem] = np.where(active, rng.beta(1.5, 1.5, samples), 0.0)
        own = np.where(rng.random(samples) < ACTIVE_SHARE, rng.beta(1.5, 1.5, samples), 0.0)
        c = (PAIRED_MOUTH if stem.startswith(("mouth", "cheek")) else PAIRED) if side else 1.0
        value = unit_strength(name) * np.where(rng.random(samples) < c, shared[stem], own)
        activations[:, column] = value * (origin == name.partition("/")[0]) if "/" in name else value
    return _close_only_open_mouths(names, activations, rng)


def _close_only_open_mouths(
    names: list[str], activations: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """mouthClose undoes jawOpen at the lips; without an open jaw it would push the lips into each other."""
    half = np.where(rng.random(len(activations)) < 0.5, rng.random(len(activations)), 0.0)
    activations[:, names.index("mouthClose")] = half * activations[:, names.index("jawOpen")].clip(0, 1)
    return activations


def move_eyeballs(fields: Float[np.ndarray, "units cage 3"], cage: Cage) -> Float[np.ndarray, "units cage 3"]:
    """The displacements, each eyeball's replaced by its best shift and linear rotation."""
    moved = fields.copy()
    for eye in (1, 2):
        rows = cage.part == eye
        generators = rigid_generators(cage.positions[rows])
        flat = fields[:, rows].reshape(len(fields), -1)
        solution = np.linalg.lstsq(generators, flat.T, rcond=None)[0]
        moved[:, rows] = (generators @ solution).T.reshape(len(fields), -1, 3)
    return moved


def rigid_generators(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "coordinates 6"]:
    """Columns: displacement fields of three shifts and three small rotations about the points' centre."""
    centre = points - points.mean(axis=0)
    shifts = [np.broadcast_to(axis, points.shape) for axis in np.eye(3)]
    turns = [np.cross(axis, centre) for axis in np.eye(3)]
    return np.stack([field.ravel() for field in shifts + turns], axis=1)
