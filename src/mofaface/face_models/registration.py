"""Registration: one mesh laid smoothly onto another, so that each of its vertices has a place on it.

A similarity from landmarks, then non-rigid iterated closest points: the smooth displacement d that minimises
Σ_i m_i w_i |x_i + d_i − c_i|² + Σ_k w_k |x_k + d_k − l_k|² + ℓ⁴ ∫|Δd|², with closest points c, landmarks l and vertex areas
m. The stiffness length ℓ falls from step to step (Amberg et al. 2007 lower the stiffness of affine maps in the same way).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import splu

from mofaface.face_models.gaussian_process import cotangent_laplacian
from mofaface.face_models.surface import Correspondence, Surface, closest_points, rim, vertex_normals

# A displacement that nothing holds stays where the similarity puts it: mass of that wish, relative to data.
REST = 1e-5


@dataclass(frozen=True)
class RegistrationConfig:
    """How a template is laid onto a target; lengths in mm."""

    stiffness: tuple[float, ...] = (60.0, 40.0, 28.0, 20.0, 14.0, 10.0, 7.0, 5.0, 4.0, 4.0)
    """Lengths ℓ over which displacements are smooth, one after the other."""
    rounds: int = 3
    """Closest points are sought so often at each length."""
    farthest: tuple[float, float] = (30.0, 6.0)
    """Closest points farther than this are not believed, at the first and at the last length."""
    facing: float = 0.6
    """Smallest cosine between the normals of two points that correspond."""
    landmarks: tuple[float, float] = (400.0, 4.0)
    """Weight of a landmark, mm² of surface, at the first and at the last length."""


@dataclass(frozen=True)
class Registration:
    """A template on its target."""

    fitted: Float[np.ndarray, "template 3"]
    """The template's vertices on the target, in its frame, mm."""
    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    """The similarity before: target = scale · rotation @ template + translation."""
    correspondence: Correspondence
    """Places of the template's vertices on the target."""


def similarity(
    source: Float[np.ndarray, "k 3"], target: Float[np.ndarray, "k 3"], scaled: bool = True
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Scale, rotation and translation that take points to points with least squared error (Umeyama 1991)."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    U, S, Vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    R = (U * sign) @ Vt
    scale = float((S * sign).sum() / (a**2).sum()) if scaled else 1.0
    return scale, R, target.mean(axis=0) - scale * R @ source.mean(axis=0)


def register(
    template: Surface,
    target: Surface,
    template_landmarks: Int[np.ndarray, "k"],
    target_landmarks: Int[np.ndarray, "k"],
    config: RegistrationConfig | None = None,
) -> Registration:
    """The template laid onto the target; landmarks of -1 in either list are left out.

    Raises ValueError with fewer than three landmarks.
    """
    config = config or RegistrationConfig()
    known = (template_landmarks >= 0) & (target_landmarks >= 0)
    if known.sum() < 3:
        raise ValueError(f"a registration needs at least three landmarks on both meshes, got {known.sum()}")
    marks, places = template_landmarks[known], target.positions[target_landmarks[known]].astype(np.float64)
    scale, R, t = similarity(template.positions[marks].astype(np.float64), places)
    aligned = Surface(scale * template.positions @ R.T + t, template.triangles)
    fitted = _fit(aligned, target, marks, places, config)
    correspondence = correspond(
        Surface(fitted, template.triangles), target, config.farthest[1], config.facing
    )
    return Registration(fitted, scale, R, t, correspondence)


def _fit(
    aligned: Surface, target: Surface, marks: np.ndarray, places: np.ndarray, config: RegistrationConfig
) -> Float[np.ndarray, "vertices 3"]:
    L, mass = cotangent_laplacian(aligned.positions, aligned.triangles)
    bending = (L @ diags_array(1 / mass) @ L).tocsc()
    fitted = aligned.positions
    steps = len(config.stiffness)
    for step, length in enumerate(config.stiffness):
        share = step / max(steps - 1, 1)
        farthest, weight = (a * (b / a) ** share for a, b in (config.farthest, config.landmarks))
        smooth = (length**4 * bending + REST * diags_array(mass)).tocsc()
        for _ in range(config.rounds):
            near = correspond(Surface(fitted, aligned.triangles), target, farthest, config.facing)
            closest = near.carry(target.positions, target.triangles)
            w = mass * near.found
            pull = w[:, None] * (closest - aligned.positions)
            w_all = w.copy()
            np.add.at(w_all, marks, weight)
            np.add.at(pull, marks, weight * (places - aligned.positions[marks]))
            fitted = aligned.positions + splu(csc_array(smooth + diags_array(w_all))).solve(pull)
    return fitted


def correspond(template: Surface, target: Surface, farthest: float, facing: float) -> Correspondence:
    """Nearest places on the target; found where near enough, not on the target's rim, and normals agree."""
    near, distance = closest_points(template.positions, target)
    normals = near.carry(vertex_normals(target), target.triangles)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    agree = (normals * vertex_normals(template)).sum(axis=1) > facing
    found = (distance < farthest) & agree & ~_on_rim(near, target)
    return Correspondence(near.triangle, near.barycentric, found)


def _on_rim(near: Correspondence, target: Surface) -> Bool[np.ndarray, "points"]:
    """True where the nearest place lies on the target's rim: there it only says that the template reaches farther."""
    return (near.carry(rim(target).astype(np.float64), target.triangles)) > 1 - 1e-6
