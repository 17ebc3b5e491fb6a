"""Portraits that may be shipped, seen on the face model's vertices: pose and shape by landmarks, then colours per vertex.

No trained network takes part, because networks are trained for the model that is built here.
"""

import logging
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mofaface.camera import Camera, extrinsics, project
from mofaface.crop import cut_crop
from mofaface.detection import detect_faces
from mofaface.face_model import FaceModel
from mofaface.face_models.open_model.landmarks import SEEN_POINTS
from mofaface.facemesh import find_mesh
from mofaface.mesh import vertex_normals
from mofaface.photo import PhotoError, read_photo
from mofaface.rasterizer import rasterize
from mofaface.rotation import rotation_matrix
from mofaface.sampling import sample_bilinear
from mofaface.similarity import Similarity

LOG = logging.getLogger(__name__)
SUFFIXES = (".jpg", ".jpeg", ".png")
# Standard deviation of a detected landmark, pixels of the crop; the outline's 17 slide along the cheek.
INNER_SIGMA, OUTLINE_SIGMA, OUTLINE = 1.0, 6.0, 17
STEPS = 12
# The warp that takes the fit's landmarks to the detected ones is smooth over this distance, pixels of the crop.
WARP_REACH, WARP_NOISE = 14.0, 0.3
# Vertices seen at a grazing angle tell little: weights rise from zero to one between these cosines.
GRAZING, FACING = 0.25, 0.6
# A vertex this far, mm, behind what a pixel shows is hidden.
BEHIND = 4.0
FACE_SIZE = 480  # pixels of the square crop that colours are read from


@dataclass(frozen=True)
class Sighting:
    """One portrait on the model's vertices."""

    name: str
    colour: Float[np.ndarray, "vertices 3"]
    """RGB in [0, 1], averaged over the area that a vertex stands for."""
    normal: Float[np.ndarray, "vertices 3"]
    """Unit normals in camera space."""
    weight: Float[np.ndarray, "vertices"]
    """How much the photo says about the vertex, 0 to 1: hidden and grazing ones say nothing."""


