"""Smooth random fields on a mesh: a Gaussian process by the eigenfunctions of the surface's Laplacian.

A field Σ_k a_k φ_k with independent a_k of variance s(λ_k) has a covariance that knows only distances along the surface; a
spectrum s that falls with the eigenvalue λ makes it smooth (Lindgren et al. 2011, for Matérn covariances).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array, diags_array, sparray
from scipy.sparse.linalg import eigsh

from mofaface.face_models.surface import Surface

# Vertices outside all triangles, and slivers, get at least this much area, mm².
SMALLEST_AREA = 1e-6


@dataclass(frozen=True)
class SmoothBasis:
    """Eigenfunctions of the Laplacian, of unit mean square over the surface, smoothest first, without the constant."""

    fields: Float[np.ndarray, "vertices fields"]
    eigenvalues: Float[np.ndarray, "fields"]
    """1/mm²; the wave length of a field is about 2π/√λ."""
    parity: Int[np.ndarray, "fields"]
    """1 for fields equal to their mirror image, -1 for its negative, 0 where the mesh knows no mirror."""

    def matern(self, wavelength: float, smoothness: float = 2.0) -> Float[np.ndarray, "fields"]:
        """Standard deviations of the coefficients (total variance 1): (κ² + λ)^(-smoothness/2), κ = 2π / wavelength."""
        amplitude = ((2 * np.pi / wavelength) ** 2 + self.eigenvalues) ** (-smoothness / 2)
        return amplitude / np.sqrt((amplitude**2).sum())


def smooth_basis(
    surface: Surface, count: int, mirror: Int[np.ndarray, "vertices"] | None = None
) -> SmoothBasis:
    """The `count` smoothest fields; constants of single components count as fields when there are several.

    With a mirror every field is made exactly even or odd.
    """
    stiffness, mass = cotangent_laplacian(surface.positions, surface.triangles)
    start = np.linspace(0.5, 1.5, len(mass))  # a fixed start makes the solver deterministic
    values, vectors = eigsh(stiffness, count + 1, diags_array(mass), sigma=-1e-6, which="LM", v0=start)
    order = np.argsort(values, kind="stable")
    values, vectors = values[order].clip(0), _without_constant(vectors[:, order], mass)
    parity = np.zeros(count, np.int64)
    if mirror is not None:
        parity = np.sign((vectors * vectors[mirror] * mass[:, None]).sum(axis=0)).astype(np.int64)
        vectors = 0.5 * (vectors + parity * vectors[mirror])
    vectors /= np.sqrt((mass[:, None] * vectors**2).sum(axis=0) / mass.sum())
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    return SmoothBasis(vectors, values[1:], parity)


def _without_constant(vectors: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """The fields but the first, each with zero mean: of several constants all but the common one remain."""
    rest = vectors[:, 1:]
    return rest - (mass @ rest) / mass.sum()


def cotangent_laplacian(
    positions: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"]
) -> tuple[sparray, Float[np.ndarray, "vertices"]]:
    """Stiffness matrix and lumped mass (mm²) of linear finite elements on the surface."""
    rows, columns, weights, count = [], [], [], len(positions)
    area = np.zeros(count)
    for i in range(3):
        a, b, c = triangles[:, i], triangles[:, (i + 1) % 3], triangles[:, (i + 2) % 3]
        u, v = positions[b] - positions[a], positions[c] - positions[a]
        double = np.linalg.norm(np.cross(u, v), axis=1)
        cotangent = 0.5 * (u * v).sum(axis=1) / np.maximum(double, 1e-9)
        rows += [b, c]
        columns += [c, b]
        weights += [cotangent, cotangent]
        np.add.at(area, a, double / 6)
    off = coo_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    )
    mass = np.maximum(area, SMALLEST_AREA)
    return (diags_array(np.asarray(off.sum(axis=1)).ravel()) - off).tocsc(), mass
