"""python -m mofaface.face_models.open_model.generalisation ICT.npz [MODEL] [--people 20] [--seed 0]

Shape against real faces. Generalisation: how near the model's modes come to random identities of a scan-derived space.
Specificity: how near random faces of the model come to that space. Both after registration, on the skin that has a
counterpart, mean over vertices by area.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mofaface.face_model import FaceModelArrays
from mofaface.face_models import find_face_model
from mofaface.face_models.container import read_arrays
from mofaface.face_models.open_model.identities import (
    CarriedIdentities,
    carry_identities,
    least_squares,
    read_identities,
    rigid_fields,
    without_rigid,
)
from mofaface.face_models.surface import Surface, closest_points

# Coefficients this far from zero, in standard deviations, cost as much as a millimetre everywhere: hardly anything.
RIDGE = 1e-4
ROUNDS = 6
EYES = ("left_eye", "right_eye")


@dataclass(frozen=True)
class Skin:
    """The model's skin without eyeballs: mean surface, shape modes, landmarks."""

    surface: Surface
    modes: Float[np.ndarray, "skin 3 modes"]
    landmarks: np.ndarray


def skin_of(arrays: FaceModelArrays) -> Skin:
    """The skin of a model; of one without eye regions, everything."""
    a = arrays.subdivided()
    kept = np.ones(len(a.mean_shape), bool)
    for name in EYES:
        kept[a.regions.get(name, np.zeros(0, np.int64))] = False
    number = np.cumsum(kept) - 1
    triangles = number[a.triangles[kept[a.triangles].all(axis=1)]]
    surface = Surface(a.mean_shape[kept].astype(np.float64), triangles)
    return Skin(surface, a.shape_basis[kept].astype(np.float64), number[a.landmarks_68])


def displacement_errors(
    skin: Skin, carried: CarriedIdentities, coefficients: Float[np.ndarray, "people k"]
) -> Float[np.ndarray, "people"]:
    """Mean distance, mm, between each person's displacement from the mean and the modes' best approximation of it."""
    people = carried.modes @ coefficients.T
    modes = without_rigid(skin.modes, skin.surface.positions, carried.weight)
    found = least_squares(modes, people, carried.weight, np.full(modes.shape[-1], RIDGE))
    return carried.weight @ np.linalg.norm(people - modes @ found, axis=1)


def surface_error(skin: Skin, carried: CarriedIdentities, face: Surface) -> float:
    """Mean distance, mm, from the model's vertices to a face, after the modes and a rigid motion were fitted to it."""
    registration, weight = carried.registration, carried.weight
    x, start = skin.surface.positions, registration.correspondence
    basis = np.concatenate([skin.modes, rigid_fields(x, weight)], axis=-1)
    ridge = np.r_[np.full(skin.modes.shape[-1], RIDGE), np.zeros(6)]
    # Everything in the model's axes, where displacements are small.
    target = Surface((face.positions - registration.translation) @ registration.rotation, face.triangles)
    goal = start.carry(target.positions, target.triangles)
    fitted, distance = x, np.zeros(len(x))
    for _ in range(ROUNDS):
        c = least_squares(basis, (goal - x)[..., None], weight, ridge)[:, 0]
        fitted = x + basis @ c
        near, distance = closest_points(fitted, target)
        goal = near.carry(target.positions, target.triangles)
    return float(weight @ distance)


def specificity(
    skin: Skin, carried: CarriedIdentities, people: int, seed: int
) -> Float[np.ndarray, "people"]:
    """Mean distance, mm, from random faces of the model to the nearest face of the identity space (displacements)."""
    random = np.random.default_rng(seed).standard_normal((skin.modes.shape[-1], people))
    faces = without_rigid(skin.modes @ random, skin.surface.positions, carried.weight)
    k = carried.modes.shape[-1]
    found = least_squares(carried.modes, faces, carried.weight, np.full(k, RIDGE))
    return carried.weight @ np.linalg.norm(faces - carried.modes @ found, axis=1)


def rigid_shares(skin: Skin, weight: Float[np.ndarray, "skin"]) -> Float[np.ndarray, "modes"]:
    """Share of each mode's variance, on weighted vertices, that is a shift or a small rotation."""
    rest = without_rigid(skin.modes, skin.surface.positions, weight)
    return 1 - (weight @ (rest**2).sum(axis=1)) / (weight @ (skin.modes**2).sum(axis=1))


def proportions(arrays: FaceModelArrays) -> dict[str, float]:
    """Jaw width, outer-eye distance and height from brows to chin of the mean face, mm, by the landmarks."""
    p = arrays.subdivided().mean_shape[arrays.landmarks_68]
    width = float(np.linalg.norm(p[0] - p[16]))
    height = float(p[17:27, 1].mean() - p[8, 1])
    return {"jaw width": width, "outer eyes": float(np.linalg.norm(p[36] - p[45])), "brows to chin": height}


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("identities", type=Path)
    parser.add_argument("model", nargs="?", default="open")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    identities = read_identities(options.identities)
    arrays, _ = read_arrays(find_face_model(options.model))
    skin = skin_of(arrays)
    carried = carry_identities(identities, skin.surface, skin.landmarks)
    weight = carried.weight
    k = carried.modes.shape[-1]
    codes = np.random.default_rng(options.seed).standard_normal((options.people, k))
    spread = weight @ np.linalg.norm(carried.modes @ codes.T, axis=1)
    print(f"model {options.model}, {options.people} people, seed {options.seed}; mm")
    print(f"spread of the identities (mean distance from their mean): {spread.mean():.2f}")
    own = np.random.default_rng(options.seed + 1).standard_normal((options.people, skin.modes.shape[-1]))
    print(f"spread of the model: {(weight @ np.linalg.norm(skin.modes @ own.T, axis=1)).mean():.2f}")
    errors = displacement_errors(skin, carried, codes)
    print(f"generalisation, displacements: {errors.mean():.3f} (worst person {errors.max():.3f})")
    faces = (
        Surface(identities.surface.positions + identities.modes @ code, identities.surface.triangles)
        for code in codes
    )
    near = np.array([surface_error(skin, carried, face) for face in faces])
    print(f"generalisation, point to surface: {near.mean():.3f} (worst person {near.max():.3f})")
    print(f"specificity: {specificity(skin, carried, options.people, options.seed).mean():.3f}")
    print(f"largest rigid share of a mode: {rigid_shares(skin, weight).max():.2e}")
    print(f"mean face: { ({name: round(value, 1) for name, value in proportions(arrays).items()}) }")


if __name__ == "__main__":
    main()
