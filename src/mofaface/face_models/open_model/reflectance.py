"""Reflectance: skin from melanin and haemoglobin, brows, lips, beard and eyes, times smooth fields.

A prior, painted and drawn at random; nothing was measured on people. Colours are sRGB-encoded in [0, 1];
pigments act on their logarithm, where melanin and haemoglobin are almost linear.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import diags_array
from scipy.sparse.linalg import eigsh

from mofaface.face_models.gaussian_process import cotangent_laplacian
from mofaface.face_models.open_model.modes import COLOUR_MIRROR, Modes, principal_modes
from mofaface.face_models.open_model.paint import (
    IRIS_RADIUS,
    PUPIL_RADIUS,
    Canvas,
    blob,
    brow_mask,
    eye_radius,
    near_points,
    smoothstep,
)

# From the lightest to the darkest skin; a melanin value is a place on this list, 0 to 5.
SKIN = (
    np.array([(240, 203, 186), (226, 181, 154), (201, 152, 120), (158, 110, 82), (110, 74, 55), (72, 48, 38)])
    / 255.0
)
HAEMOGLOBIN = np.array([0.30, 1.0, 0.75])
YELLOW = np.array([0.0, 0.25, 1.0])
HAIR = np.array([(150, 112, 76), (104, 72, 50), (66, 47, 37), (38, 30, 27)]) / 255.0
IRIS = np.array([(54, 35, 25), (84, 56, 36), (112, 86, 54), (108, 114, 84), (116, 138, 154)]) / 255.0
SCLERA = np.array((214, 203, 196)) / 255.0
PUPIL = np.array((16, 13, 12)) / 255.0
MOUTH = np.array((92, 46, 42)) / 255.0
STRAIGHTENED = 0.7
DARKEST_FOLD = 0.45  # light that reaches the deepest folds, as a share


@dataclass(frozen=True)
class ReflectanceConfig:
    """How reflectances are drawn; amplitudes are standard deviations."""

    samples: int = 1500
    modes: int = 80
    fields: int = 48  # smooth functions on the skin
    melanin_mean: float = 1.9
    melanin_spread: float = 1.15
    tone: float = 0.04  # overall lightness at equal melanin, log units
    haemoglobin: float = 0.05
    yellow: float = 0.03
    field_melanin: float = 0.11
    field_haemoglobin: float = 0.035
    field_lightness: float = 0.04
    antisymmetric: float = 0.45  # amplitude of a field's odd part relative to its even part


@dataclass(frozen=True)
class ReflectanceModel:
    """Mean and modes in sRGB; `outside` is the share of values of random faces outside [0, 1]."""

    mean: Float[np.ndarray, "vertices 3"]
    modes: Modes
    outside: float


@dataclass(frozen=True)
class Painting:
    """What does not change from person to person: masks and smooth fields per vertex."""

    canvas: Canvas
    lips: Float[np.ndarray, "vertices"]
    eyelids: Float[np.ndarray, "vertices"]
    mouth: Float[np.ndarray, "vertices"]
    beard: Float[np.ndarray, "vertices"]
    light: Float[np.ndarray, "vertices"]
    lashes: Float[np.ndarray, "vertices"]
    fields: Float[np.ndarray, "vertices fields"]
    amplitude: Float[np.ndarray, "fields"]  # falls with the eigenvalue; odd fields are weaker than even ones


def build_reflectance(
    painting: Painting,
    mirror: Int[np.ndarray, "vertices"],
    config: ReflectanceConfig,
    rng: np.random.Generator,
) -> ReflectanceModel:
    """Mean and σ-scaled modes of reflectance at full resolution."""
    faces = np.stack([draw_face(painting, config, rng) for _ in range(config.samples)]).astype(np.float32)
    mean = faces.mean(axis=0)
    mean = 0.5 * (mean + mean[mirror])
    modes = principal_modes(faces - mean, None, mirror, COLOUR_MIRROR, config.modes)
    return ReflectanceModel(mean.astype(np.float64), modes, share_outside(mean, modes, rng))


def share_outside(mean: Float[np.ndarray, "vertices 3"], modes: Modes, rng: np.random.Generator) -> float:
    """Share of the values of 200 random faces of the model that lie outside [0, 1]."""
    beta = rng.standard_normal((200, len(modes.sigma))).astype(np.float32)
    faces = mean.ravel() + beta @ modes.basis.reshape(mean.size, -1).T.astype(np.float32)
    return float(((faces < 0) | (faces > 1)).mean())


def skin_colour(melanin: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 3"]:
    """sRGB of skin by melanin 0 to 5, log-linear between the anchors, then mostly straightened."""
    log = np.log(SKIN)
    place = np.clip(melanin, -0.6, 5.4)
    low = np.clip(np.floor(place).astype(int), 0, len(SKIN) - 2)
    t = (place - low)[..., None]
    curved = np.exp(log[low] * (1 - t) + log[low + 1] * t)
    # The curve of skin tones bends in sRGB. A linear model would turn the bend into a mode of its own, grey
    # skins at one end and orange ones at the other, so most of it is taken out, towards a straight line.
    share = (curved[..., :1] - SKIN[4, 0]) / (SKIN[1, 0] - SKIN[4, 0])
    straight = SKIN[4] + share * (SKIN[1] - SKIN[4])
    return STRAIGHTENED * straight + (1 - STRAIGHTENED) * curved


def draw_field(painting: Painting, rng: np.random.Generator) -> Float[np.ndarray, "vertices"]:
    """A smooth random function on the skin with unit variance on average, zero on the eyes."""
    return painting.fields @ (painting.amplitude * rng.standard_normal(len(painting.amplitude)))


def draw_face(
    painting: Painting, config: ReflectanceConfig, rng: np.random.Generator
) -> Float[np.ndarray, "vertices 3"]:
    """The reflectance of one random person."""
    melanin = float(np.clip(rng.normal(config.melanin_mean, config.melanin_spread), 0.0, 5.0))
    colour = draw_skin(painting, melanin, config, rng)
    colour = paint_lips(painting, colour, melanin, rng)
    colour = paint_hair(painting, colour, melanin, rng)
    colour = colour * painting.light[:, None] ** rng.uniform(0.6, 1.0)
    colour = mix(colour, MOUTH * (1 - 0.06 * melanin), 0.85 * painting.mouth)
    eyes = draw_eyes(painting.canvas, melanin, rng)
    return np.where((painting.canvas.part > 0)[:, None], eyes, colour)


def mix(colour: np.ndarray, paint: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`paint` over `colour` with opacity `alpha` per vertex."""
    return colour + alpha[:, None] * (paint - colour)


