"""A little synthetic face model, a bumpy open shell with smooth random bases: tests need no asset."""

import numpy as np
import torch

from mofaface.code import Code, CodeLayout
from mofaface.face_model import FaceModel, FaceModelArrays

LITTLE = CodeLayout(shape=5, expression=4, reflectance=3)


def little_arrays(side: int = 9, layout: CodeLayout = LITTLE, seed: int = 0) -> FaceModelArrays:
    """A model of side² vertices; from side 17 on, every second row and column is its coarse mesh."""
    random = np.random.default_rng(seed)
    v, u = (axis.ravel() for axis in np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij"))
    waves = _waves(u, v)
    return FaceModelArrays(
        name="little",
        version="0",
        licence="CC0-1.0",
        mean_shape=_shell(u, v).astype(np.float32),
        shape_basis=_basis(waves, layout.shape, 3.0, random),
        expression_basis=_basis(waves, layout.expression, 2.0, random),
        mean_reflectance=(0.6 + 0.08 * _colours(waves, random)).astype(np.float32),
        reflectance_basis=_basis(waves, layout.reflectance, 0.03, random),
        triangles=grid_triangles(side),
        landmarks_68=_landmarks(side, u, v),
        uv=np.stack((u, v), -1).astype(np.float32) / 2 + 0.5,
        mirror=np.arange(side**2).reshape(side, side)[:, ::-1].ravel().copy(),
        coarse_vertices=_even_vertices(side) if side >= 17 else None,
        coarse_triangles=grid_triangles(side // 2 + 1) if side >= 17 else None,
        regions={"top": np.flatnonzero(v > 0.5)},
        unit_names=("smile", "blink"),
        units_expression=random.normal(size=(2, layout.expression)).astype(np.float32),
    )


def little_model(side: int = 9, layout: CodeLayout = LITTLE, seed: int = 0) -> FaceModel:
    """The same in tensors, float64."""
    return FaceModel(little_arrays(side, layout, seed)).double()


def grid_triangles(side: int) -> np.ndarray:
    """Triangles of a grid whose rows go up and columns right, counter-clockwise from the front."""
    corner = np.arange(side**2).reshape(side, side)[:-1, :-1].ravel()
    lower = np.stack((corner, corner + 1, corner + side + 1), -1)
    upper = np.stack((corner, corner + side + 1, corner + side), -1)
    return np.concatenate((lower, upper))


def random_code(layout: CodeLayout, seed: int = 0, batch: int = 1, size: float = 1.0) -> Code:
    """Codes as on photographs, float64: coefficients of `size`, turns to 20°, places to 15 mm."""
    random = torch.Generator().manual_seed(seed)
    parts = {
        name: torch.randn(batch, n, dtype=torch.float64, generator=random) for name, n in layout.sizes.items()
    }
    scales = {"rotation": 0.15, "translation": 6.0, "gamma": 0.05}
    parts = {name: size * scales.get(name, 1.0) * part for name, part in parts.items()}
    parts["gamma"] = parts["gamma"].reshape(batch, 9, 3)
    return Code(**parts)


def smooth_image(seed: int = 0, size: int = 240) -> torch.Tensor:
    """A smooth random picture, (1, 3, size, size) float64 in [0, 1]."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(*[np.arange(size) / size] * 2, indexing="ij")
    channels = []
    for _ in range(3):
        a, b, phase = random.uniform(3, 12, 3)
        channels.append(0.5 + 0.25 * np.sin(a * x + phase) + 0.2 * np.cos(b * y - phase * x))
    return torch.tensor(np.stack(channels))[None]


def _shell(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b = 1.35 * u, 1.35 * v
    nose = 18 * np.exp(-(u**2 + (v + 0.1) ** 2) / 0.03)
    bumps = 2 * np.sin(5 * u + 1) * np.cos(4 * v)
    return np.stack(
        (75 * np.sin(a) * np.cos(b), 95 * np.sin(b), 85 * np.cos(a) * np.cos(b) - 40 + nose + bumps), -1
    )


def _waves(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    powers = [(i, j) for i in range(6) for j in range(6)]
    return np.stack([np.cos(i * 1.3 * u + 0.4 * j) * np.cos(j * 1.3 * v + 0.7 * i) for i, j in powers], -1)


def _basis(waves: np.ndarray, modes: int, scale: float, random: np.random.Generator) -> np.ndarray:
    weights = random.normal(size=(waves.shape[1], 3 * modes)) / np.sqrt(waves.shape[1])
    return (scale * waves @ weights).reshape(len(waves), 3, modes).astype(np.float32)


def _colours(waves: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return waves @ random.normal(size=(waves.shape[1], 3)) / 3


def _even_vertices(side: int) -> np.ndarray:
    return np.arange(side**2).reshape(side, side)[::2, ::2].ravel()


def _landmarks(side: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    candidates = _even_vertices(side) if side >= 17 else np.arange(side**2)
    return candidates[np.argsort((u**2 + v**2)[candidates], kind="stable")[:68]]
