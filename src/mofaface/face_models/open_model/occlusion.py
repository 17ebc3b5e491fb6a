"""How much of the sky each vertex sees: the soft darkness of nostrils, lids and the mouth's corners."""

import numpy as np
from jaxtyping import Float, Int

from mofaface.rasterizer import rasterize

RESOLUTION = 420
TOLERANCE_MM = 1.2
DISTANCE_MM = 1e5  # so far that the pinhole camera is parallel to within the tolerance


def front_directions(count: int) -> Float[np.ndarray, "directions 3"]:
    """Unit vectors spread over the front half of the sphere, with their mirror images."""
    i = np.arange(count) + 0.5
    z = 0.15 + 0.85 * i / count
    turn = np.pi * (1 + 5**0.5) * i
    radius = np.sqrt(1 - z * z)
    half = np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)
    return np.concatenate([half, half * [-1.0, 1.0, 1.0]])


def sky_share(
    positions: Float[np.ndarray, "vertices 3"],
    normals: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    count: int = 40,
) -> Float[np.ndarray, "vertices"]:
    """Share in [0, 1] of the front sky's light, weighted by the cosine, that reaches each vertex."""
    seen, total = np.zeros(len(positions)), np.full(len(positions), 1e-9)
    for direction in front_directions(count):
        weight = np.clip(normals @ direction, 0, None)
        seen += weight * _visible(positions, triangles, direction)
        total += weight
    return seen / total


def _visible(positions: np.ndarray, triangles: np.ndarray, direction: np.ndarray) -> np.ndarray:
    right = np.cross([0.0, 1.0, 0.0], direction)
    right /= np.linalg.norm(right)
    down = -np.cross(direction, right)
    centred = positions - positions.mean(axis=0)
    x, y, depth = centred @ right, centred @ down, DISTANCE_MM - centred @ direction
    scale = 0.9 * RESOLUTION / (2 * np.abs(centred).max())
    uv = np.stack([x, y], axis=1) * scale + RESOLUTION / 2
    buffer = rasterize(uv, depth, triangles, RESOLUTION, RESOLUTION, cull_back=False).depth
    column, row = np.clip(uv.astype(int), 0, RESOLUTION - 1).T
    return depth <= buffer[row, column] + TOLERANCE_MM + 1.0 / scale