def draw_skin(
    painting: Painting, melanin: float, config: ReflectanceConfig, rng: np.random.Generator
) -> Float[np.ndarray, "vertices 3"]:
    """Bare skin: one melanin level, blood where faces are red, and smooth random fields."""
    canvas, draw = painting.canvas, rng.normal
    local = melanin + config.field_melanin * draw_field(painting, rng)
    local = local + draw(0.12, 0.12) * blob(canvas, 24, 716, 9, 6) + draw(0.10, 0.10) * painting.eyelids
    blood = config.haemoglobin * draw() + config.field_haemoglobin * draw_field(painting, rng)
    blush = draw(0.055, 0.05) * blob(canvas, 36, 690, 14, 12) + draw(0.05, 0.04) * blob(
        canvas, 0, 676, 11, 12
    )
    light = config.tone * draw() + config.field_lightness * draw_field(painting, rng)
    red = (blood + blush)[:, None] * HAEMOGLOBIN * (1 - 0.09 * melanin)
    tint = config.yellow * draw() * YELLOW
    return skin_colour(local) * np.exp(light[:, None] - red - tint)


def paint_lips(
    painting: Painting, colour: np.ndarray, melanin: float, rng: np.random.Generator
) -> Float[np.ndarray, "vertices 3"]:
    """Lips: darker and redder than the skin about them, less so on dark skin."""
    fade = 1 - 0.13 * melanin
    strength = np.clip(rng.normal(1.0, 0.35), 0.2, 2.2)
    absorbed = strength * (np.array((0.10, 0.40, 0.32)) * fade + np.array((0.06, 0.08, 0.05)))
    return colour * np.exp(-painting.lips[:, None] * absorbed)


