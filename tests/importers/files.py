"""A little head in the layouts that model files have, written with the field's own writers."""

from pathlib import Path

import numpy as np
from little_face import grid_triangles, little_arrays

SIDE = 9
MEAN = little_arrays(SIDE).mean_shape.astype(np.float64)
TRIANGLES = grid_triangles(SIDE)
N = len(MEAN)


def basis(k: int, scale: float, seed: int, n: int = N) -> np.ndarray:
    """(3n, k) orthonormal columns times a scale."""
    return scale * np.linalg.qr(np.random.default_rng(seed).normal(size=(3 * n, k)))[0]


def sigmas(k: int, seed: int = 0) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).uniform(1, 9, k))[::-1].copy()


def vertices(raw, alpha: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """A_s + E_s α + E_e δ of a raw model, mm."""
    return raw.mean_shape + raw.shape_basis @ alpha + raw.expression_basis @ delta


def code(k: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=k)


def write_bfm2009(
    path: Path, k: int = 5, n: int = N, mean: np.ndarray = MEAN, triangles: np.ndarray = TRIANGLES
) -> dict:
    """01_MorphableModel.mat, micrometres, texture 0 to 255, triangles from 1 and wound the other way."""
    from scipy.io import savemat

    parts = {
        "shapeMU": 1000 * mean.reshape(-1, 1), "shapePC": basis(k, 1, 1, n), "shapeEV": 1000 * sigmas(k)[:, None],
        "texMU": np.random.default_rng(2).uniform(60, 200, (3 * n, 1)), "texPC": basis(k, 1, 3, n),
        "texEV": 100 * sigmas(k, 1)[:, None], "tl": triangles[:, [0, 2, 1]] + 1,
    }  # fmt: skip
    savemat(path, parts)
    return parts
