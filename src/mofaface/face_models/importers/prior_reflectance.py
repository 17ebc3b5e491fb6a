"""Reflectance for a model that has none: the open model's, carried over by registration, or an even skin with smooth modes.

Where the open model has no counterpart (beyond its rim, ears, the neck) values continue harmonically: they are as smooth
as the mesh allows, so nothing is invented there.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from mofaface.face_model import FaceModelArrays
from mofaface.face_models.gaussian_process import cotangent_laplacian, smooth_basis
from mofaface.face_models.importers.crop import pieces
from mofaface.face_models.registration import RegistrationConfig, correspond, register
from mofaface.face_models.surface import Surface, closest_points

# A counterpart lies this near, mm, with normals that agree to this cosine.
FARTHEST, FACING = 6.0, 0.5
# The registration has failed when fewer of the landmarks' neighbours find their counterpart.
FEWEST_FOUND = 0.5
# Smooth fields of the even skin, and the wave length below which they fade, mm.
FIELDS, WAVELENGTH = 25, 60.0
# Colours need no more than this: a vertex or two of error is less than the width of a brow's edge.
REGISTRATION = RegistrationConfig(stiffness=(60.0, 30.0, 15.0, 8.0, 5.0), rounds=2)
JAW_POINTS = 17
EYES = (slice(36, 42), slice(42, 48))


@dataclass(frozen=True)
class Prior:
    """Mean and modes of reflectance in [0, 1], coefficients N(0, 1), and how they came about."""

    mean: Float[np.ndarray, "vertices 3"]
    basis: Float[np.ndarray, "vertices 3 modes"]
    note: str


def prior_reflectance(surface: Surface, landmarks: Int[np.ndarray, "68"], model: FaceModelArrays) -> Prior:
    """The reflectance of `model` (the open one, subdivided) on another average face in mm."""
    surface = Surface(surface.positions.astype(np.float64), surface.triangles)
    try:
        source = registered(surface, landmarks, model)
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
        return even_skin(surface, model, f"the open model could not be registered ({error})")
    mean_and_modes, found = carried(surface, landmarks, source, model)
    if found.mean() < FEWEST_FOUND:
        return even_skin(surface, model, f"only {found.mean():.0%} of the vertices lie on the open model")
    whole = continued(surface, mean_and_modes, found)
    note = f"Reflectance: the open model's, carried to {found.mean():.0%} of the vertices by registration."
    return Prior(whole[..., 0], whole[..., 1:], note)


def registered(surface: Surface, landmarks: Int[np.ndarray, "68"], model: FaceModelArrays) -> Surface:
    """The open model's average face laid onto `surface`: its skin bends, its eyeballs follow their lids unbent."""
    positions = model.mean_shape.astype(np.float64)
    piece = pieces(model.triangles, len(positions))
    own = piece[model.landmarks_68[0]]
    coarse = _coarse_skin(model, piece == own)
    number, rows = _numbers(coarse, len(positions))
    template = Surface(positions[rows], number[coarse])
    fit = register(template, surface, number[model.landmarks_68], landmarks, REGISTRATION)
    moved = fit.scale * positions @ fit.rotation.T + fit.translation
    shift = fit.fitted - moved[rows]
    skin = piece == own
    moved[skin] += closest_points(positions[skin], template)[0].carry(shift, template.triangles)
    for side, eye in enumerate(EYES):
        lids = shift[number[model.landmarks_68[eye]]].mean(axis=0)
        # +x is the subject's left, and the right eye's landmarks come first.
        moved[~skin & ((positions[:, 0] > 0) == bool(side))] += lids
    return Surface(moved, model.triangles.astype(np.int64))


def carried_landmarks(
    surface: Surface, landmarks: Int[np.ndarray, "68"], model: FaceModelArrays
) -> Int[np.ndarray, "68"]:
    """The vertices nearest to the open model's landmarks once it is laid onto `surface` by all but the jaw's."""
    inner = np.where(np.arange(68) < JAW_POINTS, -1, landmarks)
    fitted = registered(surface, inner, model)
    piece = pieces(surface.triangles, len(surface.positions))
    skin = np.flatnonzero(piece == piece[landmarks[30]])
    return skin[cKDTree(surface.positions[skin]).query(fitted.positions[model.landmarks_68])[1]]


def _coarse_skin(model: FaceModelArrays, skin: Bool[np.ndarray, "vertices"]) -> Int[np.ndarray, "faces 3"]:
    """Triangles of the skin, of the coarse mesh where the model has one: a third of the vertices is a third of the time."""
    triangles = model.triangles
    if model.coarse_vertices is not None and model.coarse_triangles is not None:
        triangles = model.coarse_vertices[model.coarse_triangles]
    return triangles[skin[triangles[:, 0]]].astype(np.int64)


