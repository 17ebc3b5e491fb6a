"""Pieces of a scene: coloured surfaces in model space, made of grids of points."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int64


@dataclass(frozen=True)
class Piece:
    """A surface in model space (mm), with unit normals and reflectance (RGB) per vertex."""

    x: Float[np.ndarray, "vertices 3"]
    n: Float[np.ndarray, "vertices 3"]
    reflectance: Float[np.ndarray, "vertices 3"]
    triangles: Int64[np.ndarray, "triangles 3"]


def sheet(
    x: Float[np.ndarray, "rows columns 3"],
    reflectance: Float[np.ndarray, "#rows #columns 3"],
    closed: bool = False,
    centre: Float[np.ndarray, "3"] | None = None,
    two_sided: bool = False,
) -> Piece:
    """The surface through a grid of points, seen from the side to which rows × columns points, or, with a `centre`,
    from outside of that.

    `closed` joins the last column to the first. The inner side of a two-sided sheet is half as bright.
    """
    rows, columns = x.shape[:2]
    n = unit(np.cross(np.gradient(x, axis=0), _along(x, closed)))
    inwards = centre is not None and float(((x - centre) * n).sum()) < 0
    triangles = _triangles(rows, columns, closed, inwards)
    x, n = x.reshape(-1, 3), (-n if inwards else n).reshape(-1, 3)
    colours = np.broadcast_to(reflectance, (rows, columns, 3)).reshape(-1, 3)
    if two_sided:
        back = _triangles(rows, columns, closed, not inwards) + len(x)
        return Piece(
            np.concatenate((x, x)),
            np.concatenate((n, -n)),
            np.concatenate((colours, 0.5 * colours)),
            np.concatenate((triangles, back)),
        )
    return Piece(x, n, colours, triangles)


def tube(
    path: Float[np.ndarray, "points 3"],
    radius: float,
    reflectance: Float[np.ndarray, "3"],
    closed: bool = False,
) -> Piece:
    """A round bar along a path, mm; `closed` joins its ends."""
    path = np.concatenate((path, path[:1])) if closed else path
    along = unit(np.gradient(path, axis=0))
    across = unit(np.cross(along, (0.12, 0.24, 0.96)))
    up = np.cross(along, across)
    turn = np.arange(6) * np.pi / 3
    ring = np.cos(turn)[:, None] * across[:, None] + np.sin(turn)[:, None] * up[:, None]
    x = path[:, None] + radius * ring
    piece = sheet(x, np.asarray(reflectance)[None, None], closed=True)
    outwards = ring.reshape(-1, 3)
    if (piece.n * outwards).sum() < 0:
        return Piece(piece.x, outwards, piece.reflectance, piece.triangles[:, ::-1])
    return Piece(piece.x, outwards, piece.reflectance, piece.triangles)


def ball(
    centre: Float[np.ndarray, "3"],
    radii: Float[np.ndarray, "3"],
    reflectance: Float[np.ndarray, "3"],
    rows: int = 16,
    columns: int = 24,
) -> Piece:
    """An ellipsoid, mm."""
    elevation = np.linspace(-np.pi / 2 + 1e-3, np.pi / 2 - 1e-3, rows)
    azimuth = np.arange(columns) * 2 * np.pi / columns
    x = centre + radii * directions(azimuth[None], elevation[:, None])
    return sheet(x, np.asarray(reflectance)[None, None], closed=True, centre=centre)


def directions(
    azimuth: Float[np.ndarray, "*#grid"], elevation: Float[np.ndarray, "*#grid"]
) -> Float[np.ndarray, "... 3"]:
    """Unit vectors in model space: azimuth 0 out of the face, π/2 to the subject's left; elevation π/2 up."""
    level, azimuth = np.cos(elevation), azimuth + 0 * elevation
    return np.stack((level * np.sin(azimuth), np.sin(elevation) + 0 * azimuth, level * np.cos(azimuth)), -1)


def unit(v: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Unit vectors along v; zero where v is."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def smoothstep(x: Float[np.ndarray, "*grid"]) -> Float[np.ndarray, "*grid"]:
    """From 0 at 0 to 1 at 1, flat at both ends."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _along(x: np.ndarray, closed: bool) -> np.ndarray:
    """Differences along the columns."""
    if closed:
        return np.roll(x, -1, 1) - np.roll(x, 1, 1)
    return np.gradient(x, axis=1)


@cache
def _triangles(rows: int, columns: int, closed: bool, flipped: bool) -> Int64[np.ndarray, "triangles 3"]:
    i, j = (
        g.ravel()
        for g in np.meshgrid(
            np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij"
        )
    )
    right = (j + 1) % columns
    a, b, c, d = i * columns + j, (i + 1) * columns + j, i * columns + right, (i + 1) * columns + right
    triangles = np.concatenate((np.stack((a, b, c), -1), np.stack((c, b, d), -1)))
    return triangles[:, ::-1].copy() if flipped else triangles
