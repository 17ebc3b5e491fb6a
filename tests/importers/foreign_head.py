"""A raw model of a whole head around the open model's face: an ellipsoid with eyeballs and things nobody sees."""

from functools import cache

import numpy as np

from mofaface.face_model import FaceModelArrays
from mofaface.face_models import find_face_model
from mofaface.face_models.container import read_arrays
from mofaface.face_models.importers.raw import RawModel

CENTRE = np.array([4.0, 1500.0, 20.0])


@cache
def open_model() -> FaceModelArrays:
    """The open model with geometry on its vertices."""
    return read_arrays(find_face_model("open"))[0].subdivided()


def ball(centre, radii, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid whose poles lie on the y axis, triangles counter-clockwise from outside."""
    v, u = np.meshgrid(
        np.linspace(-1.5, 1.5, rows), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij"
    )
    x = np.stack((np.cos(v) * np.sin(u), np.sin(v), np.cos(v) * np.cos(u)), -1).reshape(-1, 3)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij"))
    a, b, c, d = (
        i * columns + j,
        i * columns + (j + 1) % columns,
        (i + 1) * columns + (j + 1) % columns,
        (i + 1) * columns + j,
    )
    return centre + x * radii, np.concatenate((np.stack((a, b, c), -1), np.stack((a, c, d), -1)))


def foreign_head(modes: tuple[int, int, int] = (6, 4, 0), seed: int = 0) -> RawModel:
    """A head without a face: landmarks where the open model has them, a ball inside it, and one beside each eye."""
    marks = open_model().mean_shape[open_model().landmarks_68]
    head, faces = ball((0, 10, -60), (75, 115, 90), 70, 90)
    inner, inner_faces = ball((0, -30, -30), (15, 10, 10), 9, 12)
    eye, eye_faces = ball((30, 40, 10), (12, 12, 12), 17, 24)
    positions = np.concatenate((head, inner, eye))
    triangles = np.concatenate((faces, inner_faces + len(head), eye_faces + len(head) + len(inner)))
    front = np.flatnonzero(head[:, 2] > -60)
    # The vertex of the head that lies before each landmark.
    near = ((head[front, None, :2] - marks[None, :, :2]) ** 2).sum(-1).argmin(0)
    random = np.random.default_rng(seed)

    def basis(count: int, scale: float) -> np.ndarray:
        waves = np.sin(positions @ random.normal(0, 0.02, (3, 3 * count)) + random.uniform(0, 6, 3 * count))
        return scale * waves.reshape(len(positions), 3, count) * np.linspace(2, 1, count)

    shape, expression, colour = modes
    return RawModel(
        name="foreign",
        version="1",
        licence="ask its owner",
        mean_shape=positions + CENTRE,
        shape_basis=basis(shape, 2.0),
        expression_basis=basis(expression, 1.0),
        triangles=triangles,
        mean_reflectance=np.full((len(positions), 3), 0.5) if colour else None,
        reflectance_basis=basis(colour, 0.02) if colour else None,
        landmarks_68=front[near],
        uv=positions[:, :2] / 200,
        unit_names=("one", "two"),
        units=np.eye(2, expression),
    )