def read_portraits(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every picture in these folders and tar archives, in the order of their names."""
    for path in paths:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
                yield file.name, file.read_bytes()
            continue
        with tarfile.open(path) as archive:
            members = (m for m in archive.getmembers() if Path(m.name).suffix.lower() in SUFFIXES)
            for member in sorted(members, key=lambda m: m.name):
                content = archive.extractfile(member)
                if content is not None:
                    yield member.name, content.read()


def sightings(portraits: list[Path], model: FaceModel) -> list[Sighting]:
    """Every portrait with a face, on the vertices of the model; the others are named in the log."""
    seen = []
    for name, content in read_portraits(portraits):
        try:
            sighting = see(name, content, model)
        except PhotoError as error:
            LOG.warning("%s left out: %s", name, error)
            continue
        if sighting is None:
            LOG.warning("%s left out: no face", name)
            continue
        seen.append(sighting)
        if len(seen) % 100 == 0:
            LOG.info("%d portraits read", len(seen))
    return seen


@torch.no_grad()
def see(name: str, content: bytes, model: FaceModel) -> Sighting | None:
    """The largest face of a photo on the model's vertices; None where there is none."""
    photo = read_photo(content)
    boxes = detect_faces(photo).faces
    if not boxes:
        return None
    crop, camera = cut_crop(photo, boxes[0]), Camera()
    mesh = find_mesh(photo, boxes[0])
    landmarks = crop.photo_from_crop.inverse().apply(mesh.places(SEEN_POINTS))
    confidence = mesh.confidences(SEEN_POINTS)
    x_camera, normal = _posed(model, fit_landmarks(model, camera, landmarks, confidence))
    uv = project(x_camera, camera).numpy()
    warped = uv + warp(uv, uv[model.landmarks_68[OUTLINE:]], landmarks[OUTLINE:])
    picture = _enlarged(photo.pixels, crop.photo_from_crop)
    colour = sample_bilinear(picture, torch.from_numpy(warped * FACE_SIZE / camera.size)[None].float())
    towards = -(x_camera * normal).sum(-1).numpy() / x_camera.norm(dim=-1).numpy()
    weight = np.clip((towards - GRAZING) / (FACING - GRAZING), 0, 1)
    weight *= visible(uv, x_camera[:, 2].numpy(), model.triangles.numpy(), camera.size)
    inside = ((warped > 1) & (warped < camera.size - 1)).all(axis=1)
    return Sighting(name, colour[0].numpy(), normal.numpy(), weight * inside)


def fit_landmarks(
    model: FaceModel, camera: Camera, places: Float[np.ndarray, "68 2"], confidence: Float[np.ndarray, "68"]
) -> Float[Tensor, "size"]:
    """Rotation, translation, α and δ that explain the landmarks best under N(0, 1) coefficients (Gauss–Newton)."""
    marks = model.landmarks_68
    mean = model.mean_shape[marks].double()
    basis = torch.cat([model.shape_basis[marks], model.expression_basis[marks]], -1).double()
    sigma = np.where(np.arange(68) < OUTLINE, OUTLINE_SIGMA, INNER_SIGMA) / np.sqrt(
        np.maximum(confidence, 0.05)
    )
    goal, weight = torch.from_numpy(places), torch.from_numpy(1 / sigma)

    def residuals(x: Tensor) -> Tensor:
        R, t = extrinsics(rotation_matrix(x[:3]), x[3:6], camera)
        seen = project((mean + basis @ x[6:]) @ R.mT + t, camera)
        return torch.cat([((seen - goal) * weight[:, None]).flatten(), x[6:]])

    x = torch.zeros(6 + basis.shape[-1], dtype=torch.float64)
    for _ in range(STEPS):
        J, r = torch.func.jacfwd(residuals)(x), residuals(x)
        # A little damping: far from the solution the first steps would overshoot.
        x = x - torch.linalg.solve(J.mT @ J + 1e-6 * torch.eye(len(x), dtype=x.dtype), J.mT @ r)
    return x


def _posed(
    model: FaceModel, x: Float[Tensor, "size"]
) -> tuple[Float[Tensor, "vertices 3"], Float[Tensor, "vertices 3"]]:
    """Vertices and normals in camera space."""
    shape = model.layout.shape
    coefficients = x[6:].float()[None]
    V = model.geometry(coefficients[:, :shape], coefficients[:, shape:])
    R, t = extrinsics(rotation_matrix(x[:3].float()), x[3:6].float(), Camera())
    return (V @ R.mT + t)[0], (vertex_normals(V, model.triangles) @ R.mT)[0]


def warp(
    uv: Float[np.ndarray, "points 2"], source: Float[np.ndarray, "k 2"], goal: Float[np.ndarray, "k 2"]
) -> Float[np.ndarray, "points 2"]:
    """Shifts of points, smooth over the picture, that take `source` almost to `goal` (kriging)."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * (((a[:, None] - b[None]) / WARP_REACH) ** 2).sum(axis=-1))

    weights = np.linalg.solve(kernel(source, source) + WARP_NOISE**2 * np.eye(len(source)), goal - source)
    return kernel(uv, source) @ weights


def _enlarged(pixels: np.ndarray, photo_from_crop: Similarity) -> Float[Tensor, "1 3 height width"]:
    """The crop at FACE_SIZE, each pixel the mean over about a vertex' area."""
    scale = photo_from_crop.scale * 240 / FACE_SIZE
    blurred = cv2.GaussianBlur(pixels, (0, 0), max(0.8 / max(scale, 0.2) * scale * 0.6, 0.3))
    fine = Similarity(scale, photo_from_crop.angle, photo_from_crop.tx, photo_from_crop.ty)
    matrix = fine.matrix()
    matrix[:, 2] += fine.linear() @ [0.5, 0.5] - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    square = cv2.warpAffine(
        blurred, matrix, (FACE_SIZE, FACE_SIZE), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255


def visible(
    uv: Float[np.ndarray, "vertices 2"],
    depth: Float[np.ndarray, "vertices"],
    triangles: np.ndarray,
    size: int,
) -> Bool[np.ndarray, "vertices"]:
    """True where no other part of the face lies in front of the vertex."""
    nearest = rasterize(uv.astype(np.float64), depth.astype(np.float64), triangles, size, size).depth
    column, row = np.clip(uv.astype(int), 0, size - 1).T
    return depth < nearest[row, column] + BEHIND


def mirrored_sighting(sighting: Sighting, mirror: np.ndarray) -> Sighting:
    """The same face in a mirror."""
    return replace(
        sighting,
        colour=sighting.colour[mirror],
        normal=sighting.normal[mirror] * [-1.0, 1.0, 1.0],
        weight=sighting.weight[mirror],
    )
