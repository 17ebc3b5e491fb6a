"""A scan-derived identity space (ICT-FaceKit) seen on the open model's mesh: only statistics of it are kept.

The file is an npz with `neutral_cm` (V, 3), `identity_cm` (K, V, 3) whose coefficients are N(0, 1), `polygons` padded with
-1 and `landmarks_68`. Its meshes stay where they are; nothing here writes one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from mofaface.face_models.gaussian_process import cotangent_laplacian
from mofaface.face_models.open_model.sources import SourceError
from mofaface.face_models.registration import Registration, register
from mofaface.face_models.surface import Surface

MM_PER_CM = 10.0
# The first vertices of ICT-FaceKit's mesh are the face, the head around it included.
FACE_VERTICES = 9409
# The outline's 17 points lie on other places of the head in either convention.
OUTLINE = 17


@dataclass(frozen=True)
class Identities:
    """Mean face and modes of a population, mm."""

    surface: Surface
    modes: Float[np.ndarray, "vertices 3 modes"]
    landmarks_68: Int[np.ndarray, "68"]


@dataclass(frozen=True)
class CarriedIdentities:
    """The same on the vertices of a template, in its axes; nothing rigid is left in the modes."""

    registration: Registration
    mean: Float[np.ndarray, "template 3"]
    modes: Float[np.ndarray, "template 3 modes"]
    weight: Float[np.ndarray, "template"]
    """Area of each vertex that has a counterpart, as a share of all of these; 0 for the others."""


def read_identities(path: Path) -> Identities:
    """The face of an ICT-FaceKit npz in mm; raises SourceError where it is no such file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            neutral, modes = file["neutral_cm"][:FACE_VERTICES], file["identity_cm"][:, :FACE_VERTICES]
            polygons, landmarks = file["polygons"].astype(np.int64), file["landmarks_68"].astype(np.int64)
    except (OSError, KeyError, ValueError) as error:
        raise SourceError(
            f"{path} must be ICT-FaceKit as one npz (neutral_cm, identity_cm, …): {error}"
        ) from error
    quads = polygons[polygons[:, 3] >= 0]
    triangles = np.concatenate([polygons[:, :3], quads[:, [0, 2, 3]]])
    triangles = triangles[(triangles < FACE_VERTICES).all(axis=1)]
    surface = Surface(neutral.astype(np.float64) * MM_PER_CM, triangles)
    return Identities(surface, np.moveaxis(modes.astype(np.float64) * MM_PER_CM, 0, 2), landmarks)


def carry_identities(
    identities: Identities, template: Surface, landmarks: Int[np.ndarray, "68"]
) -> CarriedIdentities:
    """Mean and modes of the identities at the template's vertices, by registration, without rigid motion."""
    inner = np.where(np.arange(len(landmarks)) < OUTLINE, -1, identities.landmarks_68)
    registration = register(template, identities.surface, landmarks, inner)
    near, R = registration.correspondence, registration.rotation
    mean = (registration.fitted - registration.translation) @ R
    modes = near.carry(identities.modes, identities.surface.triangles)
    modes = np.einsum("xy,nxk->nyk", R, modes, optimize=True)
    weight = area_share(template, near.found)
    shift = without_rigid((mean - template.positions)[..., None], template.positions, weight)[..., 0]
    return CarriedIdentities(
        registration,
        template.positions + shift,
        without_rigid(modes, template.positions, weight),
        weight,
    )


def area_share(surface: Surface, chosen: Bool[np.ndarray, "vertices"]) -> Float[np.ndarray, "vertices"]:
    """Each chosen vertex's area as a share of all chosen; 0 elsewhere."""
    _, mass = cotangent_laplacian(surface.positions, surface.triangles)
    return mass * chosen / (mass * chosen).sum()


def rigid_fields(
    positions: Float[np.ndarray, "vertices 3"], weight: Float[np.ndarray, "vertices"]
) -> Float[np.ndarray, "vertices 3 6"]:
    """Displacements of three shifts and three small rotations about the weighted centre."""
    centred = positions - weight @ positions / weight.sum()
    shifts = [np.broadcast_to(axis, centred.shape) for axis in np.eye(3)]
    return np.stack(shifts + [np.cross(axis, centred) for axis in np.eye(3)], axis=-1)


def without_rigid(
    fields: Float[np.ndarray, "vertices 3 fields"],
    positions: Float[np.ndarray, "vertices 3"],
    weight: Float[np.ndarray, "vertices"],
) -> Float[np.ndarray, "vertices 3 fields"]:
    """Displacement fields without the shift and small rotation that least squares finds in them; size stays."""
    rigid = rigid_fields(positions, weight)
    found = least_squares(rigid, fields, weight, np.zeros(6))
    return fields - rigid @ found


def least_squares(
    basis: Float[np.ndarray, "vertices 3 k"],
    fields: Float[np.ndarray, "vertices 3 fields"],
    weight: Float[np.ndarray, "vertices"],
    ridge: Float[np.ndarray, "k"],
) -> Float[np.ndarray, "k fields"]:
    """Coefficients that minimise Σ_i w_i |basis_i c − field_i|² + Σ_k ridge_k c_k² for every field."""
    flat = basis.reshape(-1, basis.shape[-1])
    weighted = flat * np.repeat(weight, 3)[:, None]
    normal = flat.T @ weighted + np.diag(ridge)
    return np.linalg.solve(normal, weighted.T @ fields.reshape(len(flat), -1))
