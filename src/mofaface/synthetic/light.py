"""Random light in nine harmonics: ambient light and a few sources, never negative, and the exposure of a photograph.

Directions and normals are in camera axes (x right, y down, z away from us). `total` light holds the ambient
offset that a code's γ leaves out: γ = total − 0.7 in the first harmonic.
"""

import numpy as np
import torch
from jaxtyping import Float

from mofaface.decoder import AMBIENT
from mofaface.harmonics import COUNT, harmonics
from mofaface.sample import COSINE_BANDS
from mofaface.synthetic.config import Light

Total = Float[np.ndarray, "9 3"]
# Directions, evenly over the ball, in which light is kept from being negative.
DIRECTIONS = 400


def random_light(how: Light, rng: np.random.Generator) -> Total:
    """Total light of an ambient part and 1 to `how.sources` soft or hard sources, not yet exposed."""
    total = np.zeros((COUNT, 3))
    total[0] = rng.uniform(0.35, 1.0) * _tint(rng, how.tint)
    for _ in range(rng.integers(1, how.sources + 1)):
        strength = how.contrast * 1.3 * rng.uniform(0.1, 1.0) ** 1.5
        total += strength * _random_source(rng)[:, None] * _tint(rng, how.tint)
    return total


def exposed(total: Total, how: Light, rng: np.random.Generator) -> Total:
    """The light with a random exposure and white balance, kept above `how.darkest` in every direction."""
    front = _H[_NORMALS[:, 2] < 0] * -_NORMALS[_NORMALS[:, 2] < 0, 2:]
    seen = (front @ total).mean() / -_NORMALS[_NORMALS[:, 2] < 0, 2].mean()
    wanted = how.exposure * np.exp(how.exposure_spread * np.clip(rng.normal(), -2, 2))
    balanced = total * (wanted / max(seen, 1e-3)) * _tint(rng, how.tint)
    return never_negative(balanced, how.darkest)


def never_negative(total: Total, darkest: float) -> Total:
    """The light with its contrast reduced as far as no direction gets less than `darkest`, channel by channel."""
    mean = np.maximum(total[0], darkest)
    least = (_H[:, 1:] @ total[1:]).min(0)
    kept = np.clip((mean - darkest) / np.maximum(-least, 1e-9), 0.0, 1.0)
    return np.concatenate((mean[None], total[1:] * kept))


def not_blown_out(total: Total, skin: Float[np.ndarray, "3"], brightest: float) -> Total:
    """The light, weaker where bright skin (RGB) would be brighter than `brightest` in a direction that is seen."""
    seen = (_H[_NORMALS[:, 2] < 0] @ total).max(0)
    return total * min(1.0, brightest / max(float((seen * skin).max()), 1e-3))


def gamma_of(total: Total) -> Float[np.ndarray, "9 3"]:
    """A code's γ of total light."""
    gamma = total.copy()
    gamma[0] -= AMBIENT
    return gamma


def total_of(gamma: Float[np.ndarray, "9 3"]) -> Total:
    """The total light of a code's γ."""
    total = gamma.astype(np.float64)
    total[0] += AMBIENT
    return total


def source(azimuth: float, elevation: float, size: float) -> Float[np.ndarray, "9"]:
    """A white source in a direction (radians; 0, 0 is the camera's), which gives a surface that faces it a shading of
    about 1; the larger it is, from 0 to 1, the less the higher bands hold."""
    level = np.cos(elevation)
    towards = np.array([level * np.sin(azimuth), -np.sin(elevation), -level * np.cos(azimuth)])
    bands = np.array([1.0, *[1 - size / 2] * 3, *[1 - size] * 5])
    return bands * np.array(COSINE_BANDS) * _harmonics(towards[None])[0]


def _random_source(rng: np.random.Generator) -> Float[np.ndarray, "9"]:
    """A source that lies mostly before and above the face."""
    azimuth = float(np.clip(rng.normal(0, 0.9), -2.6, 2.6))
    elevation = float(np.clip(rng.normal(0.5, 0.5), -0.9, 1.4))
    return source(azimuth, elevation, rng.uniform(0.0, 0.7))


def _tint(rng: np.random.Generator, spread: float) -> Float[np.ndarray, "3"]:
    """RGB factors about 1: mostly from warm to cold, a third as much from green to purple."""
    warm, green = spread * np.clip(rng.normal(size=2), -2.5, 2.5) * (1.0, 0.33)
    return np.exp([warm - green, green, -warm - green])


def _harmonics(n: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 9"]:
    return harmonics(torch.from_numpy(n)).numpy()


def _ball(count: int) -> Float[np.ndarray, "count 3"]:
    """Unit vectors on a spiral, evenly over the ball."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, k * np.pi * (1 + 5**0.5)
    level = np.sqrt(1 - z * z)
    return np.stack((level * np.cos(turn), level * np.sin(turn), z), -1)


_NORMALS = _ball(DIRECTIONS)
_H = _harmonics(_NORMALS)