def _numbers(triangles: np.ndarray, vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """The new number of each vertex when only those of `triangles` remain (−1: none), and the rows that remain."""
    rows = np.unique(triangles)
    number = np.full(vertices, -1, np.int64)
    number[rows] = np.arange(len(rows))
    return number, rows


def carried(
    surface: Surface, landmarks: Int[np.ndarray, "68"], source: Surface, model: FaceModelArrays
) -> tuple[Float[np.ndarray, "vertices 3 columns"], Bool[np.ndarray, "vertices"]]:
    """The open model's mean and modes at the nearest places, and where those are counterparts."""
    values = np.concatenate((model.mean_reflectance[..., None], model.reflectance_basis), axis=2)
    piece = pieces(surface.triangles, len(surface.positions))
    own = int(piece[landmarks[0]])
    eyeballs = eyeball_pieces(surface, piece, own, landmarks)
    skin = source.triangles[_skin_faces(source, model)] if eyeballs else source.triangles
    places = correspond(surface, Surface(source.positions, skin), FARTHEST, FACING)
    result = places.carry(values.astype(np.float32), skin)
    found = places.found.copy()
    for number, side in eyeballs.items():
        rows = np.flatnonzero(piece == number)
        ball = _eyeball(source, model, side)
        moved = Surface(ball.positions + _front_shift(ball, surface.positions[rows]), ball.triangles)
        result[rows] = closest_points(surface.positions[rows], moved)[0].carry(values, ball.triangles)
        found[rows] = True
    return result, found


def eyeball_pieces(
    surface: Surface, piece: Int[np.ndarray, "vertices"], own: int, landmarks: Int[np.ndarray, "68"]
) -> dict[int, int]:
    """The separate pieces whose middle lies within an eye's landmarks, each with its side (0: right, 1: left)."""
    used = np.unique(piece[surface.triangles[:, 0]])
    found = {}
    for number in used[used != own].tolist():
        box = surface.positions[piece == number]
        middle = (0.5 * (box.min(axis=0) + box.max(axis=0)))[:2]
        for side, eye in enumerate(EYES):
            lids = surface.positions[landmarks[eye], :2]
            if np.linalg.norm(middle - lids.mean(axis=0)) < 0.5 * np.linalg.norm(lids[0] - lids[3]):
                found[number] = side
    return found


def _skin_faces(source: Surface, model: FaceModelArrays) -> Bool[np.ndarray, "faces"]:
    piece = pieces(source.triangles, len(source.positions))
    return piece[source.triangles[:, 0]] == piece[model.landmarks_68[0]]


def _eyeball(source: Surface, model: FaceModelArrays, side: int) -> Surface:
    """The open model's eyeball of one side, triangles with the whole model's numbers."""
    left = source.positions[source.triangles[:, 0], 0] > source.positions[model.landmarks_68[27], 0]
    return Surface(source.positions, source.triangles[~_skin_faces(source, model) & (left == bool(side))])


def _front_shift(ball: Surface, other: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "3"]:
    """What brings an eyeball's front and middle to those of another."""
    own = ball.positions[np.unique(ball.triangles)]
    shift = 0.5 * (other.min(axis=0) + other.max(axis=0) - own.min(axis=0) - own.max(axis=0))
    shift[2] = other[:, 2].max() - own[:, 2].max()
    return shift


def continued(
    surface: Surface, values: Float[np.ndarray, "vertices *c"], found: Bool[np.ndarray, "vertices"]
) -> Float[np.ndarray, "vertices *c"]:
    """The values where found; elsewhere harmonic (L x = 0), and on pieces without any, those of the nearest vertex."""
    result, known = values.copy(), found.copy()
    piece = pieces(surface.triangles, len(values))
    lone = ~np.isin(piece, np.unique(piece[found]))
    result[lone] = result[found][cKDTree(surface.positions[found]).query(surface.positions[lone])[1]]
    known |= lone
    L, mass = cotangent_laplacian(surface.positions, surface.triangles)
    inner = np.flatnonzero(~known)
    if len(inner):
        rows = L.tocsr()[inner].tocsc()
        # A trace of mass keeps the system solvable where needle triangles make negative weights.
        system = rows[:, inner].copy()
        system.setdiag(system.diagonal() + 1e-9 * mass[inner] + 1e-12)
        outer = np.flatnonzero(known)
        right = -(rows[:, outer] @ result[outer].reshape(len(outer), -1))
        result[inner] = splu(system.tocsc()).solve(right).reshape(len(inner), *values.shape[1:])
    return result


def even_skin(surface: Surface, model: FaceModelArrays, reason: str) -> Prior:
    """One colour, the open model's average skin; modes with its spread of tone, and smooth fields with its local one."""
    skin = model.regions.get("skin", np.arange(len(model.mean_reflectance)))
    basis = model.reflectance_basis[skin].astype(np.float64)
    tone, local = basis.mean(axis=0), basis - basis.mean(axis=0)
    covariance = np.einsum("vck,vdk->cd", local, local) / len(local)
    fields = smooth_basis(surface, min(FIELDS, len(surface.positions) - 2))
    spatial = fields.fields * fields.matern(WAVELENGTH)
    colour = np.linalg.cholesky(covariance + 1e-12 * np.eye(3))
    modes = np.einsum("vf,cd->vcfd", spatial, colour).reshape(len(spatial), 3, -1)
    U, s, _ = np.linalg.svd(tone, full_matrices=False)
    even = np.broadcast_to((U * s)[None], (len(spatial), 3, len(s)))
    mean = np.broadcast_to(model.mean_reflectance[skin].mean(axis=0), (len(spatial), 3)).copy()
    note = f"Reflectance: an even skin with smooth random fields, because {reason}."
    return Prior(mean, np.concatenate((even, modes), axis=2), note)


def limited(prior: Prior, modes: int) -> Prior:
    """The same with its first so many modes."""
    return replace(prior, basis=prior.basis[..., :modes])
