"""The 68 landmarks of a model: from a list in a file, or found by the detector on a picture of its average face."""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from mofaface.detection import detect_faces
from mofaface.face_models.importers.crop import pieces
from mofaface.face_models.importers.raw import ModelFileError
from mofaface.face_models.surface import Surface, vertex_normals
from mofaface.facemesh import find_mesh
from mofaface.photo import Photo
from mofaface.pictures import clay_colours, surface
from mofaface.rasterizer import rasterize

SIDE = 900  # pixels of the picture in which landmarks are sought
DISTANCE = 3000.0  # mm from which depth is counted; there is no perspective
# Detections with a smaller presence logit show no face (docs/corpus.md).
LEAST_PRESENCE = 0.0
SKIN = np.array([0.86, 0.68, 0.58])
BEHIND_SURFACE = 1.0  # mm


def read_landmarks(path: Path, vertices: int, first: int = 0) -> Int[np.ndarray, "68"]:
    """68 vertex numbers from a .txt, .json or .npy file, in the usual order; `first` is the file's first number."""
    try:
        numbers = _numbers(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"{path} is not a list of landmarks ({error}); give 68 vertex numbers as .txt, .json or .npy"
        ) from error
    if numbers.shape != (68,):
        raise ModelFileError(
            f"landmarks are 68 vertex numbers, {path} has {numbers.size}; list them in the usual order"
        )
    numbers = numbers.astype(np.int64) - first
    if numbers.min() < 0 or numbers.max() >= vertices:
        raise ModelFileError(
            f"landmarks lie between {first} and {vertices - 1 + first}, {path} has "
            f"{numbers.min() + first} to {numbers.max() + first}; check whether they count from 0 or from 1"
        )
    return numbers


def _numbers(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        values = np.load(path, allow_pickle=False)
    elif path.suffix == ".json":
        values = np.array(json.loads(path.read_text(encoding="utf-8")))
    else:
        values = np.array(path.read_text(encoding="utf-8").replace(",", " ").split(), float)
    if values.dtype.kind not in "iuf" or (values != np.rint(values)).any():
        raise ValueError("not whole numbers")
    return values.ravel()


def find_landmarks(
    positions: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
    colours: Float[np.ndarray, "vertices 3"] | None = None,
) -> Int[np.ndarray, "68"]:
    """The vertices where the detector sees the landmarks on the average face, which looks along +z with +y up."""
    uv, depth = frontal_view(positions)
    normals = vertex_normals(Surface(positions.astype(np.float64), triangles))
    clay = clay_colours(normals * [1, -1, -1]) * (SKIN if colours is None else np.clip(colours, 0, 1))
    photo = Photo(surface(uv, depth, triangles, clay, SIDE, SIDE, background=0.85), "the average face")
    found = detect_faces(photo)
    mesh = find_mesh(photo, found.faces[0]) if found.faces else None
    if mesh is None or mesh.presence < LEAST_PRESENCE:
        raise ModelFileError(
            "this model's file names no landmarks and none were found on a picture of its average face; "
            "list 68 vertex numbers in a file and give it with --landmarks"
        )
    allowed = _frontal_skin(uv, depth, triangles)
    return allowed[cKDTree(uv[allowed]).query(mesh.landmarks_68)[1]]


def frontal_view(
    positions: Float[np.ndarray, "vertices 3"],
) -> tuple[Float[np.ndarray, "vertices 2"], Float[np.ndarray, "vertices"]]:
    """Pixels and depth (mm) of all vertices seen from the front, the whole model in the picture."""
    low, high = positions.min(0), positions.max(0)
    scale = 0.8 * SIDE / float((high - low)[:2].max())
    uv = SIDE / 2 + scale * (positions[:, :2] - (low + high)[:2] / 2) * [1, -1]
    return uv, DISTANCE - positions[:, 2].astype(np.float64)


def _frontal_skin(uv: np.ndarray, depth: np.ndarray, triangles: np.ndarray) -> Int[np.ndarray, "allowed"]:
    """The vertices of the largest piece that nothing hides."""
    buffer = rasterize(uv, depth, triangles, SIDE, SIDE).depth
    column, row = np.clip(uv.astype(int), 1, SIDE - 2).T
    around = np.stack([buffer[row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    nearest = np.where(np.isinf(around), -1.0, around).max(0)
    piece = pieces(triangles, len(uv))
    largest = np.bincount(piece[triangles[:, 0]]).argmax()
    return np.flatnonzero((depth < nearest + BEHIND_SURFACE) & (piece == largest))