def paint_hair(
    painting: Painting, colour: np.ndarray, melanin: float, rng: np.random.Generator
) -> Float[np.ndarray, "vertices 3"]:
    """Brows, lashes, and for some a shaven or grown beard; hair is always darker than the skin under it."""
    canvas = painting.canvas
    shade = np.clip(rng.normal(1.4 + 0.35 * melanin, 0.7), 0.3, 3.0)
    hair = np.exp([np.interp(shade, range(4), channel) for channel in np.log(HAIR).T])
    skin = skin_colour(np.array(melanin))
    hair = np.minimum(hair, 0.75 * skin)
    brow = brow_mask(canvas, rng.uniform(0.75, 1.25), rng.normal(0.0, 1.1), rng.uniform(1.6, 3.0))
    colour = mix(colour, hair, np.clip(rng.normal(0.62, 0.13), 0.3, 0.95) * brow)
    colour = mix(colour, 0.5 * hair, rng.uniform(0.7, 1.2) * painting.lashes)
    kind = rng.random()
    density = 0.0 if kind < 0.55 else rng.uniform(0.05, 0.20) if kind < 0.87 else rng.uniform(0.2, 0.55)
    stubble = 0.5 * hair + 0.3 * skin * (1 - 0.5 * density)
    return mix(colour, stubble, density * painting.beard)


def lash_mask(canvas: Canvas) -> Float[np.ndarray, "vertices"]:
    """Opacity of the lashes along the margins of the lids, dense on the upper one."""
    upper, lower = near_points(canvas, canvas.upper_lid, 2.0), near_points(canvas, canvas.lower_lid, 1.6)
    return np.clip(0.62 * upper + 0.20 * lower, 0, 0.8)


def draw_eyes(canvas: Canvas, melanin: float, rng: np.random.Generator) -> Float[np.ndarray, "vertices 3"]:
    """White, iris and pupil; dark skin goes with brown eyes. Skin vertices get values that nobody reads."""
    radius = eye_radius(canvas)
    light_eyed = rng.random() < 0.65 - 0.28 * melanin
    place = rng.uniform(1.5, 4.0) if light_eyed else rng.uniform(0.0, 1.6)
    iris = np.array([np.interp(place, range(len(IRIS)), channel) for channel in IRIS.T])
    white = SCLERA * (1 + rng.normal(0, 0.04)) * np.array((1.0, 1 - 0.006 * melanin, 1 - 0.02 * melanin))
    colour = np.broadcast_to(white, (len(radius), 3)) * _lid_shadow(canvas)[:, None]
    rim = smoothstep(radius, IRIS_RADIUS - 2.4, IRIS_RADIUS - 0.4)
    colour = mix(colour, iris, 1 - smoothstep(radius, IRIS_RADIUS - 0.7, IRIS_RADIUS + 0.7))
    colour = colour * (1 - 0.35 * rim * (radius < IRIS_RADIUS + 0.7))[:, None]
    return mix(colour, PUPIL, 1 - smoothstep(radius, PUPIL_RADIUS - 0.6, PUPIL_RADIUS + 0.8))


def _lid_shadow(canvas: Canvas) -> np.ndarray:
    """The upper lid and its lashes shade the upper part of the eyeball; the corners are darker, too."""
    y = canvas.positions[:, 1] - 728.42
    x = np.abs(np.abs(canvas.positions[:, 0]) - 30.78)
    return (
        (1 - 0.38 * smoothstep(y, 0.5, 5.5))
        * (1 - 0.18 * smoothstep(x, 7.0, 13.0))
        * (1 - 0.15 * smoothstep(-y, 2, 6))
    )


def smooth_fields(
    positions: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    skin: np.ndarray,
    mirror: Int[np.ndarray, "vertices"],
    count: int,
) -> tuple[Float[np.ndarray, "vertices fields"], Float[np.ndarray, "fields"], Float[np.ndarray, "fields"]]:
    """Laplacian eigenfunctions of the skin (unit mean square), their eigenvalues (1/mm²) and parities ±1."""
    rows = np.flatnonzero(skin)
    number = np.full(len(positions), -1)
    number[rows] = np.arange(len(rows))
    faces = number[triangles[skin[triangles].all(axis=1)]]
    stiffness, mass = cotangent_laplacian(positions[rows], faces)
    start = np.linspace(0.5, 1.5, len(rows))  # a fixed start makes the solver deterministic
    values, vectors = eigsh(stiffness, count + 1, diags_array(mass), sigma=-1e-6, which="LM", v0=start)
    values, vectors = values[1:], vectors[:, 1:]  # the first is constant
    opposite = vectors[number[mirror[rows]]]
    parity = np.sign((vectors * opposite * mass[:, None]).sum(axis=0))
    vectors = 0.5 * (vectors + parity * opposite)
    vectors /= np.sqrt((mass[:, None] * vectors**2).sum(axis=0) / mass.sum())
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    fields = np.zeros((len(positions), count))
    fields[rows] = vectors
    return fields, values, parity
